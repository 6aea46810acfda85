#!/usr/bin/env bash
# Compares `score` with the Python package sacrebleu (translation_metrics.py). Usage: translation_metrics_test.sh SOURCE_FOLDER PROGRAM
set -euo pipefail
source_folder=$1
program=$2

[[ -x $program ]] || { echo "FAILED: $program is missing: build the target hippodrome_program first"; exit 1; }
source "$source_folder/tests/python/virtual_environment.sh"
make_environment "$source_folder/.venv-metrics" sacrebleu==2.6.0
exec "$python" -I "$source_folder/tests/python/translation_metrics.py" "$program" "$source_folder"
