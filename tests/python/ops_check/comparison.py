"""Results of a call, gradients among them, and how far they are from the twin's."""

import torch

# Greatest relative RMS difference of values and gradients between an op and its twin. In float32 either may be 1.5e-6 from the
# truth, behind a recurrence of 70 steps.
BOUNDS = {torch.float64: 1e-12, torch.float32: 3e-6, torch.bfloat16: 1e-3}


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


def expect_near(what, got, wanted, dtype):
    """The relative RMS difference, which must be within the bound of `dtype`."""
    assert got.shape == wanted.shape and got.dtype == wanted.dtype, (
        f"{what} is {got.dtype} {tuple(got.shape)}, the twin's {wanted.dtype} {tuple(wanted.shape)}"
    )
    d = difference(got, wanted)
    assert d <= BOUNDS[dtype], f"{what} differs from the twin's by {d:.2e} (relative RMS), over {BOUNDS[dtype]:.0e}"
    return d
