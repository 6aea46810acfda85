# Finds every dependency and gives it an imported target. Nothing here downloads: `third_party/install` does that.

# LibTorch is the torch 2.11.0 wheel. Its own CMake package is not used: it demands a CUDA toolkit and adds compiler flags
# that nvcc 13 rejects. Any torch folder that has include/ and lib/ serves: -DHIPPODROME_TORCH=/path/to/torch
set(HIPPODROME_TORCH "$ENV{HIPPODROME_TORCH}" CACHE PATH "Folder of LibTorch (holds include/ and lib/); empty: the wheel in .venv")
set(torch_folder ${HIPPODROME_TORCH})
if(NOT torch_folder)
  # Found anew each time, so that a .venv rebuilt with another Python is noticed.
  file(GLOB torch_folder ${PROJECT_SOURCE_DIR}/.venv/lib/python3*/site-packages/torch)
  if(NOT torch_folder)
    message(FATAL_ERROR "No LibTorch found: run third_party/install, or pass -DHIPPODROME_TORCH=<folder with include/ and lib/>")
  endif()
  list(GET torch_folder 0 torch_folder)
endif()
if(NOT EXISTS ${torch_folder}/lib/libtorch_cpu.so)
  message(FATAL_ERROR "${torch_folder} has no lib/libtorch_cpu.so: run third_party/install again, or pass -DHIPPODROME_TORCH=<folder with include/ and lib/>")
endif()
file(STRINGS ${torch_folder}/include/torch/headeronly/version.h torch_version REGEX "define TORCH_VERSION_(MAJOR|MINOR) ")
string(REGEX REPLACE "[^0-9]+" "." torch_version ".${torch_version}")
if(NOT torch_version STREQUAL ".2.11")
  message(WARNING "LibTorch in ${torch_folder} is version ${torch_version}; Hippodrome is written for and tested with 2.11")
endif()
add_library(torch::c10 SHARED IMPORTED)
set_target_properties(torch::c10 PROPERTIES IMPORTED_LOCATION ${torch_folder}/lib/libc10.so)
add_library(torch::cpu SHARED IMPORTED)
set_target_properties(torch::cpu PROPERTIES
  IMPORTED_LOCATION ${torch_folder}/lib/libtorch_cpu.so
  INTERFACE_INCLUDE_DIRECTORIES "${torch_folder}/include;${torch_folder}/include/torch/csrc/api/include"
  INTERFACE_LINK_LIBRARIES torch::c10)
# The wheel carries its own libgomp; linking it by path keeps one OpenMP runtime, hence one thread pool, in the process.
file(GLOB torch_gomp ${torch_folder}/lib/libgomp*.so*)
if(torch_gomp)
  list(GET torch_gomp 0 torch_gomp)
  target_link_libraries(torch::cpu INTERFACE ${torch_gomp})
endif()
# libtorch_cpu needs these at link time only through its own RPATH; tell the linker where to look.
file(GLOB nvidia_libraries ${torch_folder}/../nvidia/*/lib)
foreach(folder ${nvidia_libraries})
  target_link_options(torch::cpu INTERFACE "LINKER:-rpath-link,${folder}")
endforeach()

# found(PACKAGE DEBIAN_PACKAGE …): find_package, and a sentence that says what to do where the package is missing.
macro(found package debian_package)
  find_package(${package} QUIET ${ARGN})
  if(NOT ${package}_FOUND)
    message(FATAL_ERROR "${package} was not found: run third_party/install (Debian package ${debian_package}), or give the folder it is installed in by -DCMAKE_PREFIX_PATH=<folder>")
  endif()
endmacro()
found(absl libabsl-dev)
found(hwy libhwy-dev)
found(tomlplusplus libtomlplusplus-dev)
found(CLI11 libcli11-dev)
found(nlohmann_json nlohmann-json3-dev)
found(OpenSSL libssl-dev COMPONENTS Crypto)
# Debian's package has no CMake file of its own.
find_path(UTF8PROC_INCLUDE_FOLDER utf8proc.h)
find_library(UTF8PROC_LIBRARY utf8proc)
if(NOT UTF8PROC_INCLUDE_FOLDER OR NOT UTF8PROC_LIBRARY)
  message(FATAL_ERROR "utf8proc was not found: run third_party/install (Debian package libutf8proc-dev), or give the folder it is installed in by -DCMAKE_PREFIX_PATH=<folder>")
endif()
add_library(utf8proc::utf8proc UNKNOWN IMPORTED)
set_target_properties(utf8proc::utf8proc PROPERTIES
  IMPORTED_LOCATION ${UTF8PROC_LIBRARY} INTERFACE_INCLUDE_DIRECTORIES ${UTF8PROC_INCLUDE_FOLDER})
if(HIPPODROME_TESTS)
  found(GTest "libgtest-dev and libgmock-dev")
endif()
if(HIPPODROME_BENCHMARKS)
  found(benchmark libbenchmark-dev)
endif()
