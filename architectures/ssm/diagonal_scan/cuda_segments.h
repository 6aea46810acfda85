// A long sequence of few channels: what each of its segments does to a state that enters it, found for all at once, and
// then the states between segments, one segment after another. With n the tokens of a segment and x⁰ its last state
// from zeros,
//
//   x' = aⁿ x + x⁰,    ∂x'/∂a = aⁿ ∂x/∂a + n aⁿ⁻¹ x + ∂x⁰/∂a,    λ = (a*)ⁿ λ' + λ⁰;
//
// where a sequence begins in the segment nothing passes through it.
#pragma once

#include "architectures/ssm/diagonal_scan/cuda_parts.h"

namespace hippodrome::diagonal_scan_cuda {

// x⁰, and with kSlope ∂x⁰/∂a, of each segment into `before`, and its tokens.
template <class T, int kWarps, bool kSlope>
struct SegmentStates {
  using S = ScalarOf<T>;
  static constexpr int kThreads = kWarps * kLanes, kParts = kSlope ? 4 : 2;
  static int64_t blocks(const Problem& p) { return places(p); }
  static int64_t shared_bytes(const Problem&) { return shared_size<S>(kTile * kLanes) + shared_size<int>(kTile); }

  template <class Block>
  static HIPPODROME_KERNEL void run(Block& block, const Problem& p) {
    const Place at = place(p, block.index());
    S* const u = block.template shared<S>(kTile * kLanes);
    int* const codes = block.template shared<int>(kTile);
    typename Block::template PerThread<Parameters<S>> parameters;
    typename Block::template PerThread<Modes<S>> x, slope;
    typename Block::template PerThread<int64_t> tokens;
    typename Block::template PerThread<int> fresh;
    block.alone([&](int thread) {
      load_parameters(p, mine(p, at, thread), parameters[thread]);
      set_zero(x[thread]);
      set_zero(slope[thread]);
      tokens[thread] = 0;
      fresh[thread] = 0;
    });
    for (int64_t begin = at.begin; begin < at.end; begin += kTile) {
      const int count = tokens_of_tile(at, begin);
      block.each([&](int thread) {
        load_tile<T, kThreads>(p, p.u, at, begin, count, thread, u);
        load_codes(p, at, begin, count, thread, codes);
      });
      block.each([&](int thread) {
        for (int i = 0; i < count; ++i) {
          const int code = codes[i];
          if (code == kPadding) continue;
          ++tokens[thread];
          if (code == kFresh) {
            fresh[thread] = 1;
            set_zero(x[thread]);
            set_zero(slope[thread]);
          }
          if constexpr (kSlope) advance_slope(parameters[thread], x[thread], slope[thread]);
          advance(parameters[thread], u[i * kLanes + thread % kLanes], x[thread]);
        }
      });
    }
    block.alone([&](int thread) {
      const Mine m = mine(p, at, thread);
      store_carry(p, m, at, x[thread], kParts, 0, p.before);
      if constexpr (kSlope) store_carry(p, m, at, slope[thread], kParts, 1, p.before);
      if (thread == 0 && at.channel == 0) {
        p.tokens[at.row * p.segments.count + at.segment] = fresh[thread] != 0 ? -1 : tokens[thread];
      }
    });
  }
};

// λ⁰ before the first token of each segment into `behind`.
template <class T, int kWarps>
struct SegmentAdjoints {
  using S = ScalarOf<T>;
  static constexpr int kThreads = kWarps * kLanes;
  static int64_t blocks(const Problem& p) { return places(p); }
  static int64_t shared_bytes(const Problem&) { return shared_size<S>(kTile * kLanes) + shared_size<int>(kTile); }

  template <class Block>
  static HIPPODROME_KERNEL void run(Block& block, const Problem& p) {
    const Place at = place(p, block.index());
    S* const grad_y = block.template shared<S>(kTile * kLanes);
    int* const codes = block.template shared<int>(kTile);
    typename Block::template PerThread<Parameters<S>> parameters;
    typename Block::template PerThread<Modes<S>> lambda;
    block.alone([&](int thread) {
      load_parameters(p, mine(p, at, thread), parameters[thread]);
      set_zero(lambda[thread]);
    });
    for (int64_t tile = ceil_div(at.end - at.begin, kTile) - 1; tile >= 0; --tile) {
      const int64_t begin = at.begin + tile * kTile;
      const int count = tokens_of_tile(at, begin);
      block.each([&](int thread) {
        load_tile<T, kThreads>(p, p.grad_y, at, begin, count, thread, grad_y);
        load_codes(p, at, begin, count, thread, codes);
      });
      block.each([&](int thread) {
        for (int i = count - 1; i >= 0; --i) {
          const int code = codes[i];
          if (code == kPadding) continue;
          enter(parameters[thread], 2 * grad_y[i * kLanes + thread % kLanes], lambda[thread]);
          retreat(parameters[thread], lambda[thread]);
          if (code == kFresh) set_zero(lambda[thread]);
        }
      });
    }
    block.alone([&](int thread) { store_carry(p, mine(p, at, thread), at, lambda[thread], 2, 0, p.behind); });
  }
};

template <class S>
struct Complex {
  S re, im;
};
template <class S>
HIPPODROME_HOST_DEVICE Complex<S> product(const Complex<S>& x, const Complex<S>& y) {
  return {x.re * y.re - x.im * y.im, x.re * y.im + x.im * y.re};
}
// In float64 whatever the states: every squaring doubles the relative error.
HIPPODROME_HOST_DEVICE Complex<double> power(Complex<double> base, int64_t exponent) {
  Complex<double> result{1.0, 0.0};
  for (; exponent > 0; exponent /= 2) {
    if (exponent % 2 == 1) result = product(result, base);
    base = product(base, base);
  }
  return result;
}

// aⁿ and n aⁿ⁻¹ for the n of a segment; both zero where a sequence begins in it.
template <class S>
struct Passage {
  int64_t tokens = 0;
  Complex<S> through{S(1), S(0)}, slope{S(0), S(0)};

  HIPPODROME_HOST_DEVICE void set(const Complex<double>& a, int64_t n) {
    if (n == tokens) return;  // most segments are alike
    tokens = n;
    const Complex<double> before = n > 0 ? power(a, n - 1) : Complex<double>{0.0, 0.0};
    const Complex<double> full = n == 0 ? Complex<double>{1.0, 0.0} : product(before, a);
    const auto factor = static_cast<double>(n);
    through = {static_cast<S>(full.re), static_cast<S>(full.im)};
    slope = {static_cast<S>(factor * before.re), static_cast<S>(factor * before.im)};
  }
};

// One thread for each state of a channel of a row.
template <class S>
struct CarryBase {
  static constexpr int kThreads = 128;
  static int64_t blocks(const Problem& p) { return ceil_div(p.batch * p.states * p.channels, kThreads); }
  static int64_t shared_bytes(const Problem&) { return 0; }

  struct Item {
    int64_t row, n, channel;
    bool inside;
  };
  static HIPPODROME_HOST_DEVICE Item item(const Problem& p, int64_t block, int thread) {
    const int64_t i = block * kThreads + thread;
    return {i / p.channels / p.states, i / p.channels % p.states, i % p.channels, i < p.batch * p.states * p.channels};
  }
  static HIPPODROME_HOST_DEVICE Complex<double> a_of(const Problem& p, const Item& i, double sign) {
    const int64_t at = i.channel * p.states + i.n;
    return {static_cast<double>(static_cast<const S*>(p.parameters[0])[at]),
            sign * static_cast<double>(static_cast<const S*>(p.parameters[1])[at])};
  }
  static HIPPODROME_HOST_DEVICE Complex<S> pair(const void* from, int64_t at, int64_t apart) {
    return {static_cast<const S*>(from)[at], static_cast<const S*>(from)[at + apart]};
  }
  static HIPPODROME_HOST_DEVICE void put(const Complex<S>& x, void* to, int64_t at, int64_t apart) {
    static_cast<S*>(to)[at] = x.re;
    static_cast<S*>(to)[at + apart] = x.im;
  }
};

// `before`: from what each segment ends with when it starts from zeros to the states that each starts from.
template <class S, bool kSlope>
struct CarryStates : CarryBase<S> {
  using Base = CarryBase<S>;
  template <class Block>
  static HIPPODROME_KERNEL void run(Block& block, const Problem& p) {
    block.alone([&](int thread) {
      const auto i = Base::item(p, block.index(), thread);
      if (!i.inside) return;
      const Complex<double> a = Base::a_of(p, i, 1.0);
      Complex<S> x{S(0), S(0)}, slope{S(0), S(0)};
      if (p.state != nullptr) x = Base::pair(p.state, state_index(p, i.row, i.channel, i.n), 1);
      Passage<S> passage;
      for (int64_t segment = 0; segment < p.segments.count; ++segment) {
        const int64_t at = carry_index(p, i.row, segment, i.n, kSlope ? 4 : 2, i.channel), D = p.channels;
        passage.set(a, p.tokens[i.row * p.segments.count + segment]);
        const Complex<S> own = Base::pair(p.before, at, D), passed = product(passage.through, x);
        Base::put(x, p.before, at, D);
        if constexpr (kSlope) {
          const Complex<S> own_slope = Base::pair(p.before, at + 2 * D, D), moved = product(passage.through, slope),
                           added = product(passage.slope, x);
          Base::put(slope, p.before, at + 2 * D, D);
          slope = {moved.re + added.re + own_slope.re, moved.im + added.im + own_slope.im};
        }
        x = {passed.re + own.re, passed.im + own.im};
      }
    });
  }
};

// `behind`: from λ⁰ to the λ that enters each segment from behind.
template <class S>
struct CarryAdjoints : CarryBase<S> {
  using Base = CarryBase<S>;
  template <class Block>
  static HIPPODROME_KERNEL void run(Block& block, const Problem& p) {
    block.alone([&](int thread) {
      const auto i = Base::item(p, block.index(), thread);
      if (!i.inside) return;
      const Complex<double> conjugate = Base::a_of(p, i, -1.0);
      Complex<S> lambda = Base::pair(p.grad_last_state, state_index(p, i.row, i.channel, i.n), 1);
      Passage<S> passage;
      for (int64_t segment = p.segments.count - 1; segment >= 0; --segment) {
        const int64_t at = carry_index(p, i.row, segment, i.n, 2, i.channel);
        passage.set(conjugate, p.tokens[i.row * p.segments.count + segment]);
        const Complex<S> own = Base::pair(p.behind, at, p.channels), passed = product(passage.through, lambda);
        Base::put(lambda, p.behind, at, p.channels);
        lambda = {passed.re + own.re, passed.im + own.im};
      }
    });
  }
};

}  // namespace hippodrome::diagonal_scan_cuda
