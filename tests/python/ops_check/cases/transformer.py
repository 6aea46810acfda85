"""The transformer's ops."""

import functools

from ..operator import Operator


def swiglu(inputs, batch, channels, length, options):
    return (inputs.normal(batch, length, 2 * channels),), {}


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
        kwargs = {"scale": 0.3, "window": 20, "positions": inputs.positions(batch, length + 3)}
    return args, kwargs


OPERATORS = {
    "swiglu": Operator({"swiglu": swiglu}, positions=False),
    "causal_attention": Operator(
        {"causal_attention": causal_attention, "grouped": functools.partial(causal_attention, shared=2)}
    ),
}
