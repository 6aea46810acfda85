"""Our operators on a GPU beside the kernels of mamba_ssm and causal_conv1d, in one process, in turns; a JSON row for each kernel,
shape, direction and side. Where a peer cannot be imported, LibTorch's plain form takes its place and has its own name.

Usage: gpu_kernels.py --libraries FOLDER [--peers FOLDER] [--out ROWS] [--rounds 15] [--only KERNEL…]
  --libraries  of libhippodrome_ops.so, libhippodrome_cuda.so and libhippodrome_rivals.so
  --peers      what benchmarks/peers/build_gpu_peers made; without it, peers are those installed
  --small      on the CPU at small shapes, with wall-clock times: shows that the script runs
"""
import argparse
import datetime
import json
import math
import pathlib
import platform
import statistics
import subprocess
import sys
import time

import torch

ROOT = pathlib.Path(__file__).resolve().parents[2]
SHAPES = [(1, 4096), (8, 4096), (1, 16384), (1, 65536)]
SMALL_SHAPES = [(2, 256)]
SLOW_SECONDS = 0.1  # a side whose turn takes longer has one in every fifth round only


class Clock:
    """Seconds that the GPU takes from a work's first kernel to its last, behind copies that outlast the host's launches and
    leave nothing of its inputs in the cache. On a CPU wall-clock time."""

    def __init__(self, device):
        self.gpu = device == "cuda"
        if not self.gpu:
            return
        self.source = torch.randn(1 << 26, device=device)
        self.target = torch.empty_like(self.source)
        self.copy_seconds = 1e-4
        self.copy_seconds = statistics.median(self._between(lambda: self.target.copy_(self.source))[0] for _ in range(12))

    def _between(self, work):
        start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        begin = time.perf_counter()
        work()
        host = time.perf_counter() - begin
        stop.record()
        torch.cuda.synchronize()
        return start.elapsed_time(stop) * 1e-3, host

    def seconds(self, work, host):
        """And how long the host took to enqueue it; `host` is the longest that it took so far."""
        if not self.gpu:
            begin = time.perf_counter()
            work()
            return time.perf_counter() - begin, 0.0
        for _ in range(min(400, max(1, math.ceil(1.5 * host / self.copy_seconds)))):
            self.target.copy_(self.source)
        return self._between(work)


class Side:
    """One way to compute a kernel's result: `forward` takes nothing, `inputs` are what gradients are asked for."""

    def __init__(self, name, forward, inputs, differentiable=True):
        self.name, self.forward, self.inputs, self.differentiable = name, forward, inputs, differentiable

    def result(self, direction):
        """In one layout for all sides, to be compared."""
        if direction == "forward":
            with torch.no_grad():
                return [self.forward()]
        y = self.forward()
        return [g for g in torch.autograd.grad(y, self.inputs, torch.ones_like(y))]

    def work(self, direction):
        if direction == "forward":
            def forward():
                with torch.no_grad():
                    self.forward()
            return forward
        y = self.forward()
        ones = torch.ones_like(y)
        return lambda: torch.autograd.grad(y, self.inputs, ones, retain_graph=True)


def leaf(x):
    return x.detach().requires_grad_(True)


def scan_sides(batch, length, device, peers, small):
    """Mamba-1's, with all that its layer asks for. mamba_ssm reads time innermost, we channels: each gets its own layout."""
    width, states = (64, 16) if small else (2560, 16)

    def tokens(size):
        return torch.randn(batch, length, size, device=device, dtype=torch.bfloat16)
    u, delta, z, B, C = tokens(width), tokens(width), tokens(width), tokens(states), tokens(states)
    A = -torch.rand(width, states, device=device) - 0.5
    D, bias = torch.rand(width, device=device), torch.rand(width, device=device) - 4.0
    ours = [leaf(x.transpose(1, 2)) for x in (u, delta, z, B, C)] + [leaf(x) for x in (A, D, bias)]

    def call(op, x):
        u, delta, z, B, C, A, D, bias = x
        return op(u, delta, A, B, C, D, z, bias, True)
    sides = [Side("hippodrome", lambda: call(torch.ops.hippodrome.selective_scan, ours)[0], ours)]
    if peers.selective_scan is not None:
        theirs = [leaf(x.transpose(1, 2).contiguous()) for x in (u, delta, z, B, C)] + [leaf(x) for x in (A, D, bias)]
        sides.append(Side("mamba_ssm", lambda: call(peers.selective_scan, theirs), theirs))
    elif peers.plain and batch * length * width * states * 24 < 60e9:
        sides.append(Side("libtorch_doubling", lambda: call(torch.ops.hippodrome_rivals.selective_scan_by_doubling, ours), ours,
                          differentiable=False))
    return width, sides


def ssd_sides(batch, length, device, peers, small):
    """Mamba-2's of 64 heads."""
    heads, size, states = (4, 64, 128) if small else (64, 64, 128)

    def tokens(*sizes):
        return torch.randn(batch, length, *sizes, device=device, dtype=torch.bfloat16)
    dt = torch.rand(batch, length, heads, device=device).mul(0.1).to(torch.bfloat16)
    A = -torch.rand(heads, device=device) - 0.5
    values = [leaf(x) for x in (tokens(heads, size), dt, A, tokens(1, states), tokens(1, states))]
    sides = [Side("hippodrome", lambda: torch.ops.hippodrome.ssd(*values)[0], values)]
    if peers.ssd is not None:
        sides.append(Side("mamba_ssm", lambda: peers.ssd(*values, chunk_size=256), values))
    elif peers.plain:
        sides.append(Side("libtorch_chunks", lambda: torch.ops.hippodrome_rivals.ssd_in_chunks(*values), values,
                          differentiable=batch * length * heads * 256 * 20 < 60e9))
    return heads, sides


def convolution_sides(batch, length, device, peers, small):
    """Mamba's, of four taps with silu. causal_conv1d takes both layouts; `channel_first` has time innermost, as Mamba-1 calls it."""
    width = 64 if small else 2560
    x = torch.randn(batch, length, width, device=device, dtype=torch.bfloat16)
    weight, bias = (torch.randn(*s, device=device, dtype=torch.bfloat16) for s in ((width, 4), (width,)))
    ours = [leaf(v) for v in (x.transpose(1, 2), weight, bias)]
    sides = [Side("hippodrome", lambda: torch.ops.hippodrome.causal_conv1d(*ours, "silu")[0], ours)]
    first = [leaf(v) for v in (x.transpose(1, 2).contiguous(), weight, bias)]
    if peers.convolution is not None:
        sides.append(Side("causal_conv1d", lambda: peers.convolution(*ours, activation="silu"), ours))
        sides.append(Side("causal_conv1d_channel_first", lambda: peers.convolution(*first, activation="silu"), first))
    elif peers.plain:
        sides.append(Side("libtorch_conv1d", lambda: torch.ops.hippodrome_rivals.conv1d_silu(*first), first))
    return width, sides


KERNELS = {"selective_scan": scan_sides, "causal_conv1d": convolution_sides, "ssd": ssd_sides}


class Peers:
    """What can be imported here, and why what is missing is missing."""

    def __init__(self, folder, plain):
        if folder and pathlib.Path(folder).is_dir():
            sys.path.insert(0, str(folder))
        self.plain, self.missing, self.versions = plain, {}, {}
        self.selective_scan = self._find("mamba_ssm.ops.selective_scan_interface", "selective_scan_fn")
        self.ssd = self._find("mamba_ssm.ops.triton.ssd_combined", "mamba_chunk_scan_combined")
        self.convolution = self._find("causal_conv1d.causal_conv1d_interface", "causal_conv1d_fn")

    def _find(self, module, name):
        package = module.split(".")[0]
        try:
            found = getattr(__import__(module, fromlist=[name]), name)
        except Exception as error:  # whatever an import of theirs raises
            self.missing[f"{package}.{name}"] = f"{type(error).__name__}: {error}"
            return None
        self.versions[package] = sys.modules[package].__version__
        return found


def commit():
    """Of the checkout, or what the folder that was carried says."""
    def git(*arguments):
        return subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True).stdout.strip()
    if (ROOT / ".git").exists():
        return git("rev-parse", "HEAD"), bool(git("status", "--porcelain", "-uno"))
    told = (ROOT / "commit").read_text().split() if (ROOT / "commit").exists() else ["unknown", ""]
    return told[0], told[-1] == "dirty"


def provenance(peers, device):
    name, dirty = commit()
    versions = {"python": platform.python_version(), "torch": torch.__version__, "cuda": torch.version.cuda, **peers.versions}
    if "triton" in sys.modules:
        versions["triton"] = sys.modules["triton"].__version__
    gpu = torch.cuda.get_device_name() if device == "cuda" else ""
    return {"commit": name, "dirty": dirty, "hardware": {"gpu": gpu}, "versions": versions, "dtype": "bfloat16",
            "started": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")}


def difference(results, reference):
    """The largest relative difference in the root mean square; gradients come in the order of `inputs`, alike for all sides."""
    return max(((a.double() - b.double()).norm() / (b.double().norm() + 1e-30)).item() for a, b in zip(results, reference))


def measure(sides, direction, clock, rounds):
    """{side: samples or the sentence why it has none}, and differences from the first side."""
    samples, works, host, differences, reference = {}, {}, {}, {}, None
    for side in sides:
        if direction == "backward" and not side.differentiable:
            continue
        try:
            result = side.result(direction)
            reference = reference or result
            differences[side.name] = difference(result, reference)
            del result
            works[side.name], host[side.name], samples[side.name] = side.work(direction), 0.0, []
            for warm_up in range(3):
                seconds, taken = clock.seconds(works[side.name], host[side.name])
                host[side.name] = taken if warm_up < 2 else max(taken, host[side.name])
        except RuntimeError as error:  # out of memory, or a shape that it does not take
            samples[side.name] = str(error).splitlines()[0]
            works.pop(side.name, None)
    for turn in range(rounds):
        for name, work in works.items():
            if not samples[name] or samples[name][0] < SLOW_SECONDS or turn % 5 == 0:
                seconds, taken = clock.seconds(work, host[name])
                host[name] = max(taken, host[name])
                samples[name].append(seconds)
    return samples, differences


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--libraries", type=pathlib.Path, required=True)
    parser.add_argument("--peers", type=pathlib.Path)
    parser.add_argument("--out", type=pathlib.Path)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--only", nargs="+", default=list(KERNELS), choices=KERNELS)
    parser.add_argument("--small", action="store_true")
    arguments = parser.parse_args()
    device = "cpu" if arguments.small else "cuda"
    if device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("gpu_kernels.py: torch finds no GPU here")
    torch.manual_seed(1)
    torch.ops.load_library(str(arguments.libraries / "libhippodrome_ops.so"))
    plain = device == "cuda" and (arguments.libraries / "libhippodrome_rivals.so").exists()
    if device == "cuda":
        torch.ops.load_library(str(arguments.libraries / "libhippodrome_cuda.so"))
    if plain:
        torch.ops.load_library(str(arguments.libraries / "libhippodrome_rivals.so"))
    peers = Peers(arguments.peers, plain)
    for name, why in peers.missing.items():
        print(f"{name} is missing: {why}", file=sys.stderr)
    clock = Clock(device)
    out = open(arguments.out, "a") if arguments.out else sys.stdout
    # Forward first of all kernels: Triton compiles the backward pass of SSD for a minute or more.
    for direction in ("forward", "backward"):
        for kernel in arguments.only:
            for batch, length in SMALL_SHAPES if arguments.small else SHAPES:
                width, sides = KERNELS[kernel](batch, length, device, peers, arguments.small)
                samples, differences = measure(sides, direction, clock, arguments.rounds)
                for side, taken in samples.items():
                    failed = isinstance(taken, str)
                    row = {"kind": "gpu_kernel", "kernel": kernel, "direction": direction,
                           "shape": f"B:{batch}/L:{length}/width:{width}", "side": side,
                           "status": "failed" if failed else "ok", "message": taken if failed else "",
                           "samples_seconds": [] if failed else taken,
                           "median_us": None if failed else statistics.median(taken) * 1e6,
                           "difference": differences.get(side), "provenance": provenance(peers, device)}
                    out.write(json.dumps(row) + "\n")
                    out.flush()
                del sides


if __name__ == "__main__":
    main()
