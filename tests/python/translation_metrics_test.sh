#!/usr/bin/env bash
# Compares `score` with the Python package sacrebleu (translation_metrics.py), in .venv-metrics, made here on first use and kept.
# Usage: translation_metrics_test.sh SOURCE_FOLDER PROGRAM
set -euo pipefail
source_folder=$1
program=$2
venv=$source_folder/.venv-metrics
package=sacrebleu==2.6.0

[[ -x $program ]] || { echo "FAILED: $program is missing: build the target hippodrome_program first"; exit 1; }

# The last package that installed completely; anything else starts over.
stamp=$venv/installed
install() {
  [[ $(cat "$stamp" 2>/dev/null) == "$package" ]] && return
  echo "installing $package into $venv"
  rm -rf "$venv"
  "$source_folder/.venv/bin/python" -I -m venv "$venv"
  "$venv/bin/python" -I -m pip install --quiet --progress-bar off "$package" ||
    { echo "FAILED: could not install $package into $venv; what pip says is above"; exit 1; }
  echo "$package" >"$stamp"
}
# One installation at a time: the tests of two build folders share the environment.
if command -v flock >/dev/null; then
  exec 9<"${BASH_SOURCE[0]}"
  flock 9
fi
install
exec 9<&-

exec "$venv/bin/python" -I "$source_folder/tests/python/translation_metrics.py" "$program" "$source_folder"
