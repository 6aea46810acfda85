#!/usr/bin/env bash
# Loads libhippodrome_ops.so into Python's torch and checks every public op there (opcheck.py).
# Usage: python_test.sh SOURCE_FOLDER BUILD_FOLDER
set -euo pipefail
library=$2/lib/libhippodrome_ops.so

[[ -f $library ]] || { echo "FAILED: $library is missing: build the target hippodrome_ops first"; exit 1; }
source "$1/tests/python/environment.sh" "$1"
exec "$python" -I "$1/tests/python/opcheck.py" "$library"
