# Sourced by the tests that need Python: sets `python`, the interpreter of an environment with the torch that the library is
# compiled against and with what requirements.txt beside this file names. Python's torch package needs all of its own
# dependencies, which .venv lacks on machines without a GPU; hence .venv-python beside it, made here on first use (about 5 GB,
# some minutes) and kept. Usage: source environment.sh SOURCE_FOLDER
source_folder=$1
venv=$source_folder/.venv-python
# The release that the library is compiled against: another one has another C++ interface.
packages=$(grep -E '^torch==' "$source_folder/third_party/requirements.txt"; grep -v '^#' "$source_folder/tests/python/requirements.txt")

# The last package set that installed completely; anything else starts over (pip keeps what it downloaded).
stamp=$venv/installed
install() {
  [[ $(cat "$stamp" 2>/dev/null) == "$packages" ]] && "$venv/bin/python" -I -c 'import torch' 2>/dev/null && return
  echo "installing" $packages "into $venv"
  rm -rf "$venv"
  "$source_folder/.venv/bin/python" -I -m venv "$venv"  # the Python that set-up chose
  # -I keeps the packages of other environments (PYTHONPATH, ~/.local) from counting as installed; pip still reads PIP_*.
  "$venv/bin/python" -I -m pip install --quiet --progress-bar off $packages ||
    { echo "FAILED: could not install $packages into $venv; what pip says is above"; exit 1; }
  echo "$packages" >"$stamp"
}
# One installation at a time: the tests of two build folders share the environment.
if command -v flock >/dev/null; then
  exec 9<"${BASH_SOURCE[0]}"
  flock 9
fi
install
exec 9<&-
python=$venv/bin/python
