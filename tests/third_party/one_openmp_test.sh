#!/usr/bin/env bash
# Each of our programs and libraries loads exactly one OpenMP runtime: a second one has a second thread pool, and two pools on
# the same cores wait for each other. Usage: one_openmp_test.sh SOURCE_FOLDER BUILD_FOLDER TORCH_FOLDER
set -u
build_folder=$2
torch_folder=$(readlink -f "$3")
failures=0
checked=0
for file in "$build_folder"/lib/*.so "$build_folder"/bin/hippodrome*; do
  [[ -f $file && -x $file && $file != *.suites ]] || continue
  checked=$((checked + 1))
  # Two names can lead to one file, so what counts is the file.
  mapfile -t runtimes < <(ldd "$file" | grep -E 'lib(gomp|omp|iomp5)[-.]' | sed 's/.*=> //; s/ (.*//' | xargs -r readlink -f | sort -u)
  if ((${#runtimes[@]} > 1)); then
    echo "FAILED: $file loads ${#runtimes[@]} OpenMP runtimes: ${runtimes[*]}"
    failures=1
  elif compgen -G "$torch_folder/lib/libgomp*" >/dev/null && [[ ${runtimes[*]} != "$torch_folder"/* ]]; then
    echo "FAILED: $file does not load LibTorch's OpenMP runtime but '${runtimes[*]}'"
    failures=1
  fi
done
((checked)) || { echo "FAILED: nothing of ours below $build_folder"; failures=1; }
echo "$checked files checked"
exit $failures
