#!/usr/bin/env bash
# Loads libhippodrome_ops.so into Python's torch and checks every public op there (opcheck.py). Python's torch package needs
# all of its own dependencies, which .venv lacks on machines without a GPU; hence .venv-python beside it, made here on first
# use (about 5 GB, some minutes) and kept. Usage: python_test.sh SOURCE_FOLDER BUILD_FOLDER
set -euo pipefail
source_folder=$1
library=$2/lib/libhippodrome_ops.so
venv=$source_folder/.venv-python

[[ -f $library ]] || { echo "FAILED: $library is missing: build the target hippodrome_ops first"; exit 1; }
# The release that the library is compiled against: another one has another C++ interface.
torch=$(grep -E '^torch==' "$source_folder/third_party/requirements.txt")

# The last package set that installed completely; anything else starts over (pip keeps what it downloaded).
stamp=$venv/installed
install() {
  [[ $(cat "$stamp" 2>/dev/null) == "$torch" ]] && "$venv/bin/python" -I -c 'import torch' 2>/dev/null && return
  echo "installing $torch into $venv"
  rm -rf "$venv"
  "$source_folder/.venv/bin/python" -I -m venv "$venv"  # the Python that set-up chose
  # -I keeps the packages of other environments (PYTHONPATH, ~/.local) from counting as installed; pip still reads PIP_*.
  "$venv/bin/python" -I -m pip install --quiet --progress-bar off "$torch" ||
    { echo "FAILED: could not install $torch into $venv; what pip says is above"; exit 1; }
  echo "$torch" >"$stamp"
}
# One installation at a time: the tests of two build folders share the environment.
if command -v flock >/dev/null; then
  exec 9<"${BASH_SOURCE[0]}"
  flock 9
fi
install
exec 9<&-

exec "$venv/bin/python" -I "$source_folder/tests/python/opcheck.py" "$library"
