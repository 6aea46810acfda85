# Finds every dependency and gives it an imported target. Nothing here downloads: `third_party/install` does that.

# LibTorch is the torch 2.11.0 wheel. Its own CMake package is not used: it demands a CUDA toolkit and adds compiler flags
# that nvcc 13 rejects. Any torch folder that has include/ and lib/ serves: -DHIPPODROME_TORCH=/path/to/torch
set(HIPPODROME_TORCH "" CACHE PATH "Folder of LibTorch (holds include/ and lib/); empty: the wheel in .venv")
if(NOT HIPPODROME_TORCH)
  file(GLOB torch_candidates ${PROJECT_SOURCE_DIR}/.venv/lib/python3*/site-packages/torch)
  if(NOT torch_candidates)
    message(FATAL_ERROR "No LibTorch found: run third_party/install, or pass -DHIPPODROME_TORCH=<folder with include/ and lib/>")
  endif()
  list(GET torch_candidates 0 HIPPODROME_TORCH)
endif()
if(NOT EXISTS ${HIPPODROME_TORCH}/lib/libtorch_cpu.so)
  message(FATAL_ERROR "HIPPODROME_TORCH=${HIPPODROME_TORCH} has no lib/libtorch_cpu.so: give the folder that holds include/ and lib/")
endif()
add_library(torch::c10 SHARED IMPORTED)
set_target_properties(torch::c10 PROPERTIES IMPORTED_LOCATION ${HIPPODROME_TORCH}/lib/libc10.so)
add_library(torch::cpu SHARED IMPORTED)
set_target_properties(torch::cpu PROPERTIES
  IMPORTED_LOCATION ${HIPPODROME_TORCH}/lib/libtorch_cpu.so
  INTERFACE_INCLUDE_DIRECTORIES "${HIPPODROME_TORCH}/include;${HIPPODROME_TORCH}/include/torch/csrc/api/include"
  INTERFACE_LINK_LIBRARIES torch::c10)
# The wheel carries its own libgomp; linking it by path keeps one OpenMP runtime, hence one thread pool, in the process.
file(GLOB torch_gomp ${HIPPODROME_TORCH}/lib/libgomp*.so*)
if(torch_gomp)
  list(GET torch_gomp 0 torch_gomp)
  target_link_libraries(torch::cpu INTERFACE ${torch_gomp})
endif()
# libtorch_cpu needs these at link time only through its own RPATH; tell the linker where to look.
file(GLOB nvidia_libraries ${HIPPODROME_TORCH}/../nvidia/*/lib)
foreach(folder ${nvidia_libraries})
  target_link_options(torch::cpu INTERFACE "LINKER:-rpath-link,${folder}")
endforeach()

find_package(absl REQUIRED)
find_package(hwy QUIET)
if(NOT TARGET hwy::hwy)
  find_package(PkgConfig REQUIRED)
  pkg_check_modules(hwy REQUIRED IMPORTED_TARGET libhwy)
  add_library(hwy::hwy ALIAS PkgConfig::hwy)
endif()
find_package(tomlplusplus REQUIRED)
find_package(CLI11 REQUIRED)
find_package(nlohmann_json REQUIRED)
find_package(OpenSSL REQUIRED COMPONENTS Crypto)
if(HIPPODROME_TESTS)
  find_package(GTest REQUIRED)
endif()
if(HIPPODROME_BENCHMARKS)
  find_package(benchmark REQUIRED)
endif()
