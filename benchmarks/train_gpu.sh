#!/bin/sh
# One piece of a training on a GPU: continue the run in OUT for MINUTES, then save and stop.
#
#   benchmarks/train_gpu.sh SHARDS FACE_MODEL OUT MINUTES [sadr train options...]
#
# Run it again, with the state pieces of the last call in OUT, until the hours of the schedule
# are used up (max_hours, 0.4 here: training time over all pieces, loading not counted). The state
# comes in files of 15 MiB, about 53 MB for the full network; the checkpoint can be had from it
# alone: sadr weights from-state OUT/state.pt --out full.safetensors
set -eu
shards=$1 model=$2 out=$3 minutes=$4
shift 4
cd "$(dirname "$0")/.."
PYTHONUNBUFFERED=1 exec "${PYTHON:-python3}" -m sadr_cli train "$shards" \
    --face-model "$model" --out "$out" --preset full --device cuda \
    --set name=full --set max_hours=0.4 --set pause_after="$minutes" --set save_every=2000 \
    --set compact=true --set piece=15 --set compiled=true "$@"
