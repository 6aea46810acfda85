#!/usr/bin/env bash
# Compares models that Hugging Face's transformers writes, reads and computes with the program's (checkpoints.py).
# Usage: transformers_test.sh SOURCE_FOLDER BUILD_FOLDER [CASE…]
set -euo pipefail
program=$2/bin/hippodrome

[[ -x $program ]] || { echo "FAILED: $program is missing: build the target hippodrome_program first"; exit 1; }
source "$1/tests/python/environment.sh" "$1"
HF_HUB_OFFLINE=1 exec "$python" -I "$1/tests/python/checkpoints.py" "$program" "${@:3}"
