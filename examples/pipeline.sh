#!/usr/bin/env bash
# Detect, choose faces with jq, reconstruct only those, list them by pose.
#
#   examples/pipeline.sh [PHOTOS [OUT]]
set -euo pipefail
photos=${1:-$(dirname "$0")/photos}
out=${2:-meshes}

# Sure faces of at least 50 pixels; the summary line has no box.
sadr detect "$photos" --json --quiet |
  jq -c 'select(.box and .score > 0.6 and .box[2] - .box[0] >= 50)' |
  sadr reconstruct --boxes - --out "$out" --format glb --quiet --json |
  jq -r 'select(.faces) | .name as $photo | .faces[] | [$photo, .face, .yaw, .confidence] | @tsv' |
  sort -t$'\t' -k3,3g
