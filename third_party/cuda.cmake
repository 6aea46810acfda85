# libhippodrome_cuda.so: the CUDA kernels, loaded at run time where a GPU is present. One binary serves both kinds of machine.
# The .cu files hold no LibTorch headers (they would be parsed twice, at 12 s a file); cuda_op.cpp files bind them to LibTorch.

if(HIPPODROME_CUDA STREQUAL "OFF")
  return()
endif()
include(CheckLanguage)
if(NOT CMAKE_CUDA_COMPILER AND EXISTS /usr/local/cuda/bin/nvcc)
  set(CMAKE_CUDA_COMPILER /usr/local/cuda/bin/nvcc)
endif()
check_language(CUDA)
if(NOT CMAKE_CUDA_COMPILER)
  if(HIPPODROME_CUDA STREQUAL "ON")
    message(FATAL_ERROR "HIPPODROME_CUDA=ON, but no nvcc was found: put it on PATH or pass -DCMAKE_CUDA_COMPILER=…")
  endif()
  message(STATUS "No nvcc: the CUDA kernels are left out")
  return()
endif()

# The preset `cuda` compiles for A100 (80) and H100/H200 (90); without it, what the machine at hand has, or else 90, which halves
# the time. GPUs newer than that compile the PTX when they first load it.
if(NOT CMAKE_CUDA_ARCHITECTURES)
  if(HIPPODROME_CUDA STREQUAL "ON")
    set(CMAKE_CUDA_ARCHITECTURES 80-real 90-real 90-virtual)
  elseif(EXISTS /dev/nvidia0)
    set(CMAKE_CUDA_ARCHITECTURES native)
  else()
    set(CMAKE_CUDA_ARCHITECTURES 90-real 90-virtual)
  endif()
endif()
enable_language(CUDA)
# The CUDA runtime is the one LibTorch brings, so that a process has one. It is linked by path below.
set(CMAKE_CUDA_RUNTIME_LIBRARY None)

file(GLOB cuda_runtime ${torch_folder}/../nvidia/*/lib/libcudart.so.*)
if(cuda_runtime)
  list(GET cuda_runtime 0 cuda_runtime)
else()
  find_library(HIPPODROME_CUDA_RUNTIME cudart HINTS ${CMAKE_CUDA_IMPLICIT_LINK_DIRECTORIES} REQUIRED)
  set(cuda_runtime ${HIPPODROME_CUDA_RUNTIME})
endif()
get_filename_component(cuda_runtime_folder ${cuda_runtime} DIRECTORY)
foreach(name torch_cuda c10_cuda)
  add_library(torch::${name} SHARED IMPORTED)
  set_target_properties(torch::${name} PROPERTIES IMPORTED_LOCATION ${torch_folder}/lib/lib${name}.so)
endforeach()

# cuda_library(NAME SOURCE…): a shared library of kernels and their bindings.
function(cuda_library name)
  add_library(${name} SHARED ${ARGN})
  # c10's CUDA headers include cuda_runtime_api.h in the plain C++ files, too.
  target_include_directories(${name} SYSTEM PRIVATE ${CMAKE_CUDA_TOOLKIT_INCLUDE_DIRECTORIES})
  # C++17, or CMake would want for CUDA the C++20 of the rest: CMake 3.25 does not know that this nvcc has it.
  set_target_properties(${name} PROPERTIES CUDA_STANDARD 17)
  target_compile_options(${name} PRIVATE
    $<$<COMPILE_LANGUAGE:CUDA>:--resource-usage -Xcompiler=-Wall,-Wextra,-Werror,-Wno-unused-parameter>)
  # --no-as-needed: nothing here names a symbol of libtorch_cuda, but loading it is what registers LibTorch's CUDA side.
  # --allow-shlib-undefined: on a machine without a GPU the small set of wheels lacks libraries that libtorch_cuda itself needs;
  # this library links there all the same, though it cannot be loaded.
  target_link_options(${name} PRIVATE LINKER:--allow-shlib-undefined)
  target_link_libraries(${name} PRIVATE
    hippodrome_flags torch::cpu torch::c10
    -Wl,--no-as-needed torch::torch_cuda torch::c10_cuda -Wl,--as-needed ${cuda_runtime})
  set_target_properties(${name} PROPERTIES BUILD_RPATH "${torch_folder}/lib;${cuda_runtime_folder}")
endfunction()

file(GLOB_RECURSE cuda_kernel_sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/architectures/cuda.cu)
set_source_files_properties(${cuda_kernel_sources} PROPERTIES SKIP_UNITY_BUILD_INCLUSION ON)
file(GLOB_RECURSE cuda_sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/architectures/cuda.cu ${PROJECT_SOURCE_DIR}/architectures/cuda_op.cpp
     ${PROJECT_SOURCE_DIR}/core/cuda/cuda_accelerator.cpp)
joined_sources(joined_cuda_sources hippodrome_cuda ${cuda_sources})
cuda_library(hippodrome_cuda ${joined_cuda_sources})
# Registers and memory of every kernel, kept as cuda_kernels.tsv.
set(cuda_launcher ${CMAKE_CURRENT_LIST_DIR}/cuda_resources compile ${CMAKE_CUDA_COMPILER_LAUNCHER})
set_target_properties(hippodrome_cuda PROPERTIES CUDA_COMPILER_LAUNCHER "${cuda_launcher}")
add_custom_command(TARGET hippodrome_cuda POST_BUILD VERBATIM
  COMMAND ${CMAKE_CURRENT_LIST_DIR}/cuda_resources table ${PROJECT_BINARY_DIR}/CMakeFiles/hippodrome_cuda.dir
          ${PROJECT_BINARY_DIR}/cuda_kernels.tsv)
