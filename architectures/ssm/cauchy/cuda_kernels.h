// The CUDA kernels of the Cauchy sums, in the frame of core/cuda/block.h. Limited by arithmetic: two reciprocals for
// each pair of a pole and a node, shared by up to four rows, and four multiply-adds for each of them.
#pragma once

#include <cmath>

#include "architectures/ssm/cauchy/cuda.h"
#include "core/cuda/block.h"
#include "core/cuda/math.h"

namespace hippodrome::cauchy_cuda {

using cuda::ceil_div;
using cuda::shared_size;

inline constexpr int kRows = static_cast<int>(kCauchyCudaRows);

HIPPODROME_HOST_DEVICE int64_t nodes_of(const CauchyProblem& p) { return p.length / 2 + 1; }
HIPPODROME_HOST_DEVICE int64_t row_blocks_of(const CauchyProblem& p) { return ceil_div(p.rows, kRows); }

// sin(π j / 2L): each node by its own sine in float64, the cosine as the sine of the complement, so that both ends are
// exact.
HIPPODROME_HOST_DEVICE double sine_of(int64_t j, int64_t length) {
  constexpr double kHalfPi = 1.5707963267948966;
  return ::sin(kHalfPi / static_cast<double>(length) * static_cast<double>(j));
}
HIPPODROME_HOST_DEVICE double sine_of_node(int64_t k, int64_t length) { return sine_of(2 * k, length); }
HIPPODROME_HOST_DEVICE double cosine_of_node(int64_t k, int64_t length) { return sine_of(length - 2 * k, length); }

// Of a number in the range of normal ones, as the squares below are; without the branch that a division has for others.
HIPPODROME_HOST_DEVICE float reciprocal(float x) { return cuda::reciprocal_of(x); }
HIPPODROME_HOST_DEVICE double reciprocal(double x) {
#ifdef __CUDA_ARCH__
  double y;
  asm("rcp.approx.ftz.f64 %0, %1;" : "=d"(y) : "d"(x));  // 20 bits, which each step doubles
  y = ::fma(y, ::fma(-x, y, 1.0), y);
  return ::fma(y, ::fma(-x, y, 1.0), y);
#else
  return 1.0 / x;
#endif
}

// 1/(i s - c λ) = g - i h for λ, and g' - i h' for its conjugate. Two reciprocals: with one for both, the product of
// the squares leaves float32's range beside weakly damped poles.
template <class S>
struct Resolvents {
  S g, h, other_g, other_h;
  HIPPODROME_HOST_DEVICE Resolvents(S s, S c, S lambda_re, S lambda_im) {
    const S re = -c * lambda_re, im = s - c * lambda_im, other_im = s + c * lambda_im;
    const S inverse = reciprocal(im * im + re * re), other = reciprocal(other_im * other_im + re * re);
    g = re * inverse;
    h = im * inverse;
    other_g = re * other;
    other_h = other_im * other;
  }
};

// A thread for each node; poles and weights are staged in shared memory and read by all threads at once.
template <class S>
struct Forward {
  static constexpr int kThreads = 128, kStaged = 64;
  struct alignas(16) Pole {
    S lambda[2], v[2 * kRows];
  };
  struct Sums {
    S sine, cosine, re[kRows], im[kRows];
  };
  static int64_t blocks(const CauchyProblem& p) {
    return p.channels * row_blocks_of(p) * ceil_div(nodes_of(p), kThreads);
  }
  static int64_t shared_bytes(const CauchyProblem&) { return shared_size<Pole>(kStaged); }

  template <class Block>
  static HIPPODROME_KERNEL void run(Block& block, const CauchyForwardCuda& p) {
    const int64_t nodes = nodes_of(p), node_blocks = ceil_div(nodes, kThreads);
    const int64_t first_node = block.index() % node_blocks * kThreads, rest = block.index() / node_blocks;
    const int64_t first_row = rest % row_blocks_of(p) * kRows, channel = rest / row_blocks_of(p);
    Pole* const poles = block.template shared<Pole>(kStaged);
    typename Block::template PerThread<Sums> sums;
    block.alone([&](int thread) {
      Sums& mine = sums[thread];
      const int64_t node = first_node + thread < nodes ? first_node + thread : nodes - 1;
      mine.sine = static_cast<S>(sine_of_node(node, p.length));
      mine.cosine = static_cast<S>(cosine_of_node(node, p.length));
      HIPPODROME_UNROLL
      for (int m = 0; m < kRows; ++m) mine.re[m] = mine.im[m] = S(0);
    });
    for (int64_t first = 0; first < p.states; first += kStaged) {
      const int count = static_cast<int>(p.states - first < kStaged ? p.states - first : kStaged);
      block.each([&](int thread) {
        for (int n = thread; n < count; n += kThreads) {
          const S* const lambda = static_cast<const S*>(p.lambda) + (channel * p.states + first + n) * 2;
          poles[n].lambda[0] = lambda[0];
          poles[n].lambda[1] = lambda[1];
        }
        for (int i = thread; i < count * 2 * kRows; i += kThreads) {
          const int m = i / 2 / count, n = i / 2 % count;
          const int64_t at = ((channel * p.rows + first_row + m) * p.states + first + n) * 2 + i % 2;
          poles[n].v[2 * m + i % 2] = first_row + m < p.rows ? static_cast<const S*>(p.v)[at] : S(0);
        }
      });
      block.each([&](int thread) {
        Sums& mine = sums[thread];
        for (int n = 0; n < count; ++n) {
          const Pole pole = poles[n];
          const Resolvents<S> r(mine.sine, mine.cosine, pole.lambda[0], pole.lambda[1]);
          const S g_sum = r.g + r.other_g, g_difference = r.g - r.other_g;
          const S h_sum = r.h + r.other_h, h_difference = r.h - r.other_h;
          HIPPODROME_UNROLL
          for (int m = 0; m < kRows; ++m) {  // a product at a time, so that each is one multiply-add
            mine.re[m] += pole.v[2 * m] * g_sum;
            mine.re[m] += pole.v[2 * m + 1] * h_difference;
            mine.im[m] += pole.v[2 * m + 1] * g_difference;
            mine.im[m] -= pole.v[2 * m] * h_sum;
          }
        }
      });
    }
    block.alone([&](int thread) {
      const int64_t node = first_node + thread;
      if (node >= nodes) return;
      HIPPODROME_UNROLL
      for (int m = 0; m < kRows; ++m) {
        if (first_row + m >= p.rows) continue;
        S* const to = static_cast<S*>(p.sums) + ((channel * p.rows + first_row + m) * nodes + node) * 2;
        to[0] = sums[thread].re[m];
        to[1] = sums[thread].im[m];
      }
    });
  }
};

// A lane for each pole, so that sums over nodes stay in registers; the warps take the nodes of a tile in turns, and
// their sums meet at the end.
template <class S>
struct Backward {
  static constexpr int kLanes = 32, kWarps = 8, kThreads = kLanes * kWarps, kTile = 64;
  static constexpr int kSums = 2 * kRows + 2;  // ∂v of each row, ∂λ
  struct alignas(16) Node {
    S sine, cosine, grad[2 * kRows];
  };
  struct Sums {
    S lambda[2], v[2 * kRows], grad[kSums];
  };
  static int64_t blocks(const CauchyBackwardCuda& p) {
    return p.channels * row_blocks_of(p) * ceil_div(p.states, kLanes) * cauchy_cuda_splits(p);
  }
  static int64_t shared_bytes(const CauchyBackwardCuda&) {
    return shared_size<Node>(kTile) + shared_size<S>(kThreads * kSums);
  }

  struct Place {
    int64_t split, state, row_block, channel;
    HIPPODROME_HOST_DEVICE Place(const CauchyProblem& p, int64_t block) {
      const int64_t splits = ceil_div(nodes_of(p), kCauchyCudaNodes), groups = ceil_div(p.states, kLanes);
      split = block % splits;
      state = block / splits % groups * kLanes;
      row_block = block / splits / groups % row_blocks_of(p);
      channel = block / splits / groups / row_blocks_of(p);
    }
  };

  template <class Block>
  static HIPPODROME_KERNEL void run(Block& block, const CauchyBackwardCuda& p) {
    const Place at(p, block.index());
    const int64_t nodes = nodes_of(p), begin = at.split * kCauchyCudaNodes, first_row = at.row_block * kRows;
    const int64_t end = begin + kCauchyCudaNodes < nodes ? begin + kCauchyCudaNodes : nodes;
    Node* const tile = block.template shared<Node>(kTile);
    S* const all = block.template shared<S>(kThreads * kSums);
    typename Block::template PerThread<Sums> sums;
    block.alone([&](int thread) { load(p, at, thread % kLanes, sums[thread]); });
    for (int64_t first = begin; first < end; first += kTile) {
      const int count = static_cast<int>(end - first < kTile ? end - first : kTile);
      block.each([&](int thread) {
        if (thread < count) tile[thread].sine = static_cast<S>(sine_of_node(first + thread, p.length));
        const int other = thread - kTile;
        if (other >= 0 && other < count) {
          tile[other].cosine = static_cast<S>(cosine_of_node(first + other, p.length));
        }
        for (int i = thread; i < kTile * 2 * kRows; i += kThreads) {
          const int m = i / 2 / kTile, k = i / 2 % kTile;
          if (k >= count) continue;
          const int64_t from = ((at.channel * p.rows + first_row + m) * nodes + first + k) * 2 + i % 2;
          tile[k].grad[2 * m + i % 2] = first_row + m < p.rows ? static_cast<const S*>(p.grad_sums)[from] : S(0);
        }
      });
      block.each([&](int thread) {
        for (int k = thread / kLanes; k < count; k += kWarps) add(tile[k], sums[thread]);
      });
    }
    block.each([&](int thread) {
      HIPPODROME_UNROLL
      for (int j = 0; j < kSums; ++j) all[j * kThreads + thread] = sums[thread].grad[j];
    });
    block.alone([&](int thread) {
      for (int i = thread; i < kSums * kLanes; i += kThreads) {
        const int j = i / kLanes, lane = i % kLanes;
        S total(0);
        HIPPODROME_UNROLL
        for (int warp = 0; warp < kWarps; ++warp) total += all[j * kThreads + warp * kLanes + lane];
        put(p, at, j, at.state + lane, total);
      }
    });
  }

 private:
  // The lane's pole and weights; where there is none, a pole that no node meets.
  static HIPPODROME_HOST_DEVICE void load(const CauchyBackwardCuda& p, const Place& at, int lane, Sums& mine) {
    const int64_t n = at.state + lane, first_row = at.row_block * kRows;
    const bool there = n < p.states;
    const S* const lambda = static_cast<const S*>(p.lambda) + (there ? (at.channel * p.states + n) * 2 : 0);
    mine.lambda[0] = there ? lambda[0] : S(-1);
    mine.lambda[1] = there ? lambda[1] : S(0);
    HIPPODROME_UNROLL
    for (int i = 0; i < 2 * kRows; ++i) {
      const bool weighs = there && first_row + i / 2 < p.rows;
      const int64_t from = ((at.channel * p.rows + first_row + i / 2) * p.states + n) * 2 + i % 2;
      mine.v[i] = weighs ? static_cast<const S*>(p.v)[from] : S(0);
    }
    HIPPODROME_UNROLL
    for (int j = 0; j < kSums; ++j) mine.grad[j] = S(0);
  }

  static HIPPODROME_HOST_DEVICE void add(const Node& node, Sums& mine) {
    const Resolvents<S> r(node.sine, node.cosine, mine.lambda[0], mine.lambda[1]);
    const S g_sum = r.g + r.other_g, g_difference = r.g - r.other_g;
    const S h_sum = r.h + r.other_h, h_difference = r.h - r.other_h;
    // Σ_m of the four products of parts of ∂S and v; U and U' are sums and differences of them.
    S re_re(0), im_im(0), re_im(0), im_re(0);
    HIPPODROME_UNROLL
    for (int m = 0; m < kRows; ++m) {
      const S g_re = node.grad[2 * m], g_im = node.grad[2 * m + 1], v_re = mine.v[2 * m], v_im = mine.v[2 * m + 1];
      mine.grad[2 * m] += g_re * g_sum;
      mine.grad[2 * m] -= g_im * h_sum;
      mine.grad[2 * m + 1] += g_re * h_difference;
      mine.grad[2 * m + 1] += g_im * g_difference;
      re_re += g_re * v_re;
      im_im += g_im * v_im;
      re_im += g_re * v_im;
      im_re += g_im * v_re;
    }
    const S u_re = re_re + im_im, u_im = re_im - im_re, other_u_re = re_re - im_im, other_u_im = -(re_im + im_re);
    // R² = (g² - h²) - 2 i g h.
    const S square_re = r.g * r.g - r.h * r.h, square_im = S(-2) * r.g * r.h;
    const S other_re = r.other_g * r.other_g - r.other_h * r.other_h, other_im = S(-2) * r.other_g * r.other_h;
    const S t_re = u_re * square_re - u_im * square_im, t_im = u_re * square_im + u_im * square_re;
    const S other_t_re = other_u_re * other_re - other_u_im * other_im,
            other_t_im = other_u_re * other_im + other_u_im * other_re;
    mine.grad[2 * kRows] += node.cosine * (t_re + other_t_re);
    mine.grad[2 * kRows + 1] -= node.cosine * (t_im - other_t_im);
  }

  static HIPPODROME_HOST_DEVICE void put(const CauchyBackwardCuda& p, const Place& at, int j, int64_t n, S total) {
    if (n >= p.states) return;
    if (j >= 2 * kRows) {
      const int64_t sheet = at.split * row_blocks_of(p) + at.row_block;
      static_cast<S*>(p.grad_lambda)[((sheet * p.channels + at.channel) * p.states + n) * 2 + j % 2] = total;
      return;
    }
    const int64_t row = at.row_block * kRows + j / 2;
    if (row >= p.rows) return;
    const int64_t to = ((at.split * p.channels + at.channel) * p.rows + row) * p.states + n;
    static_cast<S*>(p.grad_v)[to * 2 + j % 2] = total;
  }
};

}  // namespace hippodrome::cauchy_cuda

namespace hippodrome {

template <class Launcher>
const char* run_cauchy_forward(const CauchyForwardCuda& p, const Launcher& launcher) {
  if (p.element == cuda::Element::kDouble) return launcher.template run<cauchy_cuda::Forward<double>>(p);
  return launcher.template run<cauchy_cuda::Forward<float>>(p);
}

template <class Launcher>
const char* run_cauchy_backward(const CauchyBackwardCuda& p, const Launcher& launcher) {
  if (p.element == cuda::Element::kDouble) return launcher.template run<cauchy_cuda::Backward<double>>(p);
  return launcher.template run<cauchy_cuda::Backward<float>>(p);
}

}  // namespace hippodrome
