"""RWKV's op."""

from ..operator import Operator


def wkv4(inputs, batch, channels, length, options):
    args = (
        inputs.negative(channels),
        inputs.normal(channels),
        inputs.normal(batch, length, channels),
        inputs.normal(batch, length, channels),
    )
    kwargs = {}
    if options:
        # Numerator, denominator (positive) and maximum.
        state = inputs.draw(batch, 3, channels)
        state[:, 1] = state[:, 1].abs() + 0.5
        kwargs = {"state": inputs.leaf(state), "positions": inputs.positions(batch, length)}
    return args, kwargs


OPERATORS = {"wkv4": Operator({"wkv4": wkv4})}
