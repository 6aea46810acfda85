"""State spaces that do not depend on the input: those of S4, S4D and H3, and what their parameters go through."""

import functools

import torch

from ..operator import Operator


def state_and_positions(inputs, state, batch, length, options):
    return {"state": inputs.normal(*state), "positions": inputs.positions(batch, length)} if options else {}


def diagonal_scan(inputs, batch, channels, length, options, states=3):
    shape = (channels, states)
    # |a| < 1, so that the state stays bounded.
    args = (
        inputs.normal(batch, channels, length),
        inputs.normal(*shape, scale=0.05, shift=0.8),
        inputs.normal(*shape, scale=0.1),
        *(inputs.normal(*shape) for _ in range(4)),
    )
    return args, state_and_positions(inputs, (batch, channels, states, 2), batch, length, options)


def dplr_scan(inputs, batch, channels, length, options, states=3, rank=2):
    shape = (channels, states, 2)
    # A contraction with a small low-rank part, so that the state stays bounded.
    args = (
        inputs.normal(batch, channels, length),
        inputs.normal(*shape, scale=0.05, shift=0.5),
        *(inputs.normal(*shape) for _ in range(2)),
        *(inputs.normal(channels, rank, states, 2, scale=0.1) for _ in range(2)),
    )
    return args, state_and_positions(inputs, (batch, channels, states, 2), batch, length, options)


def causal_fir(inputs, batch, channels, length, options, taps=11):
    args = (inputs.normal(batch, length, channels), inputs.normal(taps, channels))
    return args, state_and_positions(inputs, (batch, taps, channels), batch, length, options)


def cauchy(inputs, rows, channels, length, options, states=3):
    # Poles away from the imaginary axis, where the sums are not defined.
    poles = inputs.normal(channels, states, 2, scale=0.05, shift=0.5)
    return (inputs.normal(channels, rows, states, 2), poles, length), {}


OPERATORS = {
    "diagonal_scan": Operator({"diagonal_scan": diagonal_scan}),
    "causal_fir": Operator({"causal_fir": causal_fir}),
    "dplr_scan": Operator({"dplr_scan": dplr_scan, "one rank": functools.partial(dplr_scan, rank=1)}),
    # On parameters instead of sequences: never in low precision.
    "cauchy": Operator({"cauchy": cauchy}, positions=False, dtypes=(torch.float32, torch.float64)),
}
