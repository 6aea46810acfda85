// CUDA kernels for complex numbers and zero-order hold, so that every layer runs on a GPU: one state at a time over a
// tile of steps, no segments. Simple, not fast. The equations are in op.h.
#pragma once

#include "architectures/ssm/selective_scan/cuda_gradients.h"

namespace hippodrome::s6 {

HIPPODROME_HOST_DEVICE float expm1_of(float x) { return ::expm1f(x); }
HIPPODROME_HOST_DEVICE double expm1_of(double x) { return ::expm1(x); }
HIPPODROME_HOST_DEVICE float sin_of(float x) { return ::sinf(x); }
HIPPODROME_HOST_DEVICE double sin_of(double x) { return ::sin(x); }
HIPPODROME_HOST_DEVICE float cos_of(float x) { return ::cosf(x); }
HIPPODROME_HOST_DEVICE double cos_of(double x) { return ::cos(x); }

template <class S>
struct Complex {
  S re, im;
};
template <class S>
HIPPODROME_HOST_DEVICE Complex<S> operator+(Complex<S> a, Complex<S> b) {
  return {a.re + b.re, a.im + b.im};
}
template <class S>
HIPPODROME_HOST_DEVICE Complex<S> operator*(Complex<S> a, Complex<S> b) {
  return {a.re * b.re - a.im * b.im, a.re * b.im + a.im * b.re};
}
template <class S>
HIPPODROME_HOST_DEVICE Complex<S> operator*(S a, Complex<S> b) {
  return {a * b.re, a * b.im};
}
template <class S>
HIPPODROME_HOST_DEVICE Complex<S> conj(Complex<S> a) {
  return {a.re, -a.im};
}
template <class S>
HIPPODROME_HOST_DEVICE Complex<S> over(Complex<S> a, Complex<S> b) {
  return S(1) / (b.re * b.re + b.im * b.im) * (a * conj(b));
}
template <class S>
HIPPODROME_HOST_DEVICE S real_product(Complex<S> g, Complex<S> x) {  // Re(conj(g) x)
  return g.re * x.re + g.im * x.im;
}

// State m of a row of `states` numbers `stride` apart: a real number, or the pair m and m + N / 2.
template <class S>
HIPPODROME_HOST_DEVICE Complex<S> read_state(const CudaScan& p, const S* x, int64_t stride, int64_t m) {
  return {x[m * stride], p.complex ? x[(m + p.states / 2) * stride] : S(0)};
}
template <class S>
HIPPODROME_HOST_DEVICE void write_state(const CudaScan& p, Complex<S> value, S* x, int64_t stride, int64_t m) {
  x[m * stride] = value.re;
  if (p.complex) x[(m + p.states / 2) * stride] = value.im;
}

// What a step multiplies the state and B u with.
template <class S>
struct StepFactors {
  Complex<S> abar, phi;
};
template <class S>
HIPPODROME_HOST_DEVICE StepFactors<S> step_factors(const CudaScan& p, S delta, Complex<S> A) {
  const S real = delta * A.re, size = cuda::exp_of(real);
  StepFactors<S> f{{size, S(0)}, {delta, S(0)}};
  if (!p.complex) {
    if (p.zero_order_hold) f.phi.re = expm1_of(real) / A.re;
    return f;
  }
  const S angle = delta * A.im, cosine = cos_of(angle);
  f.abar = {size * cosine, size * sin_of(angle)};
  if (p.zero_order_hold) {
    // abar - 1 without cancellation: cos y - 1 = -2 sin^2(y / 2).
    const S half = sin_of(S(0.5) * angle);
    f.phi = over(Complex<S>{expm1_of(real) * cosine - S(2) * half * half, f.abar.im}, A);
  }
  return f;
}

// psi of op.h, the derivative of (e^z - 1) / z at z = delta A; near 0, where the quotient loses every digit, by its
// series sum_j z^j / (j! (j + 2)).
template <class S>
HIPPODROME_HOST_DEVICE Complex<S> hold_slope(S delta, Complex<S> A, const StepFactors<S>& f) {
  const Complex<S> z = delta * A;
  if (z.re * z.re + z.im * z.im >= S(0.25)) return over(f.abar + (S(-1) / delta) * f.phi, z);
  Complex<S> power{S(1), S(0)}, sum{S(0.5), S(0)};
  for (int j = 1; j < 16; ++j) {
    power = (S(1) / S(j)) * (power * z);
    sum = sum + (S(1) / S(j + 2)) * power;
  }
  return sum;
}

// h <- abar h + phi B u
template <class S>
HIPPODROME_HOST_DEVICE Complex<S> general_step(int kind, const StepFactors<S>& f, S u, Complex<S> B, Complex<S> h) {
  const Complex<S> input = u * (f.phi * B);
  return kind == kStarts ? input : f.abar * h + input;
}

// Where the numbers of one step and state are that all channels of a block share.
template <class S>
struct SharedRows {
  const S *B, *C;
};
template <class S>
HIPPODROME_HOST_DEVICE SharedRows<S> shared_rows(const CudaScan& x, const CudaPlace& place, int64_t t) {
  const auto row = [&](const StridedGroups<void>& of) {
    return static_cast<const S*>(of.data) + place.batch * of.batch + place.group * of.group + t * of.time;
  };
  return {row(x.B), row(x.C)};
}

template <class S>
struct GeneralForwardKernel {
  using Params = CudaForward;
  static constexpr int kThreads = kCudaGeneralChannels;
  static constexpr int kTile = 32;
  static int64_t blocks(const Params& p) { return cuda_blocks(p.scan, kThreads, 1); }
  static int64_t shared_bytes(const Params&) {
    return 3 * cuda::shared_size<S>(kTile * kThreads) + cuda::shared_size<int>(kTile);
  }

  template <class Block>
  static HIPPODROME_KERNEL void run(Block& block, const Params& p) {
    const CudaScan& x = p.scan;
    const CudaPlace place = cuda_place(x, block.index(), kThreads, 0, 1);
    const int64_t b = place.batch, halves = x.complex ? 2 : 1;
    S* const delta = block.template shared<S>(kTile * kThreads);  // [step][channel], as are u and y
    S* const u = block.template shared<S>(kTile * kThreads);
    S* const y = block.template shared<S>(kTile * kThreads);
    int* const kinds = block.template shared<int>(kTile);
    for (int64_t begin = 0; begin < x.length; begin += kTile) {
      const int steps = static_cast<int>(x.length - begin < kTile ? x.length - begin : kTile);
      block.each([&](int thread) { stage_kinds<kThreads>(x, place, begin, steps, thread, kinds); });
      block.each([&](int thread) {
        if (thread >= place.count) return;
        const int64_t d = place.channel(thread);
        const S skip = read_or_zero<S>(x.D, d), bias = read_or_zero<S>(x.delta_bias, d);
        for (int i = 0; i < steps; ++i) {
          const int at = i * kThreads + thread;
          delta[at] = step_size(x, read<S>(x.delta, b, begin + i, d) + bias);
          u[at] = read<S>(x.u, b, begin + i, d);
          y[at] = skip * u[at];
        }
        S* const state = static_cast<S*>(p.last_state) + state_offset(x, b, d);
        const S* const initial =
            x.initial_state != nullptr ? static_cast<const S*>(x.initial_state) + state_offset(x, b, d) : nullptr;
        for (int64_t m = 0; m < x.states / halves; ++m) {
          const Complex<S> A = read_state(x, static_cast<const S*>(x.A) + d * x.states, 1, m);
          Complex<S> h{S(0), S(0)};
          if (begin > 0) {
            h = read_state<S>(x, state, 1, m);
          } else if (initial != nullptr) {
            h = read_state(x, initial, 1, m);
          }
          if (p.checkpoints != nullptr && begin % kChunk == 0) {
            write_state(x, h, static_cast<S*>(p.checkpoints) + part_offset(x, b, begin / kChunk, chunk_count(x), 0) + d,
                        x.channels, m);
          }
          for (int i = 0; i < steps; ++i) {
            if (kinds[i] == kPadding) continue;
            const int at = i * kThreads + thread;
            const SharedRows<S> rows = shared_rows<S>(x, place, begin + i);
            h = general_step(kinds[i], step_factors(x, delta[at], A), u[at], read_state(x, rows.B, 1, m), h);
            y[at] += S(halves) * (read_state(x, rows.C, 1, m) * h).re;
          }
          write_state(x, h, state, 1, m);
        }
        for (int i = 0; i < steps; ++i) {
          const S z = x.z.data != nullptr ? read<S>(x.z, b, begin + i, d) : S(0);
          write_output<S>(p, b, begin + i, d, kinds[i], y[i * kThreads + thread], z);
        }
      });
    }
  }
};

template <class S>
struct GeneralBackwardKernel {
  using Params = CudaBackward;
  static constexpr int kThreads = kCudaGeneralChannels;
  static constexpr int kSteps = static_cast<int>(kChunk);
  static constexpr int kRow = kThreads + 1;  // padded, so that the threads of a sum, side by side, use different banks
  static int64_t blocks(const Params& p) { return cuda_blocks(p.scan, kThreads, 1); }
  static int64_t shared_bytes(const Params&) {
    return 4 * cuda::shared_size<S>(kSteps * kRow) + cuda::shared_size<int>(kSteps);
  }

  // [step][channel]; real and imaginary parts.
  struct Shared {
    S* to_C[2];  // the states, then their gradients' part in dC
    S* to_B[2];
    int* kinds;
  };
  // Of a chunk and channel, [step][5][channel].
  enum : int { kDelta = 0, kDy, kY, kDu, kDdelta, kColumns };

  template <class Block>
  static HIPPODROME_KERNEL void run(Block& block, const Params& p) {
    const CudaScan& x = p.scan;
    const CudaPlace place = cuda_place(x, block.index(), kThreads, 0, 1);
    const int64_t b = place.batch, states = x.complex ? x.states / 2 : x.states;
    Shared shared;
    for (S*& column : shared.to_C) column = block.template shared<S>(kSteps * kRow);
    for (S*& column : shared.to_B) column = block.template shared<S>(kSteps * kRow);
    shared.kinds = block.template shared<int>(kSteps);
    S* const scratch = static_cast<S*>(p.scratch) + block.index() * kSteps * kColumns * kThreads;
    struct Registers {
      S dD, dbias;
    };
    typename Block::template PerThread<Registers> registers;
    block.alone([&](int thread) { registers[thread].dD = registers[thread].dbias = S(0); });

    for (int64_t chunk = chunk_count(x) - 1; chunk >= 0; --chunk) {
      const int64_t begin = chunk * kChunk;
      const int steps = static_cast<int>(x.length - begin < kChunk ? x.length - begin : kChunk);
      block.each([&](int thread) {
        stage_kinds<kThreads>(x, place, begin, steps, thread, shared.kinds);
        for (int i = 0; i < steps && thread < place.count; ++i) {
          S* const column = scratch + i * kColumns * kThreads + thread;
          const int64_t d = place.channel(thread);
          column[kDelta * kThreads] =
              step_size(x, read<S>(x.delta, b, begin + i, d) + read_or_zero<S>(x.delta_bias, d));
          S dy;
          read_ungated<S, 1>(x, p.grad_y, b, begin + i, 1, d, &dy);
          column[kDy * kThreads] = dy;
          column[kY * kThreads] = column[kDu * kThreads] = column[kDdelta * kThreads] = S(0);
        }
      });
      for (int64_t m = 0; m < states; ++m) {
        block.each([&](int thread) {
          if (thread < place.count) one_state(p, place, chunk, steps, m, thread, shared, scratch);
        });
        block.each([&](int thread) { sum_channels(p, place, begin, steps, m, thread, shared); });
      }
      block.each([&](int thread) {
        if (thread >= place.count) return;
        const int64_t d = place.channel(thread);
        const S skip = read_or_zero<S>(x.D, d);
        for (int i = steps - 1; i >= 0; --i) {
          if (shared.kinds[i] == kPadding) {
            write_padding<S>(p, b, begin + i, d);
            continue;
          }
          const S* const column = scratch + i * kColumns * kThreads + thread;
          const S u = read<S>(x.u, b, begin + i, d), dy = column[kDy * kThreads];
          write_gate_gradient<S>(p, b, begin + i, d, column[kY * kThreads] + skip * u);
          registers[thread].dD += dy * u;
          registers[thread].dbias += write_input_gradients<S>(p, b, begin + i, d, skip * dy + column[kDu * kThreads],
                                                              column[kDdelta * kThreads]);
        }
      });
    }
    block.alone([&](int thread) {
      if (thread >= place.count) return;
      const int64_t at = b * x.channels + place.channel(thread);
      static_cast<S*>(p.D)[at] = registers[thread].dD;
      static_cast<S*>(p.delta_bias)[at] = registers[thread].dbias;
    });
  }

  // State m of a channel over a chunk, forwards from the checkpoint and backwards.
  static HIPPODROME_KERNEL void one_state(const Params& p, const CudaPlace& place, int64_t chunk, int steps, int64_t m,
                                          int thread, const Shared& shared, S* scratch) {
    const CudaScan& x = p.scan;
    const int64_t b = place.batch, d = place.channel(thread), begin = chunk * kChunk;
    const S twice = S(x.complex ? 2 : 1);
    const Complex<S> A = read_state(x, static_cast<const S*>(x.A) + d * x.states, 1, m);
    const Complex<S> checkpoint = read_state(
        x, static_cast<const S*>(p.checkpoints) + part_offset(x, b, chunk, chunk_count(x), 0) + d, x.channels, m);
    Complex<S> h = checkpoint;
    for (int i = 0; i < steps; ++i) {
      if (shared.kinds[i] != kPadding) {
        S* const column = scratch + i * kColumns * kThreads + thread;
        const SharedRows<S> rows = shared_rows<S>(x, place, begin + i);
        h = general_step(shared.kinds[i], step_factors(x, column[kDelta * kThreads], A), read<S>(x.u, b, begin + i, d),
                         read_state(x, rows.B, 1, m), h);
        column[kY * kThreads] += twice * (read_state(x, rows.C, 1, m) * h).re;
      }
      shared.to_C[0][i * kRow + thread] = h.re;
      shared.to_C[1][i * kRow + thread] = h.im;
    }

    S* const sums_dA = static_cast<S*>(p.A) + part_offset(x, b, 0, 1, 0) + d;
    S* const carries = static_cast<S*>(p.carries) + part_offset(x, b, 0, 1, 0) + d;
    Complex<S> dA{S(0), S(0)}, carry{S(0), S(0)};
    if (begin + steps < x.length) {
      dA = read_state<S>(x, sums_dA, x.channels, m);
      carry = read_state<S>(x, carries, x.channels, m);
    } else if (p.grad_last_state != nullptr) {
      carry = read_state(x, static_cast<const S*>(p.grad_last_state) + state_offset(x, b, d), 1, m);
    }
    for (int i = steps - 1; i >= 0; --i) {
      const int kind = shared.kinds[i], at = i * kRow + thread;
      if (kind == kPadding) continue;
      S* const column = scratch + i * kColumns * kThreads + thread;
      const SharedRows<S> rows = shared_rows<S>(x, place, begin + i);
      const S delta = column[kDelta * kThreads], dy = twice * column[kDy * kThreads], u = read<S>(x.u, b, begin + i, d);
      const Complex<S> B = read_state(x, rows.B, 1, m), C = read_state(x, rows.C, 1, m), Bu = u * B;
      const Complex<S> after{shared.to_C[0][at], shared.to_C[1][at]};
      const Complex<S> before = i > 0 ? Complex<S>{shared.to_C[0][at - kRow], shared.to_C[1][at - kRow]} : checkpoint;
      const StepFactors<S> f = step_factors(x, delta, A);
      const Complex<S> kept = kind == kStarts ? Complex<S>{S(0), S(0)} : f.abar * before;  // p of op.h
      const Complex<S> g = carry + dy * conj(C);
      const Complex<S> to_C = dy * conj(after), to_B = u * (conj(f.phi) * g);
      shared.to_C[0][at] = to_C.re;
      shared.to_C[1][at] = to_C.im;
      shared.to_B[0][at] = to_B.re;
      shared.to_B[1][at] = to_B.im;
      column[kDu * kThreads] += real_product(g, f.phi * B);
      column[kDdelta * kThreads] += real_product(g, A * kept + (x.zero_order_hold ? f.abar * Bu : Bu));
      Complex<S> by_A = delta * kept;
      if (x.zero_order_hold) by_A = by_A + (delta * delta) * (hold_slope(delta, A, f) * Bu);
      dA = dA + conj(by_A) * g;
      carry = kind == kStarts ? Complex<S>{S(0), S(0)} : conj(f.abar) * g;
    }
    write_state(x, dA, sums_dA, x.channels, m);
    write_state(x, carry, carries, x.channels, m);
    if (begin == 0 && p.initial_state != nullptr) {
      write_state(x, carry, static_cast<S*>(p.initial_state) + state_offset(x, b, d), 1, m);
    }
  }

  // dB and dC of state m, a thread a step.
  static HIPPODROME_KERNEL void sum_channels(const Params& p, const CudaPlace& place, int64_t begin, int steps,
                                             int64_t m, int thread, const Shared& shared) {
    const CudaScan& x = p.scan;
    const int64_t blocks = cuda::ceil_div(x.channels / x.groups, kThreads);
    const int64_t row = ((place.batch * x.groups + place.group) * blocks + place.block) * x.length + begin;
    for (int i = thread; i < steps; i += kThreads) {
      const auto sum = [&](const S* column) {
        if (shared.kinds[i] == kPadding) return S(0);
        return sum_of<S>(place.count, [&](int c) { return column[i * kRow + c]; });
      };
      write_state(x, Complex<S>{sum(shared.to_B[0]), sum(shared.to_B[1])}, static_cast<S*>(p.B) + (row + i) * x.states,
                  1, m);
      write_state(x, Complex<S>{sum(shared.to_C[0]), sum(shared.to_C[1])}, static_cast<S*>(p.C) + (row + i) * x.states,
                  1, m);
    }
  }
};

}  // namespace hippodrome::s6
