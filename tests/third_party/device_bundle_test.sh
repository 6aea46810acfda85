#!/usr/bin/env bash
# The folder for GPU machines holds all but LibTorch, runs with the LibTorch of a Python, and refuses another version's.
set -euo pipefail
source_folder=$1 build=$2
[ -f "$build/lib/libhippodrome_cuda.so" ] || { echo "no CUDA in this build: nothing to bundle"; exit 0; }
[ -x "$build/bin/hippodrome_bench" ] || { echo "no benchmarks in this build: nothing to bundle"; exit 0; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
fail() { echo "FAILED: $*"; exit 1; }
# Readers of pipes read to the end (no grep -q), or what writes would fail for that.

"$source_folder/third_party/device_bundle" "$build" "$work/bundle" >"$work/said" || fail "not made"
grep -q "MiB. On the GPU's machine" "$work/said" || fail "it does not say what to do with it"

python="$source_folder/.venv/bin/python3"
[ -x "$python" ] || { echo "no .venv: not run"; exit 0; }
export PYTHON=$python
"$work/bundle/run" hippodrome list layers | grep mamba >/dev/null || fail "the program does not run"
"$work/bundle/run" hippodrome_core_tests --gtest_filter='Safetensors*' >"$work/tests" || { tail "$work/tests"; fail "tests do not run"; }
# Nothing of the build may be needed.
LD_TRACE_LOADED_OBJECTS=1 "$work/bundle/run" hippodrome | grep -F "$build" && fail "it loads libraries of the build"

# Everything that only a GPU can show, which here is that there is none; and its table, of nothing.
GPU_FILE=$work/no-gpu "$work/bundle/benchmarks/gpu/run" "$work/results" 2>"$work/error" && fail "it measures without a GPU"
grep -q "has no NVIDIA GPU" "$work/error" || fail "it does not say that there is no GPU: $(cat "$work/error")"
[ ! -e "$work/results" ] || fail "it leaves a folder of no results"
mkdir "$work/results"
"$PYTHON" "$work/bundle/benchmarks/gpu/summary.py" "$work/results" | grep "^kernels: not run" >/dev/null || fail "no summary"
"$work/bundle/run" hippodrome plan experiments/recipes/scale-gpu.toml | grep "^mamba: " >/dev/null || fail "the recipe for GPUs is missing"
[ -f "$work/bundle/lib/libhippodrome_rivals.so" ] || fail "the kernels' rivals are missing"

mkdir -p "$work/old/torch"
echo "__version__ = '2.10.0+cu130'" >"$work/old/torch/version.py"
touch "$work/old/torch/__init__.py"
PYTHONPATH=$work/old "$work/bundle/run" hippodrome list layers 2>"$work/error" && fail "it takes another LibTorch"
grep -q "is 2.10.0" "$work/error" || fail "it does not name the version: $(cat "$work/error")"
"$work/bundle/run" nothing 2>"$work/error" && fail "it runs a program that is not there"
grep -q "^usage" "$work/error" || fail "it does not say how it is used"
echo "passed"
