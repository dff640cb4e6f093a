"""What tracing a Linen network costs over tracing the same function written by hand."""

import importlib
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

from benchmarks import networks
from benchmarks.measure import Ratio, side_by_side, wanted

CASES: dict[str, tuple[str, Callable[..., Any], int]] = {
    "MLP of 100 layers": ("mlp", lambda v, x: networks.mlp_by_hand(v["params"], x), 15),
    "ResNet-50": ("resnet", networks.resnet_by_hand, 7),
    "transformer of 12 blocks": ("transformer", lambda v, x: networks.transformer_by_hand(v["params"], x), 7),
    "RNN of LSTM cells": ("rnn", lambda v, x: networks.rnn_by_hand(v["params"], x), 25),
}


def lowering(fn: Callable[..., Any], *args: Any) -> Callable[[], object]:
    # A new function object each time, or JAX would return the trace of the last call.
    return lambda: jax.jit(lambda *args: fn(*args)).lower(*args)


def cases(libraries: tuple[str, ...] = ("fx_linen",)) -> Iterator[Ratio]:
    for title, (name, by_hand, rounds) in CASES.items():
        case = f"trace and lower, {title}"
        if not wanted(case):
            continue
        sides: dict[str, Callable[[], object]] = {}
        for library in libraries:
            if library == "haiku":
                init, apply, x = importlib.import_module("benchmarks.haiku_networks").network(name)
                sides[library] = lowering(apply, init(jax.random.key(0)), x)
                continue
            model, x = getattr(networks, name)(importlib.import_module(library))
            variables = model.init(jax.random.key(0), x)
            np.testing.assert_allclose(model.apply(variables, x), by_hand(variables, x), rtol=1e-3, atol=1e-4)
            sides[library] = lowering(model.apply, variables, x)
            sides["raw"] = lowering(by_hand, variables, x)
        yield from side_by_side(case, sides, rounds=rounds, aims={"fx_linen": 1.15 if "LSTM" in title else 1.1})
