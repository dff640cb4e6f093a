"""The table of ResNet-50, against tracing it without computing anything."""

import importlib
from collections.abc import Callable, Iterator

import jax

from benchmarks import networks
from benchmarks.measure import Ratio, side_by_side


def cases(libraries: tuple[str, ...] = ("fx_linen",)) -> Iterator[Ratio]:
    sides: dict[str, Callable[[], object]] = {}
    for library in libraries:
        model, x = networks.resnet(importlib.import_module(library))
        sides[library] = lambda model=model, x=x: model.tabulate(jax.random.key(0), x)
        variables = jax.eval_shape(model.init, jax.random.key(0), x)
        sides["raw"] = lambda v=variables, x=x: jax.eval_shape(lambda v, x: networks.resnet_by_hand(v, x), v, x)
    yield from side_by_side("table of ResNet-50", sides, rounds=5, aims={"fx_linen": 1.5})
