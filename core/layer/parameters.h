#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/random.h"
#include "core/tensor/tensor.h"

namespace hippodrome {

// Fills `value` (CPU, float32 or float64, any shape) from a stream; the same stream gives the same values.
using Initialiser = std::function<void(Tensor& value, RandomStream stream)>;

// How the optimiser and the casts must treat a parameter.
struct ParameterFacts {
  bool weight_decay = true;
  double learning_rate_scale = 1.0;
  bool keep_float32 = false;  // never below float32, whatever the compute dtype
};

struct Parameter {
  std::string name;  // unique within the model, e.g. "blocks.3.mixer.in_proj.weight"
  Tensor value;      // the master copy, float32 (float64 in gradient checks); on the meta device until materialised
  Initialiser initialiser;
  ParameterFacts facts;

  // The value in `like`'s dtype, for computing with it; keep_float32 parameters stay as they are.
  Tensor cast(const Tensor& like) const;
};
using ParameterPtr = std::shared_ptr<Parameter>;

// The parameters of a layer or model, in order of declaration. Values are made on the meta device, so that any preset can be
// built without memory, and drawn by `materialise` from the stream of each parameter's own name: no wrapper can lose an
// initialisation, and adding a layer changes no other layer's draw.
class Parameters {
 public:
  Parameters() = default;
  Parameters(Parameters&&) = default;
  Parameters& operator=(Parameters&&) = default;

  ParameterPtr add(std::string name, std::vector<int64_t> shape, Initialiser initialiser, ParameterFacts facts = {});
  // Takes in the parameters of a child, putting `prefix` and a dot before their names (nothing, where it is empty). A parameter that is already here
  // (a tied head) is taken once and keeps its name.
  void adopt(std::string_view prefix, Parameters& child);

  const std::vector<ParameterPtr>& list() const { return list_; }
  ParameterPtr find(std::string_view name) const;  // null when absent
  int64_t count() const;                           // elements

  // Allocates every value with `options` (dtype, device) and draws it from RandomStream(seed, name).
  void materialise(uint64_t seed, const at::TensorOptions& options);
  // Allocates every value without drawing it, for what is about to be read from a file.
  void allocate(const at::TensorOptions& options);
  // Moves every value; before an optimiser is made of them.
  void move_to(at::Device device);
  void set_requires_grad(bool requires_grad);

 private:
  std::vector<ParameterPtr> list_;
};

namespace initialise {

Initialiser constant(double value);
Initialiser uniform(double low, double high);
Initialiser normal(double standard_deviation);
// U(±1/√fan_in): what PyTorch's Linear and Conv1d draw (Kaiming with a = √5).
Initialiser uniform_fan_in(int64_t fan_in);
// Rows or columns orthonormal (Saxe et al. 2013), times `gain`; the last dimension against all others.
Initialiser orthogonal(double gain);
// value.view(-1)[i] = f(i).
Initialiser from_index(std::function<double(int64_t index)> f);
// `inner`, then all values times `factor`.
Initialiser scaled(Initialiser inner, double factor);

}  // namespace initialise
}  // namespace hippodrome
