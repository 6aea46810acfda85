#include "core/tensor/cuda_library.h"

#include <dlfcn.h>

#include <cstdio>
#include <filesystem>

namespace hippodrome {

bool load_cuda_library() {
  if (!std::filesystem::exists("/dev/nvidiactl")) return false;
  Dl_info here{};
  dladdr(reinterpret_cast<const void*>(&load_cuda_library), &here);
  const auto file = std::filesystem::path(here.dli_fname).parent_path() / "libhippodrome_cuda.so";
  if (!std::filesystem::exists(file)) {
    std::fprintf(stderr, "hippodrome: a GPU is present, but %s is not: build with nvcc to use it\n", file.c_str());
    return false;
  }
  if (!dlopen(file.c_str(), RTLD_NOW | RTLD_GLOBAL)) {
    std::fprintf(stderr, "hippodrome: a GPU is present, but its library does not load: %s\n", dlerror());
    return false;
  }
  return true;
}

Accelerator* cuda_accelerator(int index, std::string& why_not) {
  // The library is reached by name alone, so that one program serves machines with and without a GPU.
  using Find = Accelerator*(int, std::string&);
  const auto find = reinterpret_cast<Find*>(dlsym(RTLD_DEFAULT, "hippodrome_cuda_accelerator"));
  if (find) return find(index, why_not);
  why_not = std::filesystem::exists("/dev/nvidiactl") ? "libhippodrome_cuda.so is not loaded: build with nvcc to use the GPU"
                                                      : "this machine has no NVIDIA GPU (there is no /dev/nvidiactl)";
  return nullptr;
}

}  // namespace hippodrome
