"""Tracing the making of parameters inside of jit, against drawing as many arrays with keys made by hand."""

import importlib
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks import networks, nnx_networks
from benchmarks.measure import Ratio, side_by_side, wanted
from benchmarks.nnx_trace import tracing

NAMES = {"mlp": "MLP of 100 layers", "resnet": "ResNet-50", "transformer": "transformer of 12 blocks", "rnn": "LSTM"}
OBJECTS = {"rnn": "lstm"}


def drawn_by_hand(shapes: Any) -> Callable[..., Any]:
    """Draw kernels as layers do, and fill the rest."""
    flat, treedef = jax.tree_util.tree_flatten_with_path(shapes)

    def draw(key: jax.Array) -> Any:
        made: list[jax.Array] = []
        for number, (path, leaf) in enumerate(flat):
            name = path[-1].key
            if name == "kernel":
                fan_in = max(1, leaf.size // leaf.shape[-1])
                drawn = jax.random.truncated_normal(jax.random.fold_in(key, number), -2, 2, leaf.shape, leaf.dtype)
                made.append(drawn * (fan_in**-0.5 / 0.8796))
            else:
                made.append(jnp.full(leaf.shape, float(name in ("scale", "var")), leaf.dtype))
        return jax.tree.unflatten(treedef, made)

    return draw


def cases(libraries: tuple[str, ...] = ("fx_linen", "fx_nnx")) -> Iterator[Ratio]:
    for name, title in NAMES.items():
        case = f"trace of init in jit, {title}"
        if not wanted(case):
            continue
        sides: dict[str, Callable[[], object]] = {}
        for library in libraries:
            if library in ("equinox", "haiku"):
                init = importlib.import_module(f"benchmarks.{library}_networks").network(name)[0]
                sides[library] = tracing(init, jax.random.key(0))
                continue
            module: Any = importlib.import_module(library)
            if library.endswith("linen"):
                model, x = getattr(networks, name)(module)
                sides[library] = tracing(model.init, jax.random.key(0), x)
                sides["raw"] = tracing(
                    drawn_by_hand(jax.eval_shape(model.init, jax.random.key(0), x)), jax.random.key(0)
                )
            else:
                build = getattr(nnx_networks, OBJECTS.get(name, name))
                sides[library] = tracing(lambda module=module, build=build: module.state(build(module)[0]))
        if "raw" in sides:
            yield from side_by_side(case, sides, rounds=11)
