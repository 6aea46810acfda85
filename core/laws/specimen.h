#pragma once

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "core/laws/laws.h"

// What the laws share: layers made for the test, inputs, and runs that can be compared.
namespace hippodrome::law_checks {

// The subject's layer, drawn anew in this dtype; the same every time. Values are perturbed, so that what starts as zero
// or one (and would hide an error) does not. `kernel` overrides the config key of that name.
std::unique_ptr<Layer> make_layer(const LawSubject& subject, at::ScalarType dtype, const std::string& kernel = "");

// Standard normal values named by `name`, [sizes].
Tensor random_tensor(const LawSubject& subject, std::vector<int64_t> sizes, at::ScalarType dtype,
                     const std::string& name);

// Where the subject stands: the second of three repetitions, so that a layer that initialises by depth is caught off
// its end points. There is an encoder before it, for those who attend to one.
Site law_site(const LawSubject& subject);

// An encoder's output, rows [first, first + rows) of one that is always the same; where padded, every second row ends
// in padding.
inline constexpr int64_t kMemoryLength = 5, kMemoryWidth = 6;
Memory law_memory(int64_t rows, const at::TensorOptions& options, int64_t first = 0, bool padded = true);

// Where the layer attends to an encoder, made of law_memory, or of the memory given.
State fresh_state(const LawSubject& subject, const Layer& layer, int64_t rows, at::ScalarType dtype, int64_t first = 0,
                  const Memory* memory = nullptr);

// Runs x [B, L, D] in pieces of these lengths from `state`, plain positions from `start`; outputs joined.
Tensor run_pieces(Layer& layer, const Tensor& x, const std::vector<int64_t>& pieces, State* state, int64_t start = 0);
// `first_row`: which of law_memory's rows the first of x is.
Tensor run_plain(Layer& layer, const Tensor& x, State* state, int64_t start = 0, int64_t first_row = 0);
// Runs with the given positions [B][L].
Tensor run_ragged(Layer& layer, const Tensor& x, const std::vector<std::vector<int64_t>>& positions, State* state);

// Largest |a − b| over the largest |b| (or 1 when b is smaller than that). Infinite, as below, when the shapes differ. The
// two may be on different devices.
double relative_error(const Tensor& a, const Tensor& b);
double rms_error(const Tensor& a, const Tensor& b);  // ‖a − b‖ / ‖b‖
bool same_bits(const Tensor& a, const Tensor& b);

// Gradients of Σ y∘weights by x and every parameter, in order.
std::vector<Tensor> gradients(Layer& layer, const Tensor& x, const Tensor& y, const Tensor& weights);

// Keeps the worst of several comparisons, with a note on which it was.
class Worst {
 public:
  void add(double error, const std::string& what);
  LawResult result(std::string law, double bound, std::string unit) const;
  double error() const { return error_; }

 private:
  double error_ = 0.0;
  std::string what_;
};

LawResult not_applicable(std::string law, std::string why);

// The laws, by file.
LawResult split(const LawSubject&);
LawResult step(const LawSubject&);
LawResult causality(const LawSubject&);
LawResult padding(const LawSubject&);
LawResult packing(const LawSubject&);
LawResult batch(const LawSubject&);
LawResult gradcheck(const LawSubject&);
LawResult kernel(const LawSubject&);
LawResult state_bytes(const LawSubject&);
LawResult live_bytes(const LawSubject&);
LawResult cost(const LawSubject&);
LawResult save_and_load(const LawSubject&);
LawResult clone_and_select(const LawSubject&);
LawResult determinism(const LawSubject&);
LawResult initialisation(const LawSubject&);
LawResult configuration(const LawSubject&);
LawResult precision(const LawSubject&);

}  // namespace hippodrome::law_checks
