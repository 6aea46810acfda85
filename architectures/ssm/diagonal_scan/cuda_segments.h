// A long sequence of few channels: what each of its segments does to a state that enters it, found for all at once, and
// then the states between segments, one segment after another. With n the tokens of a segment and x⁰ its last state
// from zeros,
//
//   x' = aⁿ x + x⁰,    λ = (a*)ⁿ λ' + λ⁰;
//
// where a sequence begins in the segment nothing passes through it.
#pragma once

#include "architectures/ssm/diagonal_scan/cuda_parts.h"

namespace hippodrome::diagonal_scan_cuda {

// x⁰ of each segment into `before`, and its tokens.
template <class T, int kWarps>
struct SegmentStates {
  using S = ScalarOf<T>;
  static constexpr int kThreads = kWarps * kLanes;
  static int64_t blocks(const Problem& p) { return places(p); }
  static int64_t shared_bytes(const Problem&) { return shared_size<S>(kTile * kLanes) + shared_size<int>(kTile); }

  template <class Block>
  static HIPPODROME_KERNEL void run(Block& block, const Problem& p) {
    const Place at = place(p, block.index());
    S* const u = block.template shared<S>(kTile * kLanes);
    int* const codes = block.template shared<int>(kTile);
    typename Block::template PerThread<Parameters<S>> parameters;
    typename Block::template PerThread<Modes<S>> x;
    typename Block::template PerThread<int64_t> tokens;
    typename Block::template PerThread<int> fresh;
    block.alone([&](int thread) {
      load_parameters(p, mine(p, at, thread), parameters[thread]);
      set_zero(x[thread]);
      tokens[thread] = 0;
      fresh[thread] = 0;
    });
    for_each_tile(at, [&](int64_t begin, int count) {
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
          }
          advance(parameters[thread], u[i * kLanes + thread % kLanes], x[thread]);
        }
      });
    });
    block.alone([&](int thread) {
      const Mine m = mine(p, at, thread);
      store(m, x[thread], p.before, segment_row_of(p, at, m.channel));
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
    for_each_tile_backwards(at, [&](int64_t begin, int count) {
      block.each([&](int thread) {
        load_tile<T, kThreads>(p, p.grad_y, at, begin, count, thread, grad_y);
        load_codes(p, at, begin, count, thread, codes);
      });
      block.each([&](int thread) {
        for (int i = count - 1; i >= 0; --i) {
          const int code = codes[i];
          if (code == kPadding) continue;
          add_conjugate(parameters[thread].c, 2 * grad_y[i * kLanes + thread % kLanes], lambda[thread]);
          multiply_conjugate(parameters[thread].a, lambda[thread]);
          if (code == kFresh) set_zero(lambda[thread]);
        }
      });
    });
    block.alone([&](int thread) {
      const Mine m = mine(p, at, thread);
      store(m, lambda[thread], p.behind, segment_row_of(p, at, m.channel));
    });
  }
};

template <class S>
struct Complex {
  S re, im;
};
template <class S>
HIPPODROME_HOST_DEVICE Complex<S> times(const Complex<S>& x, const Complex<S>& y) {
  return {x.re * y.re - x.im * y.im, x.re * y.im + x.im * y.re};
}
// In float64 whatever the states: every squaring doubles the relative error.
HIPPODROME_HOST_DEVICE Complex<double> power(Complex<double> base, int64_t exponent) {
  Complex<double> result{1.0, 0.0};
  for (; exponent > 0; exponent /= 2) {
    if (exponent % 2 == 1) result = times(result, base);
    base = times(base, base);
  }
  return result;
}

// From what the segments begin with when nothing enters them to what does enter each, one after another: a thread for
// each state of a channel of a row.
template <class S, bool kBackwards>
struct Carry {
  static constexpr int kThreads = 128;
  static int64_t blocks(const Problem& p) { return ceil_div(p.batch * p.channels * p.states, kThreads); }
  static int64_t shared_bytes(const Problem&) { return 0; }

  template <class Block>
  static HIPPODROME_KERNEL void run(Block& block, const Problem& p) {
    block.alone([&](int thread) {
      const int64_t i = block.index() * kThreads + thread, row = i / p.states / p.channels;
      if (row >= p.batch) return;
      const void* const start = kBackwards ? p.grad_last_state : p.state;
      S* const carries = static_cast<S*>(kBackwards ? p.behind : p.before);
      const int64_t of_channel = i % (p.channels * p.states), count = p.segments.count;
      const auto part = [&](int which) {
        return static_cast<double>(static_cast<const S*>(p.parameters[which])[of_channel]);
      };
      const Complex<double> a{part(0), kBackwards ? -part(1) : part(1)};
      Complex<S> x{S(0), S(0)}, through{S(1), S(0)};
      if (start != nullptr) x = {static_cast<const S*>(start)[2 * i], static_cast<const S*>(start)[2 * i + 1]};
      int64_t known = 0;  // the power of a that `through` is
      for (int64_t done = 0; done < count; ++done) {
        const int64_t segment = row * count + (kBackwards ? count - 1 - done : done);
        const int64_t tokens = p.tokens[segment];
        if (tokens != known) {  // most segments are alike
          const Complex<double> full = tokens < 0 ? Complex<double>{0.0, 0.0} : power(a, tokens);
          through = {static_cast<S>(full.re), static_cast<S>(full.im)};
          known = tokens;
        }
        S* const at = carries + (segment * p.channels * p.states + of_channel) * 2;
        const Complex<S> passed = times(through, x), own{at[0], at[1]};
        at[0] = x.re;
        at[1] = x.im;
        x = {passed.re + own.re, passed.im + own.im};
      }
    });
  }
};

}  // namespace hippodrome::diagonal_scan_cuda
