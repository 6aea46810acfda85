"""Checks libhippodrome_ops.so inside Python's torch. Usage: opcheck.py LIBRARY

Every public op goes through torch.library.opcheck (schema, autograd registration, fake tensors, AOT dispatch with symbolic
sizes) and has its values and gradients compared with its plain-loop twin. The ops behind them (`_name_forward`,
`_name_backward`) are caught while they run and go through the checks that hold for them. A registered op that no case
reaches is a failure, so a new op needs cases here. Updates in place are called without gradients.
"""

import functools
import sys
import time
import traceback
import warnings

# Not needed here, and torch says so in a warning.
warnings.filterwarnings("ignore", message="Failed to initialize NumPy")

import torch
from torch.utils._python_dispatch import TorchDispatchMode

NAMESPACE = "hippodrome::"
PUBLIC_CHECKS = ("test_schema", "test_autograd_registration", "test_faketensor", "test_aot_dispatch_dynamic")
# The ops behind the public ones are given gradients, not differentiated.
INNER_CHECKS = ("test_schema", "test_faketensor")
# Greatest relative RMS difference of values and gradients between an op and its twin. In float32 either may be 1.5e-6 from the
# truth, behind a recurrence of 70 steps.
BOUNDS = {torch.float64: 1e-12, torch.float32: 3e-6, torch.bfloat16: 1e-3}


class Inputs:
    """Deterministic leaf tensors. `strided` lays them out in a way that no kernel takes as it is."""

    def __init__(self, dtype, strided):
        self.dtype = dtype
        self.strided = strided
        self.generator = torch.Generator().manual_seed(20)

    def lay_out(self, tensor):
        # torch's own schema check cannot copy a strided tensor without elements.
        if not self.strided or tensor.numel() == 0:
            return tensor
        # Every other element of a larger array, axes in reverse order in memory.
        order = tuple(reversed(range(tensor.dim())))
        large = tensor.new_zeros([2 * size for size in reversed(tensor.shape)])
        view = large[tuple(slice(None, None, 2) for _ in order)].permute(order)
        return view.copy_(tensor)

    def normal(self, *shape, scale=1.0, shift=0.0, dtype=None):
        values = torch.randn(shape, generator=self.generator, dtype=torch.float64) * scale + shift
        return self.lay_out(values.to(dtype or self.dtype)).requires_grad_()

    def positive(self, *shape, **options):
        with torch.no_grad():
            values = self.normal(*shape, **options).abs_().add_(0.1)
        return values.detach().requires_grad_()

    def positions(self, batch, length):
        """Rows that start anew, continue the given state or begin with padding; in long rows, each of that once more."""
        rows = torch.arange(length).repeat(batch, 1)
        for b in range(batch):
            rows[b] += (0, 3, -1)[b % 3]
            if length > 8:
                start = length // 2 + b
                rows[b, start:] = torch.arange(length - start)
                rows[b, length // 3 : length // 3 + 2] = -1
                rows[b, length - 2 + b :] = -1
        return self.lay_out(rows)


# ---- the cases: op -> (inputs, sizes, whether the optional tensors are given) -> args, kwargs ------------------------------
# The sizes reach past a chunk of tokens and are no multiples of a vector.


def selective_scan(inputs, batch, channels, length, options, states=5, groups=None, **modes):
    shape = (batch, channels, length)
    inner = (batch, states, length) if groups is None else (batch, groups, states, length)
    args = (
        inputs.normal(*shape),
        inputs.normal(*shape, scale=0.5, shift=-2.0),
        inputs.positive(channels, states).detach().neg().requires_grad_(),
        inputs.normal(*inner),
        inputs.normal(*inner),
    )
    kwargs = {"delta_softplus": True, **modes}
    if options:
        kwargs["D"] = inputs.normal(channels)
        kwargs["z"] = inputs.normal(*shape)
        kwargs["delta_bias"] = inputs.normal(channels)
        kwargs["initial_state"] = inputs.normal(batch, channels, states)
        kwargs["positions"] = inputs.positions(batch, length)
    return args, kwargs


def wkv4(inputs, batch, channels, length, options):
    args = (
        inputs.positive(channels).detach().neg().requires_grad_(),
        inputs.normal(channels),
        inputs.normal(batch, length, channels),
        inputs.normal(batch, length, channels),
    )
    kwargs = {}
    if options:
        # Numerator, denominator (positive) and maximum.
        state = torch.randn(batch, 3, channels, generator=inputs.generator, dtype=torch.float64)
        state[:, 1] = state[:, 1].abs() + 0.5
        kwargs["state"] = inputs.lay_out(state.to(inputs.dtype)).requires_grad_()
        kwargs["positions"] = inputs.positions(batch, length)
    return args, kwargs


def causal_conv1d(inputs, batch, channels, length, options, taps=4):
    args = (inputs.normal(batch, channels, length), inputs.normal(channels, taps))
    kwargs = {}
    if options:
        kwargs["bias"] = inputs.normal(channels)
        kwargs["activation"] = "silu"
        kwargs["initial_state"] = inputs.normal(batch, channels, taps - 1)
        kwargs["positions"] = inputs.positions(batch, length)
    return args, kwargs


def lstm_scan(inputs, batch, channels, length, options):
    args = (
        inputs.normal(batch, length, 4 * channels),
        inputs.normal(4 * channels, channels, scale=channels**-0.5),
    )
    kwargs = {}
    if options:
        kwargs["h0"] = inputs.normal(batch, channels)
        kwargs["c0"] = inputs.normal(batch, channels)
        kwargs["positions"] = inputs.positions(batch, length)
    return args, kwargs


def gru_scan(inputs, batch, channels, length, options):
    args = (
        inputs.normal(batch, length, 3 * channels),
        inputs.normal(3 * channels, channels, scale=channels**-0.5),
        inputs.normal(channels),
    )
    kwargs = {}
    if options:
        kwargs["h0"] = inputs.normal(batch, channels)
        kwargs["positions"] = inputs.positions(batch, length)
    return args, kwargs


def diagonal_scan(inputs, batch, channels, length, options, states=3):
    shape = (channels, states)
    # |a| < 1, so that the state stays bounded.
    args = (
        inputs.normal(batch, channels, length),
        inputs.normal(*shape, scale=0.05, shift=0.8),
        inputs.normal(*shape, scale=0.1),
        *(inputs.normal(*shape) for _ in range(4)),
    )
    kwargs = {}
    if options:
        kwargs["state"] = inputs.normal(batch, channels, states, 2)
        kwargs["positions"] = inputs.positions(batch, length)
    return args, kwargs


def causal_fir(inputs, batch, channels, length, options, taps=11):
    args = (inputs.normal(batch, length, channels), inputs.normal(taps, channels))
    kwargs = {}
    if options:
        kwargs["state"] = inputs.normal(batch, taps, channels)
        kwargs["positions"] = inputs.positions(batch, length)
    return args, kwargs


def dplr_scan(inputs, batch, channels, length, options, states=3, rank=2):
    shape = (channels, states, 2)
    # A contraction with a small low-rank part, so that the state stays bounded.
    args = (
        inputs.normal(batch, channels, length),
        inputs.normal(*shape, scale=0.05, shift=0.5),
        *(inputs.normal(*shape) for _ in range(2)),
        *(inputs.normal(channels, rank, states, 2, scale=0.1) for _ in range(2)),
    )
    kwargs = {}
    if options:
        kwargs["state"] = inputs.normal(batch, channels, states, 2)
        kwargs["positions"] = inputs.positions(batch, length)
    return args, kwargs


def ssd(inputs, batch, heads, length, options, head_size=3, states=5, groups=1):
    inner = (batch, length, groups, states)
    args = (
        inputs.normal(batch, length, heads, head_size),
        inputs.normal(batch, length, heads, scale=0.5, shift=-2.0),
        inputs.positive(heads).detach().neg().requires_grad_(),
        inputs.normal(*inner),
        inputs.normal(*inner),
    )
    kwargs = {"dt_softplus": True}
    if options:
        kwargs["D"] = inputs.normal(heads)
        kwargs["z"] = inputs.normal(batch, length, heads, head_size)
        kwargs["dt_bias"] = inputs.normal(heads)
        kwargs["dt_low"], kwargs["dt_high"] = 0.05, 0.9
        kwargs["chunk"] = 64
        kwargs["initial_state"] = inputs.normal(batch, heads, head_size, states)
        kwargs["positions"] = inputs.positions(batch, length)
    return args, kwargs


def swiglu(inputs, batch, channels, length, options):
    return (inputs.normal(batch, length, 2 * channels),), {}


def gated_rms_norm(inputs, batch, channels, length, options):
    args = (
        inputs.normal(batch, length, channels),
        inputs.normal(batch, length, channels),
        inputs.normal(channels),
    )
    return args, {"groups": 2, "epsilon": 1e-3, "norm_before_gate": True} if options else {}


def causal_attention(inputs, batch, channels, length, options, shared=1):
    heads = 2 * shared
    size = channels // 2
    args = (
        inputs.normal(batch, heads, length, size),
        inputs.normal(batch, 2, length + 3, size),
        inputs.normal(batch, 2, length + 3, size),
    )
    kwargs = {}
    if options:
        kwargs["scale"] = 0.3
        kwargs["window"] = 20
        kwargs["positions"] = inputs.positions(batch, length + 3)
    return args, kwargs


def additive_attention(inputs, batch, channels, length, options):
    args = (
        inputs.normal(batch, 5, channels),
        inputs.normal(batch, length, channels),
        inputs.normal(channels),
        inputs.normal(batch, length, channels + 3),
    )
    return args, {"positions": inputs.positions(batch, length)} if options else {}


def additive_attention_weights(inputs, batch, channels, length, options):
    args, kwargs = additive_attention(inputs, batch, channels, length, options)
    return tuple(t.detach() for t in args[:3]), kwargs


def attentive_scan(inputs, batch, channels, length, options, cell="gru", hypotheses=1):
    gates, features, width = (4 if cell == "lstm" else 3) * channels, channels + 1, channels + 2
    rows = batch * hypotheses
    args = (
        cell,
        inputs.normal(rows, length, gates),
        inputs.normal(gates, channels, scale=channels**-0.5),
        inputs.normal(gates, width, scale=channels**-0.5),
        inputs.normal(features, channels, scale=channels**-0.5),
        inputs.normal(batch, 5, features),
        inputs.normal(features),
        inputs.normal(batch, 5, width),
    )
    kwargs = {}
    if options:
        kwargs["s0"] = inputs.normal(rows, channels)
        if cell == "lstm":
            kwargs["c0"] = inputs.normal(rows, channels)
        kwargs["source_positions"] = inputs.positions(batch, 5)
        kwargs["positions"] = inputs.positions(rows, length)
    return args, kwargs


def cauchy(inputs, rows, channels, length, options, states=3):
    # Poles away from the imaginary axis, where the sums are not defined.
    poles = inputs.normal(channels, states, 2, scale=0.05, shift=0.5)
    return (inputs.normal(channels, rows, states, 2), poles, length), {}


CASES = {
    "selective_scan": {
        "selective_scan": selective_scan,
        "groups": functools.partial(selective_scan, groups=2),
        "complex": functools.partial(selective_scan, states=4, complex=True, zero_order_hold=True),
    },
    "ssd": {"ssd": ssd, "groups": functools.partial(ssd, groups=2)},
    "wkv4": {"wkv4": wkv4},
    "causal_conv1d": {
        "causal_conv1d": causal_conv1d,
        "one tap": functools.partial(causal_conv1d, taps=1),
    },
    "lstm_scan": {"lstm_scan": lstm_scan},
    "gru_scan": {"gru_scan": gru_scan},
    "diagonal_scan": {"diagonal_scan": diagonal_scan},
    "causal_fir": {"causal_fir": causal_fir},
    "swiglu": {"swiglu": swiglu},
    "gated_rms_norm": {"gated_rms_norm": gated_rms_norm},
    "causal_attention": {
        "causal_attention": causal_attention,
        "grouped": functools.partial(causal_attention, shared=2),
    },
    "additive_attention": {"additive_attention": additive_attention},
    "additive_attention_weights": {"additive_attention_weights": additive_attention_weights},
    "attentive_scan": {
        "gru": attentive_scan,
        "lstm": functools.partial(attentive_scan, cell="lstm"),
        "hypotheses": functools.partial(attentive_scan, hypotheses=3),
    },
    "dplr_scan": {"dplr_scan": dplr_scan, "one rank": functools.partial(dplr_scan, rank=1)},
    "cauchy": {"cauchy": cauchy},
}
POSITION_WISE = {"swiglu", "gated_rms_norm"}
SIZES = [(2, 18, 70), (3, 6, 1)]  # B, D, L
# Results to look at, which have no gradient.
WITHOUT_GRADIENT = {"additive_attention_weights"}
# Ops on parameters instead of sequences: without positions, and never in low precision.
ON_PARAMETERS = {"cauchy"}


def variants(op):
    """Yields a label, the dtype and fresh (args, kwargs) for every case of an op."""
    for name, make in CASES[op].items():
        for sizes in SIZES:
            for dtype in (torch.float32, torch.float64, torch.bfloat16)[: 2 if op in ON_PARAMETERS else 3]:
                for strided in (False, True):
                    for options in (False, True):
                        label = f"{name} B,D,L={sizes} {str(dtype)[6:]}"
                        label += " strided" * strided + " with state and positions" * options
                        yield label, dtype, make(Inputs(dtype, strided), *sizes, options)


# ---- updates in place, for inference --------------------------------------------------------------------------------------
# Each gives the arguments, the state among them, and a function for what the plain twin makes of them: y and the new state.


def scan_step(inputs, batch, channels, options, groups=2):
    states, ops = 5, torch.ops.hippodrome
    x, delta, z = (inputs.normal(batch, channels, 1) for _ in range(3))
    A = inputs.positive(channels, states).detach().neg()
    B, C = (inputs.normal(batch, groups, states, 1) for _ in range(2))
    D, bias = inputs.normal(channels), inputs.normal(channels)
    state = inputs.normal(batch, channels, 1, states, dtype=wide(inputs.dtype)).detach().contiguous()
    if not options:
        D = bias = z = None
    positions = inputs.positions(batch, 1) if options else None
    args = (x, delta[..., 0], A, B[..., 0], C[..., 0], D, z, bias, True, -1.0, None, state, positions)
    before = state[:, :, 0].clone()

    def twin():
        y, last = ops.selective_scan_reference(
            x, delta, A, B, C, D, z, bias, delta_softplus=True, initial_state=before, positions=positions
        )
        return y, last.unsqueeze(2)

    return args, state, twin


def causal_conv1d_in_place(inputs, batch, channels, options):
    args, kwargs = causal_conv1d(inputs, batch, channels, 9, True)
    if not options:
        kwargs["bias"] = kwargs["positions"] = None
    state = kwargs["initial_state"].detach().to(wide(inputs.dtype)).contiguous()
    kwargs["initial_state"] = state.clone()
    in_place = (*args, kwargs["bias"], kwargs["activation"], state, kwargs["positions"])
    return in_place, state, lambda: torch.ops.hippodrome.causal_conv1d_reference(*args, **kwargs)


def wide(dtype):
    return torch.float64 if dtype == torch.float64 else torch.float32


IN_PLACE = {"scan_step": scan_step, "_causal_conv1d_in_place": causal_conv1d_in_place}


# ---- the checks -----------------------------------------------------------------------------------------------------------


def describe(argument):
    if isinstance(argument, (list, tuple)):
        return f"[{', '.join(map(describe, argument))}]"
    if not isinstance(argument, torch.Tensor):
        return repr(argument)
    return str(argument.dtype)[6:] + str(argument.dim()) + ("" if argument.is_contiguous() else "s")


class Inner(TorchDispatchMode):
    """Keeps the first call of each of our ops that is not public, for every set of given arguments and dtypes."""

    def __init__(self):
        super().__init__()
        self.calls = {}

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if function.name().startswith(NAMESPACE + "_"):
            kind = tuple(map(describe, (*args, *kwargs.values())))
            self.calls.setdefault((function, kind), (args, kwargs))
        return function(*args, **kwargs)


def leaves(args, kwargs):
    return [t for t in (*args, *kwargs.values()) if isinstance(t, torch.Tensor) and t.requires_grad]


def as_tuple(outputs):
    return (outputs,) if isinstance(outputs, torch.Tensor) else outputs


def run(op, args, kwargs):
    """Outputs, and the gradients of a fixed random combination of them."""
    outputs = as_tuple(op(*args, **kwargs))
    if not leaves(args, kwargs):
        return outputs
    generator = torch.Generator().manual_seed(4)
    directions = [torch.randn(y.shape, generator=generator, dtype=torch.float64).to(y.dtype) for y in outputs]
    return (*outputs, *torch.autograd.grad(outputs, leaves(args, kwargs), directions))


def difference(got, wanted):
    got, wanted = got.detach().double(), wanted.detach().double()
    if got.numel() == 0:
        return 0.0
    if not bool(torch.isfinite(got).all()):
        return float("inf")
    return float((got - wanted).square().mean().sqrt() / wanted.square().mean().sqrt().clamp_min(1e-6))


def agree(op, twin, dtype, args, kwargs):
    """Values and gradients against the twin's, and the same values where no gradient is wanted."""
    results, references = run(op, args, kwargs), run(twin, args, kwargs)
    worst = 0.0
    for i, (got, wanted) in enumerate(zip(results, references, strict=True)):
        assert got.shape == wanted.shape and got.dtype == wanted.dtype, (
            f"result {i} is {got.dtype} {tuple(got.shape)}, the twin's {wanted.dtype} {tuple(wanted.shape)}"
        )
        d = difference(got, wanted)
        assert d <= BOUNDS[dtype], f"result {i} differs from the twin's by {d:.2e} (relative RMS), over {BOUNDS[dtype]:.0e}"
        worst = max(worst, d)
    for function in (op, twin):
        with torch.no_grad():
            without = as_tuple(function(*args, **kwargs))
        assert not any(y.requires_grad for y in without), "outputs require gradients under no_grad"
        for y, z in zip(without, as_tuple(function(*args, **kwargs)), strict=True):
            d = difference(y, z)
            assert d <= BOUNDS[dtype], f"an output changes by {d:.2e} when no gradient is wanted"
    return worst


def once_only(op, args, kwargs):
    """A second differentiation raises an error; silence would be a wrong gradient."""
    outputs = as_tuple(op(*args, **kwargs))
    total = sum(y.double().square().sum() for y in outputs)
    first = torch.autograd.grad(total, leaves(args, kwargs), create_graph=True)
    try:
        torch.autograd.grad(sum(g.double().square().sum() for g in first), leaves(args, kwargs))
    except RuntimeError as error:
        text = str(error)
        assert any(part in text for part in ("not implemented", "once only", "no derivative")), text
    else:
        raise AssertionError("a second differentiation raised no error")


def one_graph(op, make, options):
    """A graph captured with symbolic sizes serves other batches and lengths, with eager mode's values and gradients."""
    torch._dynamo.reset()
    compiled = torch.compile(op, backend="aot_eager", dynamic=True, fullgraph=True)
    with torch._dynamo.config.patch(error_on_recompile=True):
        # Two chunks or more, and batches unlike any other size: one chunk, or two equal sizes, rightly make a graph apart.
        for sizes in ((7, 18, 70), (8, 18, 100), (11, 18, 150)):
            args, kwargs = make(Inputs(torch.float64, False), *sizes, options)
            for got, wanted in zip(run(compiled, args, kwargs), run(op, args, kwargs), strict=True):
                assert torch.equal(got, wanted), f"at B,D,L={sizes} compiled and eager results differ"


class Tally:
    def __init__(self):
        self.passed, self.failed = 0, []

    def check(self, label, body):
        try:
            result = body()
        except Exception as error:  # opcheck raises many kinds; each is a failure of this check alone
            lines = [line for line in str(error).strip().splitlines() if line.strip()]
            print(f"FAILED: {label}: {type(error).__name__}: " + "\n    ".join(lines[:12]), flush=True)
            if not lines:
                traceback.print_exc()
            self.failed.append(label)
            return None
        self.passed += 1
        return result


def check_op(name, tally):
    op = getattr(torch.ops.hippodrome, name).default
    twin = getattr(torch.ops.hippodrome, name + "_reference").default
    schema, twin_schema = (str(function._schema).partition("(")[2] for function in (op, twin))
    assert schema == twin_schema, f"the schemas differ: {schema} and {twin_schema}"
    # Where tokens do not meet, positions do not matter.
    if name not in POSITION_WISE | ON_PARAMETERS:
        assert op._schema.arguments[-1].name == "positions", f"{op._schema} does not end in positions"
    worst = {}
    inner = Inner()
    began = time.time()
    for label, dtype, (args, kwargs) in variants(name):
        d = tally.check(f"{label}: values", lambda: agree(op, twin, dtype, args, kwargs))
        worst[dtype] = max(worst.get(dtype, 0.0), d or 0.0)
        with inner:
            for function in (op, twin):
                tally.check(f"{label}: run", lambda: run(function, args, kwargs))
        # The checks below look at shapes, layouts and registrations: no need for them in every dtype.
        if dtype == torch.float64:
            continue
        for function in (op, twin):
            tally.check(
                f"{function.name()}, {label}",
                lambda: torch.library.opcheck(function, args, kwargs, test_utils=PUBLIC_CHECKS),
            )
    for function in (op, twin):
        for label, dtype, (args, kwargs) in variants(name):
            if dtype == torch.float32 and name not in WITHOUT_GRADIENT:
                tally.check(f"{function.name()}, {label}: second derivative", lambda: once_only(function, args, kwargs))
    for function in (op, twin):
        for label, make in CASES[name].items():
            for options in (False, True):
                tally.check(
                    f"{function.name()}, {label}{' with state and positions' * options}: one graph",
                    lambda: one_graph(function, make, options),
                )
    for (function, kind), (args, kwargs) in inner.calls.items():
        tally.check(
            f"{function.name()}({', '.join(kind)})",
            lambda: torch.library.opcheck(function, args, kwargs, test_utils=INNER_CHECKS),
        )
    differences = ", ".join(f"{str(dtype)[6:]} {d:.1e}" for dtype, d in worst.items())
    print(f"{name}: against its twin at most {differences}; {time.time() - began:.0f} s", flush=True)
    return {op.name(), twin.name(), *(function.name() for function, _ in inner.calls)}


def check_in_place(name, tally):
    op = getattr(torch.ops.hippodrome, name).default

    def same_as_the_twin(args, state, twin, dtype):
        wanted = twin()
        y = op(*args)
        for what, got, want in (("y", y, wanted[0]), ("the state", state, wanted[1])):
            assert got.shape == want.shape and got.dtype == want.dtype, f"{what} is {got.dtype} {tuple(got.shape)}"
            d = difference(got, want)
            assert d <= BOUNDS[dtype], f"{what} differs from the twin's by {d:.2e} (relative RMS)"

    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        for strided in (False, True):
            for options in (False, True):
                label = f"{name} {str(dtype)[6:]}" + " strided" * strided + " with all arguments" * options
                with torch.no_grad():
                    args, state, twin = IN_PLACE[name](Inputs(dtype, strided), 3, 6, options)
                    tally.check(label, lambda: torch.library.opcheck(op, args, {}, test_utils=INNER_CHECKS))
                    tally.check(f"{label}: values", lambda: same_as_the_twin(args, state, twin, dtype))
    return {op.name()}


def one_library_each(tally):
    """The library uses this Python's LibTorch and OpenMP, not a second copy by way of its own search path."""

    def body():
        with open("/proc/self/maps") as maps:
            files = {line.split()[-1] for line in maps if ".so" in line}
        for start in ("libtorch_cpu.so", "libc10.so", "libgomp"):
            found = sorted(f for f in files if f.rsplit("/", 1)[-1].startswith(start))
            assert len(found) == 1, f"{start} is loaded {len(found)} times: {found}"

    tally.check("one copy of each library", body)


def main():
    if len(sys.argv) != 2:
        sys.exit("usage: opcheck.py LIBRARY")
    torch.set_num_threads(1)
    torch.ops.load_library(sys.argv[1])
    tally = Tally()
    one_library_each(tally)
    registered = {
        name.split(".")[0] for name in torch._C._dispatch_get_all_op_names() if name.startswith(NAMESPACE)
    }
    reached = set()
    for name in CASES:
        reached |= {n.split(".")[0] for n in check_op(name, tally)}
    for name in IN_PLACE:
        reached |= {n.split(".")[0] for n in check_in_place(name, tally)}
    for name in sorted(registered - reached):
        print(f"FAILED: {name} is registered and no case reaches it")
        tally.failed.append(name)
    print(f"{len(registered)} ops, {tally.passed} checks passed, {len(tally.failed)} failed")
    sys.exit(1 if tally.failed else 0)


if __name__ == "__main__":
    main()
