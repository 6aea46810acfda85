# hippodrome_flags: what every target of ours is compiled and linked with.
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 12)
  message(FATAL_ERROR "g++ ${CMAKE_CXX_COMPILER_VERSION} is too old: Hippodrome needs 12 or newer (-DCMAKE_CXX_COMPILER=<path>)")
endif()
# Newer compilers warn of more, and wrongly at times; that must not stop somebody's first build.
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
  set(known_compiler ON)
else()
  set(known_compiler OFF)
endif()
option(HIPPODROME_WARNINGS_AS_ERRORS "Stop at warnings in our own code" ${known_compiler})

add_library(hippodrome_flags INTERFACE)
target_include_directories(hippodrome_flags INTERFACE ${PROJECT_SOURCE_DIR})
# -fopenmp: without it at::parallel_for is silently serial (a test counts its chunks).
target_compile_options(hippodrome_flags INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-Wall -Wextra -fopenmp
  -fno-math-errno -fvisibility-inlines-hidden $<$<BOOL:${HIPPODROME_WARNINGS_AS_ERRORS}>:-Werror>>)
# GCC 12 sees overlapping copies in string concatenations that have none (GCC bug 105651).
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
  target_compile_options(hippodrome_flags INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-Wno-restrict>)
endif()
# The wheel's OpenMP runtime is linked by path (packages.cmake); -fopenmp at link time would add a second one.

# For what is not timed: a release compiles it with -O1 where the kernels have -O3. The emulated CUDA kernels of the tests
# take a third of the time that way, the program's own files four fifths.
add_library(hippodrome_quick_to_compile INTERFACE)
target_compile_options(hippodrome_quick_to_compile INTERFACE $<$<AND:$<CONFIG:Release>,$<COMPILE_LANGUAGE:CXX>>:-O1>)

if(HIPPODROME_SANITIZE)
  target_compile_options(hippodrome_flags INTERFACE
    $<$<COMPILE_LANGUAGE:CXX>:-fsanitize=${HIPPODROME_SANITIZE} -fno-omit-frame-pointer>)
  target_link_options(hippodrome_flags INTERFACE -fsanitize=${HIPPODROME_SANITIZE})
endif()

find_program(CCACHE ccache)
if(CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CCACHE})
  set(CMAKE_CUDA_COMPILER_LAUNCHER ${CCACHE})
endif()
# mold links our libraries in a fraction of a second; sanitizer runtimes insist on their order, which ld keeps.
find_program(MOLD mold)
if(MOLD AND CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND NOT HIPPODROME_SANITIZE)
  add_link_options(-fuse-ld=mold)
endif()
