#!/usr/bin/env bash
# Compares the tokenizers with the Python packages that they follow (tokenizers_check.py), in .venv-tokenizers, made here on
# first use and kept. Usage: tokenizers_test.sh SOURCE_FOLDER PROGRAM
set -euo pipefail
source_folder=$1
program=$2
venv=$source_folder/.venv-tokenizers
packages=(tokenizers==0.23.3 sentencepiece==0.2.3)
vocabulary=rwkv==0.8.32  # without what it needs to run models

[[ -x $program ]] || { echo "FAILED: $program is missing: build the target hippodrome_program first"; exit 1; }

# The last package set that installed completely; anything else starts over.
stamp=$venv/installed
install() {
  [[ $(cat "$stamp" 2>/dev/null) == "${packages[*]} $vocabulary" ]] && return
  echo "installing ${packages[*]} $vocabulary into $venv"
  rm -rf "$venv"
  "$source_folder/.venv/bin/python" -I -m venv "$venv"
  { "$venv/bin/python" -I -m pip install --quiet --progress-bar off "${packages[@]}" &&
    "$venv/bin/python" -I -m pip install --quiet --progress-bar off --no-deps "$vocabulary"; } ||
    { echo "FAILED: could not install ${packages[*]} $vocabulary into $venv; what pip says is above"; exit 1; }
  echo "${packages[*]} $vocabulary" >"$stamp"
}
# One installation at a time: the tests of two build folders share the environment.
if command -v flock >/dev/null; then
  exec 9<"${BASH_SOURCE[0]}"
  flock 9
fi
install
exec 9<&-

exec "$venv/bin/python" -I "$source_folder/tests/python/tokenizers_check.py" "$program" "$source_folder"
