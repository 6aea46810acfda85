// The kernels that are measured on a GPU: arguments of the size of published models, what a call costs at the least,
// and who else can do the same.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace hippodrome::gpu_benchmark {

// The least that a call costs. `flops`: float32 operations outside products of matrices in 16 bits, a multiply-add is
// two; `products`: FLOPs of those products; `specials`: exponentials, reciprocals and the like, which have a unit of
// their own. Bytes are counted from the tensors: inputs and results once.
struct Work {
  double flops = 0.0, products = 0.0, specials = 0.0;
};

struct Rival {
  std::string name;                     // as part of a counter's: "libtorch_fft"
  std::function<at::Tensor()> forward;  // the result of Problem::forward, up to rounding
  // The gradients, enqueued; empty: through autograd of `forward`, whose graph is made once.
  std::function<void()> backward = {};
  std::vector<at::Tensor> inputs = {};                 // in the layout that it likes best; empty: the problem's
  bool differentiable = true;                          // false: forward alone is measured
  double target_forward = 0.0, target_backward = 0.0;  // how many times as fast we mean to be on an H200; 0: no target
};

// One call's work. `inputs` are what gradients are asked for, drawn by LibTorch's generator; below 2^20 numbers a
// tensor is the same on every device.
struct Problem {
  std::vector<at::Tensor> inputs;
  std::function<at::Tensor()> forward;
  Work forward_work, backward_work;
  std::vector<Rival> rivals;
};

// `width`: channels, or heads of SSD, or features of attention.
struct Shape {
  int64_t batch = 1, length = 0, width = 0;
};

struct Kernel {
  std::string name;
  Problem (*make)(const Shape& shape, at::TensorOptions options);  // options: the inputs' dtype and device
  at::ScalarType dtype;
  std::vector<Shape> shapes;
};

// Every kernel, with the shapes it is measured at. Rivals that would not fit into some 60 GB are left out of a shape.
std::vector<Kernel> kernels();

}  // namespace hippodrome::gpu_benchmark
