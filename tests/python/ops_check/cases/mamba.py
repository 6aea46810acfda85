"""Mamba's ops: selective_scan, ssd, causal_conv1d, gated_rms_norm, and the updates in place of decoding."""

import functools

import torch

from ..operator import Operator


def selective_scan(inputs, batch, channels, length, options, states=5, groups=None, **modes):
    shape = (batch, channels, length)
    inner = (batch, states, length) if groups is None else (batch, groups, states, length)
    args = (
        inputs.normal(*shape),
        inputs.normal(*shape, scale=0.5, shift=-2.0),
        inputs.negative(channels, states),
        inputs.normal(*inner),
        inputs.normal(*inner),
    )
    kwargs = {"delta_softplus": True, **modes}
    if options:
        kwargs |= {
            "D": inputs.normal(channels),
            "z": inputs.normal(*shape),
            "delta_bias": inputs.normal(channels),
            "initial_state": inputs.normal(batch, channels, states),
            "positions": inputs.positions(batch, length),
        }
    return args, kwargs


def ssd(inputs, batch, heads, length, options, head_size=3, states=5, groups=1):
    inner = (batch, length, groups, states)
    args = (
        inputs.normal(batch, length, heads, head_size),
        inputs.normal(batch, length, heads, scale=0.5, shift=-2.0),
        inputs.negative(heads),
        inputs.normal(*inner),
        inputs.normal(*inner),
    )
    kwargs = {"dt_softplus": True}
    if options:
        kwargs |= {
            "D": inputs.normal(heads),
            "z": inputs.normal(batch, length, heads, head_size),
            "dt_bias": inputs.normal(heads),
            "dt_low": 0.05,
            "dt_high": 0.9,
            "chunk": 64,
            "initial_state": inputs.normal(batch, heads, head_size, states),
            "positions": inputs.positions(batch, length),
        }
    return args, kwargs


def causal_conv1d(inputs, batch, channels, length, options, taps=4):
    args = (inputs.normal(batch, channels, length), inputs.normal(channels, taps))
    kwargs = {}
    if options:
        kwargs = {
            "bias": inputs.normal(channels),
            "activation": "silu",
            "initial_state": inputs.normal(batch, channels, taps - 1),
            "positions": inputs.positions(batch, length),
        }
    return args, kwargs


def gated_rms_norm(inputs, batch, channels, length, options):
    args = (
        inputs.normal(batch, length, channels),
        inputs.normal(batch, length, channels),
        inputs.normal(channels),
    )
    return args, {"groups": 2, "epsilon": 1e-3, "norm_before_gate": True} if options else {}


def scan_step(inputs, batch, channels, options, groups=2):
    states, ops = 5, torch.ops.hippodrome
    x, delta, z = (inputs.normal(batch, channels, 1) for _ in range(3))
    A = inputs.negative(channels, states)
    B, C = (inputs.normal(batch, groups, states, 1) for _ in range(2))
    D, bias = inputs.normal(channels), inputs.normal(channels)
    state = inputs.normal(batch, channels, 1, states, dtype=inputs.wide_dtype).detach().contiguous()
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
    state = kwargs["initial_state"].detach().to(inputs.wide_dtype).contiguous()
    kwargs["initial_state"] = state.clone()
    in_place = (*args, kwargs["bias"], kwargs["activation"], state, kwargs["positions"])
    return in_place, state, lambda: torch.ops.hippodrome.causal_conv1d_reference(*args, **kwargs)


OPERATORS = {
    "selective_scan": Operator(
        {
            "selective_scan": selective_scan,
            "groups": functools.partial(selective_scan, groups=2),
            "complex": functools.partial(selective_scan, states=4, complex=True, zero_order_hold=True),
        }
    ),
    "ssd": Operator({"ssd": ssd, "groups": functools.partial(ssd, groups=2)}),
    "causal_conv1d": Operator(
        {"causal_conv1d": causal_conv1d, "one tap": functools.partial(causal_conv1d, taps=1)}
    ),
    "gated_rms_norm": Operator({"gated_rms_norm": gated_rms_norm}, positions=False),
}
UPDATES_IN_PLACE = {"scan_step": scan_step, "_causal_conv1d_in_place": causal_conv1d_in_place}
