// The CUDA kernels of gated_rms_norm. A team of threads, a warp or a block, takes a group of a row; each of its threads
// takes packs of 16 bytes that lie a team's width apart. The first kHeld packs of a thread are read from memory once
// and stay in registers between the two passes over a group; a group so wide that there are more is read again, from
// the cache. Backward's team goes through a run of rows, so that a thread adds up the weight's gradient of its own
// channels: in registers for the packs that are held, in its part's row of memory for others. Limited by memory
// traffic.
#pragma once

#include <cstdint>

#include "architectures/ssm/gated_rms_norm/cuda.h"
#include "core/cuda/block.h"
#include "core/cuda/element.h"
#include "core/cuda/math.h"

namespace hippodrome::gated_rms_norm_op {

// Aligned to its size, 16 bytes at most.
template <class T, int kSize>
struct alignas(kSize * sizeof(T) < 16 ? kSize * sizeof(T) : 16) Pack {
  T values[kSize];
};

// How threads share the groups of rows. kVector elements make a pack.
template <class T, int kVector, int kTeamThreads>
struct Team {
  using S = cuda::ScalarOf<T>;
  using Elements = Pack<T, kVector>;
  using Scalars = Pack<S, kVector>;
  static constexpr int kTeam = kTeamThreads, kThreads = kTeam < 128 ? 128 : kTeam, kTeams = kThreads / kTeam;
  // More would cost a block of backward half of its neighbours on the multiprocessor, for want of registers.
  static constexpr int kHeld = kVector > 1 ? (kTeam > 32 ? 2 : 4) : sizeof(T) < 8 ? 8 : 4;
  static constexpr int64_t kHeldWidth = int64_t{kTeam} * kVector * kHeld;

  static HIPPODROME_HOST_DEVICE int64_t shared_count() { return kTeam > 32 ? kTeam / 32 : 0; }

  // Every thread of a team gets the team's sum. All threads of the block must come here.
  template <class Block>
  static HIPPODROME_KERNEL void sum(Block& block, typename Block::template PerThread<S>& x, S* warps) {
    block.template sum_over_lanes<32>(x);
    if constexpr (kTeam > 32) {
      block.each([&](int thread) {
        if (thread % 32 == 0) warps[thread / 32] = x[thread];
      });
      block.each([&](int thread) {
        S total = warps[0];
        HIPPODROME_UNROLL for (int warp = 1; warp < kTeam / 32; ++warp) total += warps[warp];
        x[thread] = total;
      });
    }
  }

  // f(k, i) for the held packs of a thread, which begin at channel i of the group, and g(i) for those behind them.
  template <class F, class G>
  static HIPPODROME_HOST_DEVICE void for_packs(int thread, int64_t width, const F& f, const G& g) {
    int64_t i = int64_t{thread % kTeam} * kVector;
    HIPPODROME_UNROLL for (int k = 0; k < kHeld; ++k, i += kTeam * kVector) {
      if (i < width) f(k, i);
    }
    for (; i < width; i += kTeam * kVector) g(i);
  }

  static HIPPODROME_HOST_DEVICE Elements read(const T* from) { return *reinterpret_cast<const Elements*>(from); }
  static HIPPODROME_HOST_DEVICE Scalars read_scalars(const S* from) { return *reinterpret_cast<const Scalars*>(from); }
};

HIPPODROME_HOST_DEVICE int64_t group_width(const Sizes& s) { return s.width / s.groups; }

// Rows of T at the first channel of a group.
template <class T>
HIPPODROME_HOST_DEVICE const T* row_of(const CudaRows& rows, int64_t row, int64_t channel) {
  return static_cast<const T*>(rows.data) + row * rows.stride + channel;
}

template <class T, int kVector, int kTeamThreads>
struct ForwardKernel : Team<T, kVector, kTeamThreads> {
  using TeamOf = Team<T, kVector, kTeamThreads>;
  using TeamOf::kHeld, TeamOf::kTeam, TeamOf::kTeams;
  using typename TeamOf::Elements, typename TeamOf::S, typename TeamOf::Scalars;

  static HIPPODROME_HOST_DEVICE int64_t items(const CudaForward& p) { return p.sizes.rows * p.sizes.groups; }
  static int64_t blocks(const CudaForward& p) { return cuda::ceil_div(items(p), kTeams); }
  static int64_t shared_bytes(const CudaForward&) { return cuda::shared_size<S>(TeamOf::shared_count()); }

  // A group of a row: what is normed of it, u, and where it lies.
  struct Item {
    HIPPODROME_HOST_DEVICE Item(const CudaForward& p, int64_t number) {
      const int64_t row = number / p.sizes.groups, channel = number % p.sizes.groups * group_width(p.sizes);
      x = row_of<T>(p.x, row, channel), z = row_of<T>(p.z, row, channel);
      weight = static_cast<const S*>(p.weight) + channel;
      y = static_cast<T*>(p.y) + row * p.sizes.width + channel;
    }
    HIPPODROME_HOST_DEVICE Scalars normed(const CudaForward& p, int64_t i) const {
      const Elements xs = TeamOf::read(x + i);
      Scalars u;
      HIPPODROME_UNROLL for (int v = 0; v < kVector; ++v) u.values[v] = cuda::load(xs.values[v]);
      if (!p.sizes.norm_before_gate) {
        const Elements zs = TeamOf::read(z + i);
        HIPPODROME_UNROLL for (int v = 0; v < kVector; ++v) u.values[v] *= cuda::silu(S(cuda::load(zs.values[v])));
      }
      return u;
    }
    HIPPODROME_HOST_DEVICE void write(const CudaForward& p, int64_t i, const Scalars& u, S s) const {
      const Scalars w = TeamOf::read_scalars(weight + i);
      S result[kVector];
      HIPPODROME_UNROLL for (int v = 0; v < kVector; ++v) result[v] = u.values[v] * s * w.values[v];
      if (p.sizes.norm_before_gate) {
        const Elements zs = TeamOf::read(z + i);
        HIPPODROME_UNROLL for (int v = 0; v < kVector; ++v) result[v] *= cuda::silu(S(cuda::load(zs.values[v])));
      }
      Elements to;
      HIPPODROME_UNROLL for (int v = 0; v < kVector; ++v) cuda::store(result[v], &to.values[v]);
      *reinterpret_cast<Elements*>(y + i) = to;
    }
    const T *x, *z;
    const S* weight;
    T* y;
  };
  struct Held {
    Scalars u[kHeld];
  };

  template <class Block>
  static HIPPODROME_KERNEL void run(Block& block, const CudaForward& p) {
    S* const warps = block.template shared<S>(TeamOf::shared_count());
    typename Block::template PerThread<S> squares;
    typename Block::template PerThread<Held> held;
    const int64_t m = group_width(p.sizes);
    const auto number_of = [&](int thread) { return block.index() * kTeams + thread / kTeam; };
    block.alone([&](int thread) {
      squares[thread] = S(0);
      if (number_of(thread) >= items(p)) return;
      const Item item(p, number_of(thread));
      S sum = S(0);
      const auto add = [&](const Scalars& u) {
        HIPPODROME_UNROLL for (int v = 0; v < kVector; ++v) sum += u.values[v] * u.values[v];
      };
      TeamOf::for_packs(
          thread, m, [&](int k, int64_t i) { add(held[thread].u[k] = item.normed(p, i)); },
          [&](int64_t i) { add(item.normed(p, i)); });
      squares[thread] = sum;
    });
    TeamOf::sum(block, squares, warps);
    block.alone([&](int thread) {
      const int64_t number = number_of(thread);
      if (number >= items(p)) return;
      const Item item(p, number);
      const S s = S(1) / cuda::sqrt_of(squares[thread] / static_cast<S>(m) + static_cast<S>(p.sizes.epsilon));
      if (thread % kTeam == 0) static_cast<S*>(p.scale)[number] = s;
      TeamOf::for_packs(
          thread, m, [&](int k, int64_t i) { item.write(p, i, held[thread].u[k], s); },
          [&](int64_t i) { item.write(p, i, item.normed(p, i), s); });
    });
  }
};

// A team takes a part's rows of one group.
template <class T, int kVector, int kTeamThreads>
struct BackwardKernel : Team<T, kVector, kTeamThreads> {
  using TeamOf = Team<T, kVector, kTeamThreads>;
  using TeamOf::kHeld, TeamOf::kTeam, TeamOf::kTeams;
  using typename TeamOf::Elements, typename TeamOf::S, typename TeamOf::Scalars;

  static HIPPODROME_HOST_DEVICE int64_t items(const CudaBackward& p) { return p.parts * p.sizes.groups; }
  static int64_t blocks(const CudaBackward& p) { return cuda::ceil_div(items(p), kTeams); }
  static int64_t shared_bytes(const CudaBackward&) { return cuda::shared_size<S>(TeamOf::shared_count()); }

  // A pack of a row as memory has it.
  struct Inputs {
    Elements x, z, grad_y;
  };
  struct Held {
    Inputs in[kHeld];
    Scalars grad_weight[kHeld];
  };

  // The gate at one channel, and what the norm has to do with there.
  struct Channel {
    HIPPODROME_HOST_DEVICE Channel(const CudaBackward& p, const Inputs& in, int v) {
      x = cuda::load(in.x.values[v]), grad_y = cuda::load(in.grad_y.values[v]);
      const S z = cuda::load(in.z.values[v]), q = cuda::sigmoid(z);
      gate = z * q, slope = q * (S(1) + z * (S(1) - q));
      u = p.sizes.norm_before_gate ? x : x * gate;
      e = p.sizes.norm_before_gate ? grad_y * gate : grad_y;
    }
    S x, grad_y, gate, slope, u, e;
  };

  struct Item {
    HIPPODROME_HOST_DEVICE Item(const CudaBackward& p, int64_t number, int64_t step) {
      const int64_t part = number / p.sizes.groups, group = number % p.sizes.groups;
      const int64_t first = p.sizes.rows * part / p.parts, end = p.sizes.rows * (part + 1) / p.parts;
      channel = group * group_width(p.sizes);
      row = first + step;
      there = number < items(p) && row < end;
      weight = static_cast<const S*>(p.weight) + channel;
      grad_weight = static_cast<S*>(p.grad_weight) + part * p.sizes.width + channel;
      group_of_row = row * p.sizes.groups + group;
    }
    HIPPODROME_HOST_DEVICE Inputs read(const CudaBackward& p, int64_t i) const {
      return {TeamOf::read(row_of<T>(p.x, row, channel + i)), TeamOf::read(row_of<T>(p.z, row, channel + i)),
              TeamOf::read(row_of<T>(p.grad_y, row, channel + i))};
    }
    HIPPODROME_HOST_DEVICE S projection(const CudaBackward& p, int64_t i, const Inputs& in) const {
      const Scalars w = TeamOf::read_scalars(weight + i);
      S sum = S(0);
      HIPPODROME_UNROLL for (int v = 0; v < kVector; ++v) {
        const Channel c(p, in, v);
        sum += w.values[v] * c.e * c.u;
      }
      return sum;
    }
    // Writes the gradients of a pack and adds to that of the weight.
    HIPPODROME_HOST_DEVICE void write(const CudaBackward& p, int64_t i, const Inputs& in, S s, S along,
                                      Scalars& sums) const {
      const Scalars w = TeamOf::read_scalars(weight + i);
      Elements dx, dz;
      HIPPODROME_UNROLL for (int v = 0; v < kVector; ++v) {
        const Channel c(p, in, v);
        const S du = s * (w.values[v] * c.e - c.u * along);
        cuda::store(p.sizes.norm_before_gate ? du : du * c.gate, &dx.values[v]);
        cuda::store((p.sizes.norm_before_gate ? c.grad_y * s * w.values[v] : du) * c.x * c.slope, &dz.values[v]);
        sums.values[v] += c.e * c.u * s;
      }
      const int64_t at = row * p.sizes.width + channel + i;
      *reinterpret_cast<Elements*>(static_cast<T*>(p.grad_x) + at) = dx;
      *reinterpret_cast<Elements*>(static_cast<T*>(p.grad_z) + at) = dz;
    }
    bool there;
    int64_t channel, row, group_of_row;
    const S* weight;
    S* grad_weight;
  };

  template <class Block>
  static HIPPODROME_KERNEL void run(Block& block, const CudaBackward& p) {
    S* const warps = block.template shared<S>(TeamOf::shared_count());
    typename Block::template PerThread<S> projection;
    typename Block::template PerThread<Held> held;
    const int64_t m = group_width(p.sizes), steps = cuda::ceil_div(p.sizes.rows, p.parts);
    const auto number_of = [&](int thread) { return block.index() * kTeams + thread / kTeam; };
    const auto memory_of = [](const Item& item, int64_t i) -> Scalars& {
      return *reinterpret_cast<Scalars*>(item.grad_weight + i);
    };
    block.alone([&](int thread) {
      HIPPODROME_UNROLL for (int k = 0; k < kHeld; ++k) held[thread].grad_weight[k] = Scalars{};
      if (number_of(thread) >= items(p)) return;
      const Item item(p, number_of(thread), 0);
      TeamOf::for_packs(
          thread, m, [](int, int64_t) {}, [&](int64_t i) { memory_of(item, i) = Scalars{}; });
    });
    for (int64_t step = 0; step < steps; ++step) {
      block.alone([&](int thread) {
        projection[thread] = S(0);
        const Item item(p, number_of(thread), step);
        if (!item.there) return;
        S sum = S(0);
        TeamOf::for_packs(
            thread, m, [&](int k, int64_t i) { held[thread].in[k] = item.read(p, i); }, [](int64_t) {});
        TeamOf::for_packs(
            thread, m, [&](int k, int64_t i) { sum += item.projection(p, i, held[thread].in[k]); },
            [&](int64_t i) { sum += item.projection(p, i, item.read(p, i)); });
        projection[thread] = sum;
      });
      TeamOf::sum(block, projection, warps);
      block.alone([&](int thread) {
        const Item item(p, number_of(thread), step);
        if (!item.there) return;
        const S s = static_cast<const S*>(p.scale)[item.group_of_row];
        const S along = projection[thread] * s * s / static_cast<S>(m);
        TeamOf::for_packs(
            thread, m,
            [&](int k, int64_t i) { item.write(p, i, held[thread].in[k], s, along, held[thread].grad_weight[k]); },
            [&](int64_t i) { item.write(p, i, item.read(p, i), s, along, memory_of(item, i)); });
      });
    }
    block.alone([&](int thread) {
      if (number_of(thread) >= items(p)) return;
      const Item item(p, number_of(thread), 0);
      TeamOf::for_packs(
          thread, m, [&](int k, int64_t i) { memory_of(item, i) = held[thread].grad_weight[k]; }, [](int64_t) {});
    });
  }
};

// Whether packs of 16 bytes of T lie at addresses divisible by 16 in all rows and groups.
template <class T>
bool in_packs(const CudaRows& rows, const Sizes& s) {
  constexpr int64_t kPack = 16 / sizeof(T);
  return reinterpret_cast<uintptr_t>(rows.data) % 16 == 0 && rows.stride % kPack == 0 && s.group_width() % kPack == 0;
}
inline bool at_pack(const void* address) { return reinterpret_cast<uintptr_t>(address) % 16 == 0; }

// f(TypeTag<Kernel<T, kVector, kTeam>>) of the smallest team that fits the shape.
template <template <class, int, int> class Kernel, class T, int kVector, class F>
const char* with_team(cuda::Element element, const Sizes& s, const F& f) {
  const int64_t width = s.group_width();
  if (width <= widest_of_warp(element)) return f(cuda::TypeTag<Kernel<T, kVector, 32>>{});
  if (width <= Team<T, kVector, 256>::kHeldWidth) return f(cuda::TypeTag<Kernel<T, kVector, 256>>{});
  return f(cuda::TypeTag<Kernel<T, kVector, 512>>{});
}
// float64 is for checks and takes no packs.
template <template <class, int, int> class Kernel, class T, class F>
const char* with_kernel(cuda::Element element, const Sizes& s, bool packs, const F& f) {
  if constexpr (sizeof(T) < 8) {
    if (packs) return with_team<Kernel, T, 16 / sizeof(T)>(element, s, f);
  }
  return with_team<Kernel, T, 1>(element, s, f);
}

template <class Launcher>
const char* run_forward(const CudaForward& p, const Launcher& launcher) {
  if (p.sizes.width == 0) return nullptr;
  return cuda::with_element(p.element, [&](auto tag) {
    using T = typename decltype(tag)::Type;
    const bool packs = in_packs<T>(p.x, p.sizes) && in_packs<T>(p.z, p.sizes) && at_pack(p.weight) && at_pack(p.y);
    return with_kernel<ForwardKernel, T>(p.element, p.sizes, packs, [&](auto kernel) {
      return launcher.template run<typename decltype(kernel)::Type>(p);
    });
  });
}

template <class Launcher>
const char* run_backward(const CudaBackward& p, const Launcher& launcher) {
  if (p.sizes.width == 0) return nullptr;
  return cuda::with_element(p.element, [&](auto tag) {
    using T = typename decltype(tag)::Type;
    const bool packs = in_packs<T>(p.x, p.sizes) && in_packs<T>(p.z, p.sizes) && in_packs<T>(p.grad_y, p.sizes) &&
                       at_pack(p.weight) && at_pack(p.grad_x) && at_pack(p.grad_z) && at_pack(p.grad_weight);
    return with_kernel<BackwardKernel, T>(p.element, p.sizes, packs, [&](auto kernel) {
      return launcher.template run<typename decltype(kernel)::Type>(p);
    });
  });
}

}  // namespace hippodrome::gated_rms_norm_op
