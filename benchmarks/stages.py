"""Trace, lower and compile one by one, of the output of a network: by libraries, and written by hand."""

import gc
import importlib
import itertools
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax

from benchmarks import networks, nnx_networks
from benchmarks.measure import QUICK, Ratio, ratios, wanted

STAGES = ("trace", "lower", "compile")
NETWORKS: dict[str, tuple[str, str, Callable[..., Any], Callable[..., Any]]] = {
    "MLP of 100 layers": ("mlp", "mlp", *[lambda v, x: networks.mlp_by_hand(v["params"], x)] * 2),
    "LSTM over time": (
        "rnn",
        "lstm",
        lambda v, x: networks.rnn_by_hand(v["params"], x),
        lambda v, x: nnx_networks.lstm_by_hand(v["params"], x),
    ),
    "transformer of 12 blocks": (
        "transformer",
        "transformer",
        *[lambda v, x: networks.transformer_by_hand(v["params"], x)] * 2,
    ),
    "ResNet-50": ("resnet", "resnet", *[networks.resnet_by_hand] * 2),
}
"""For each its names in `benchmarks.networks` and `benchmarks.nnx_networks`, and the functions by hand beside them."""
ROUNDS = 2 if QUICK else 3


def linen(library: str, name: str) -> tuple[Callable[..., Any], Any, jax.Array]:
    """A functional module's ``apply``, its variables without values, and an input."""
    model, x = getattr(networks, name)(importlib.import_module(library))
    return model.apply, jax.eval_shape(model.init, jax.random.key(0), x), x


def nnx(library: str, name: str) -> tuple[Callable[..., Any], Any, jax.Array, Any]:
    """The call of an object module, its state without values, an input, and the variables for what is by hand."""
    nnx: Any = importlib.import_module(library)
    model = nnx.eval_shape(lambda: getattr(nnx_networks, name)(nnx)[0])
    x = networks.INPUTS[{"lstm": "rnn"}.get(name, name)]()
    if name == "lstm":
        x = jax.numpy.ones((2, nnx_networks.STEPS, nnx_networks.FEATURES))
    graphdef, state = nnx.split(model)
    variables = {
        "params": nnx.to_pure_dict(nnx.state(model, nnx.Param)),
        "batch_stats": nnx.to_pure_dict(nnx.state(model, nnx.BatchStat)),
    }
    return lambda state, x: nnx.merge(graphdef, state)(x), state, x, variables


def stages(fn: Callable[..., Any], variables: Any, x: jax.Array) -> tuple[float, ...]:
    """CPU seconds of each stage, of a new function, as JAX keeps the trace of an old one."""
    gc.collect()
    gc.disable()  # a collection of what another stage has left takes as long as lowering
    try:
        times = [time.process_time()]
        traced = jax.jit(lambda *args: fn(*args)).trace(variables, x)
        times.append(time.process_time())
        lowered = traced.lower()
        times.append(time.process_time())
        lowered.compile()
        times.append(time.process_time())
    finally:
        gc.enable()
    return tuple(after - before for before, after in itertools.pairwise(times))


def cases(libraries: tuple[str, ...] = ("fx_linen", "fx_nnx")) -> Iterator[Ratio]:
    for title, (linen_name, nnx_name, linen_by_hand, nnx_by_hand) in NETWORKS.items():
        if not any(wanted(f"{stage}, {title}") for stage in STAGES):
            continue
        for kind in ("linen", "nnx"):
            sides: dict[str, tuple[Callable[..., Any], Any, jax.Array]] = {}
            for library in libraries:
                if library.endswith("linen") and kind == "linen":
                    sides[library] = linen(library, linen_name)
                    sides["raw"] = linen_by_hand, *sides[library][1:]
                elif library.endswith("nnx") and kind == "nnx":
                    fn, state, x, variables = nnx(library, nnx_name)
                    sides[library], sides["raw"] = (fn, state, x), (nnx_by_hand, variables, x)
            if sides:
                yield from _measured(title, sides)


def _measured(title: str, sides: dict[str, tuple[Callable[..., Any], Any, jax.Array]]) -> Iterator[Ratio]:
    for fn, variables, x in sides.values():
        jax.jit(lambda *args, fn=fn: fn(*args)).trace(variables, x)  # what is imported at the first trace
    taken: dict[str, list[tuple[float, ...]]] = {name: [] for name in sides}
    for _ in range(ROUNDS):
        for name, side in sides.items():
            taken[name].append(stages(*side))
    for number, stage in enumerate(STAGES):
        yield from ratios(f"{stage}, {title}", {name: [row[number] for row in rows] for name, rows in taken.items()})
