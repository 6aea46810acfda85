"""A public op and its twin: values, gradients, torch's own checks, compilation."""

import time

import torch

from .comparison import BOUNDS, as_tuple, difference, expect_near, leaves, run
from .inner import Inner
from .inputs import Inputs

PUBLIC_CHECKS = ("test_schema", "test_autograd_registration", "test_faketensor", "test_aot_dispatch_dynamic")


def agree(op, twin, dtype, args, kwargs):
    """Values and gradients against the twin's, and the same values where no gradient is wanted. The greatest difference."""
    results, references = run(op, args, kwargs), run(twin, args, kwargs)
    worst = max(
        expect_near(f"result {i}", got, wanted, dtype)
        for i, (got, wanted) in enumerate(zip(results, references, strict=True))
    )
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


def check_schemas(operator, op, twin):
    schema, twin_schema = (str(function._schema).partition("(")[2] for function in (op, twin))
    assert schema == twin_schema, f"the schemas differ: {schema} and {twin_schema}"
    if operator.positions:
        assert op._schema.arguments[-1].name == "positions", f"{op._schema} does not end in positions"


def check_variants(operator, op, twin, inner, tally):
    """The greatest difference of every dtype."""
    worst = {}
    for label, dtype, (args, kwargs) in operator.variants():
        d = tally.check(f"{op.name()}, {label}: values", lambda: agree(op, twin, dtype, args, kwargs))
        worst[dtype] = max(worst.get(dtype, 0.0), d or 0.0)
        with inner:
            for function in (op, twin):
                tally.check(f"{function.name()}, {label}: run", lambda: run(function, args, kwargs))
        # torch's checks look at shapes, layouts and registrations: no need for them in every dtype.
        if dtype == torch.float64:
            continue
        for function in (op, twin):
            tally.check(
                f"{function.name()}, {label}",
                lambda: torch.library.opcheck(function, args, kwargs, test_utils=PUBLIC_CHECKS),
            )
    return worst


def check_second_derivatives(operator, function, tally):
    for label, dtype, (args, kwargs) in operator.variants():
        if dtype == torch.float32:
            tally.check(f"{function.name()}, {label}: second derivative", lambda: once_only(function, args, kwargs))


def check_graphs(operator, function, tally):
    for label, make in operator.cases.items():
        for options in (False, True):
            tally.check(
                f"{function.name()}, {label}{' with state and positions' * options}: one graph",
                lambda: one_graph(function, make, options),
            )


def check_operator(name, operator, tally):
    """The names of the ops that were checked: this one, its twin and those behind them."""
    op = getattr(torch.ops.hippodrome, name).default
    twin = getattr(torch.ops.hippodrome, name + "_reference").default
    began = time.time()
    inner = Inner()
    tally.check(f"{name}: schemas", lambda: check_schemas(operator, op, twin))
    worst = check_variants(operator, op, twin, inner, tally)
    for function in (op, twin):
        if operator.differentiable:
            check_second_derivatives(operator, function, tally)
        check_graphs(operator, function, tally)
    inner.check(tally)
    differences = ", ".join(f"{str(dtype)[6:]} {d:.1e}" for dtype, d in worst.items())
    print(f"{name}: against its twin at most {differences}; {time.time() - began:.0f} s", flush=True)
    return {op.name(), twin.name()} | inner.names()
