#!/usr/bin/env bash
# Compares the tokenizers with the Python packages that they follow (tokenizers_check.py). Usage: tokenizers_test.sh SOURCE_FOLDER PROGRAM
set -euo pipefail
source_folder=$1
program=$2

[[ -x $program ]] || { echo "FAILED: $program is missing: build the target hippodrome_program first"; exit 1; }
source "$source_folder/tests/python/virtual_environment.sh"
# rwkv is here for its vocabulary: what it needs to run models stays away.
make_environment "$source_folder/.venv-tokenizers" tokenizers==0.23.3 sentencepiece==0.2.3 -- rwkv==0.8.32
exec "$python" -I "$source_folder/tests/python/tokenizers_check.py" "$program" "$source_folder"
