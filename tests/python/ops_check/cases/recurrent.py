"""Gated recurrences, and attention from them to a source."""

import functools

from ..operator import Operator


def lstm_scan(inputs, batch, channels, length, options):
    args = (
        inputs.normal(batch, length, 4 * channels),
        inputs.normal(4 * channels, channels, scale=channels**-0.5),
    )
    kwargs = {}
    if options:
        kwargs = {
            "h0": inputs.normal(batch, channels),
            "c0": inputs.normal(batch, channels),
            "positions": inputs.positions(batch, length),
        }
    return args, kwargs


def gru_scan(inputs, batch, channels, length, options):
    args = (
        inputs.normal(batch, length, 3 * channels),
        inputs.normal(3 * channels, channels, scale=channels**-0.5),
        inputs.normal(channels),
    )
    kwargs = {}
    if options:
        kwargs = {"h0": inputs.normal(batch, channels), "positions": inputs.positions(batch, length)}
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


OPERATORS = {
    "lstm_scan": Operator({"lstm_scan": lstm_scan}),
    "gru_scan": Operator({"gru_scan": gru_scan}),
    "additive_attention": Operator({"additive_attention": additive_attention}),
    "additive_attention_weights": Operator(
        {"additive_attention_weights": additive_attention_weights}, differentiable=False
    ),
    "attentive_scan": Operator(
        {
            "gru": attentive_scan,
            "lstm": functools.partial(attentive_scan, cell="lstm"),
            "hypotheses": functools.partial(attentive_scan, hypotheses=3),
        }
    ),
}
