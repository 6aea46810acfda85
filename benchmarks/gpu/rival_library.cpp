#include "benchmarks/gpu/rival_library.h"

#include <dlfcn.h>

#include <cstdio>
#include <filesystem>

#include "core/tensor/cuda_library.h"

namespace hippodrome::gpu_benchmark {

bool load_rivals() {
  Dl_info here{};
  dladdr(reinterpret_cast<const void*>(&load_cuda_library), &here);
  const auto file = std::filesystem::path(here.dli_fname).parent_path() / "libhippodrome_rivals.so";
  if (dlopen(file.c_str(), RTLD_NOW | RTLD_GLOBAL)) return true;
  std::fprintf(stderr, "hippodrome: the GPU's rivals do not load: %s\n", dlerror());
  return false;
}

}  // namespace hippodrome::gpu_benchmark
