"""What tracing an object module costs over tracing the same function written by hand."""

import importlib
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

from benchmarks import networks, nnx_networks
from benchmarks.measure import Ratio, side_by_side, wanted

CASES: dict[str, tuple[Callable[..., Any], Callable[..., Any], int, float]] = {
    "MLP of 100 layers": (nnx_networks.mlp, lambda v, x: networks.mlp_by_hand(v["params"], x), 15, 1.1),
    "ResNet-50": (nnx_networks.resnet, networks.resnet_by_hand, 7, 1.1),
    "transformer of 12 blocks": (
        nnx_networks.transformer,
        lambda v, x: networks.transformer_by_hand(v["params"], x),
        7,
        1.1,
    ),
    "LSTM over time": (nnx_networks.lstm, lambda v, x: nnx_networks.lstm_by_hand(v["params"], x), 40, 1.15),
}


def tracing(fn: Callable[..., Any], *args: Any) -> Callable[[], object]:
    # A new function object each time, or JAX would return the trace of the last call.
    return lambda: jax.jit(lambda *args: fn(*args)).trace(*args)


def cases(libraries: tuple[str, ...] = ("fx_nnx",)) -> Iterator[Ratio]:
    for name, (build, by_hand, rounds, aim) in CASES.items():
        case = f"trace, {name}"
        if not wanted(case):
            continue
        sides: dict[str, Callable[[], object]] = {}
        for library in libraries:
            if library == "equinox":
                equinox_name = {"lstm": "rnn"}.get(build.__name__, build.__name__)
                init, apply, x = importlib.import_module("benchmarks.equinox_networks").network(equinox_name)
                sides[library] = tracing(apply, init(jax.random.key(0)), x)
                continue
            nnx = importlib.import_module(library)
            model, x = build(nnx)
            graphdef, state = nnx.split(model)
            variables = {
                "params": nnx.to_pure_dict(nnx.state(model, nnx.Param)),
                "batch_stats": nnx.to_pure_dict(nnx.state(model, nnx.BatchStat)),
            }

            def apply(state: Any, x: jax.Array, graphdef: Any = graphdef, merge: Any = nnx.merge) -> jax.Array:
                return merge(graphdef, state, copy=True)(x)

            np.testing.assert_allclose(jax.jit(apply)(state, x), by_hand(variables, x), rtol=1e-3, atol=1e-4)
            sides[library], sides["raw"] = tracing(apply, state, x), tracing(by_hand, variables, x)
        yield from side_by_side(case, sides, rounds=rounds, aims={"fx_nnx": aim})
