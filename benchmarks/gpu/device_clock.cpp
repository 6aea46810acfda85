#include "benchmarks/gpu/device_clock.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/randn.h>
#include <c10/core/Event.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <algorithm>
#include <cmath>

#include "benchmarks/side_by_side.h"

namespace hippodrome::gpu_benchmark {
namespace {

// Between two events on the current stream of the GPU, with times (BACKEND_DEFAULT; LibTorch's own have none).
double seconds_between(at::Device device, Accelerator& gpu, const std::function<void()>& work) {
  const c10::Stream stream = c10::impl::VirtualGuardImpl(device.type()).getStream(device);
  c10::Event start(device.type(), c10::EventFlag::BACKEND_DEFAULT),
      stop(device.type(), c10::EventFlag::BACKEND_DEFAULT);
  start.record(stream);
  work();
  stop.record(stream);
  gpu.synchronise();
  return start.elapsedTime(stop) * 1e-3;
}

constexpr int kWarmups = 3;

}  // namespace

Filler::Filler(at::Device device)
    : from_(at::randn({int64_t{1} << 26}, at::TensorOptions(at::kFloat).device(device))), to_(at::empty_like(from_)) {
  Accelerator& gpu = **find_accelerator(device);
  std::vector<double> times;
  for (int i = 0; i < 12; ++i) times.push_back(seconds_between(device, gpu, [&] { copy(); }));
  copy_seconds_ = side_by_side::median(times);
  bytes_per_second_ = 2.0 * static_cast<double>(from_.nbytes()) / copy_seconds_;
}

void Filler::copy() { to_.copy_(from_); }

void Filler::enqueue(double seconds) {
  const int copies = std::clamp(static_cast<int>(std::ceil(seconds / copy_seconds_)), 1, 400);
  for (int i = 0; i < copies; ++i) copy();
}

Timed::Timed(std::function<void()> work, Filler& filler, Accelerator& gpu)
    : work_(std::move(work)), filler_(filler), gpu_(gpu) {
  for (int i = 0; i < kWarmups; ++i) {
    if (i == 1) host_seconds_ = 0.0;  // the first call chose libraries and allocated
    run();
  }
}

double Timed::run() {
  filler_.enqueue(1.5 * host_seconds_);
  return seconds_between(gpu_.device(), gpu_,
                         [&] { host_seconds_ = std::max(host_seconds_, side_by_side::seconds(work_)); });
}

double Timed::sample() {
  samples_.push_back(run());
  return samples_.back();
}

}  // namespace hippodrome::gpu_benchmark
