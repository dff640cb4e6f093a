"""Taking models apart and putting them together, against the least that JAX does with as many arrays.

The denominator of every ratio is one `jax.tree.flatten` followed by one `jax.tree.unflatten` of a flat list of as many
scalar arrays as the model has variables. The model is a list of blocks with ten `Param` each, which hold these arrays.

Cloning is compared with `jax.tree.map` over the same parameters in nested dictionaries, too: a copy of a tree that has
the model's structure, and what a program in raw JAX does.

A case that says "unchanged" repeats an operation on a model whose structure has not changed since; "new structure"
makes a model of that size for each measurement, and counts the first `split` of it.
"""

import functools
import importlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks.measure import Ratio, interleaved, side_by_side, wanted

SIZES = (1_000, 10_000)
PER_BLOCK = 10
AIMS = {"split": 3.0, "split(Param, ...)": 3.0, "merge": 5.0, "state": 5.0, "update": 2.0, "clone": 10.0}
FIRST = 40.0
COPY = 3.0


def model_of(nnx: Any, size: int) -> Any:
    """A model of ``size`` variables."""

    class Block(nnx.Module):
        def __init__(self) -> None:
            for i in range(PER_BLOCK):
                setattr(self, f"p{i}", nnx.Param(value))

    class Model(nnx.Module):
        def __init__(self) -> None:
            self.blocks = nnx.List([Block() for _ in range(size // PER_BLOCK)])

    value = jnp.zeros(())
    return Model()


def operations(nnx: Any, model: Any) -> dict[str, Callable[[], object]]:
    """What people do with models."""
    graphdef, state = nnx.split(model)
    other = nnx.state(nnx.clone(model))
    return {
        "split": lambda: nnx.split(model),
        "split(Param, ...)": lambda: nnx.split(model, nnx.Param, ...),
        "merge": lambda: nnx.merge(graphdef, state),
        "state": lambda: nnx.state(model),
        "update": lambda: nnx.update(model, other),
        "clone": lambda: nnx.clone(model),
    }


def tree_operations(nnx: Any, model: Any) -> dict[str, Callable[[], object]]:
    """The same where modules are trees."""
    return {
        "split as a tree": lambda: nnx.split(model, graph=False),
        "clone as a tree": lambda: nnx.clone(model, graph=False),
    }


def equinox_operations(size: int) -> dict[str, Callable[[], object]]:
    """The same with Equinox, as far as it has the like."""
    eqx: Any = importlib.import_module("equinox")

    class Block(eqx.Module):
        params: list[Any]

    class Model(eqx.Module):
        blocks: list[Any]

    value = jnp.zeros(())
    model = Model([Block([value] * PER_BLOCK) for _ in range(size // PER_BLOCK)])
    params, rest = eqx.partition(model, eqx.is_array)
    return {
        "split": lambda: eqx.partition(model, eqx.is_array),
        "merge": lambda: eqx.combine(params, rest),
        "clone": lambda: jax.tree.map(lambda x: x, model),
    }


def raw_of(size: int) -> Callable[[], object]:
    """The denominator."""
    arrays = [jnp.zeros(()) for _ in range(size)]

    def flatten_and_unflatten() -> object:
        leaves, treedef = jax.tree.flatten(arrays)
        return jax.tree.unflatten(treedef, leaves)

    return flatten_and_unflatten


def beside_nested(size: int, sides: dict[str, Callable[[], object]], rounds: int) -> Iterator[Ratio]:
    """Clones, against a copy of the parameters as a program in raw JAX holds them."""
    case = f"clone, {size:,} variables, over jax.tree.map of nested dictionaries"
    if wanted(case) and "fx_nnx" in sides:
        nnx = importlib.import_module("fx_nnx")
        params = nnx.to_pure_dict(nnx.state(model_of(nnx, size)))
        raw = functools.partial(jax.tree.map, lambda x: x, params)
        yield from side_by_side(case, {**sides, "raw": raw}, rounds=rounds, aims={"fx_nnx": COPY})


def first_split(nnx: Any, size: int) -> tuple[Callable[[], object], Callable[[], None]]:
    """A split of a model that was never looked at, and how to get the next one."""
    models: list[Any] = []

    def prepare() -> None:
        models[:] = [model_of(nnx, size)]

    return lambda: nnx.split(models[0]), prepare


def cases(libraries: Sequence[str] = ("fx_nnx",)) -> Iterator[Ratio]:
    """Each operation of each library that is there, and modules as trees."""
    for size in SIZES:
        raw, rounds = raw_of(size), 25 if size == SIZES[0] else 9
        ways: dict[str, dict[str, Callable[[], object]]] = {}
        for library in libraries:
            if library == "equinox":
                found = equinox_operations(size)
            else:
                nnx = importlib.import_module(library)
                found = {**operations(nnx, model_of(nnx, size)), **tree_operations(nnx, model_of(nnx, size))}
            for name, run in found.items():
                ways.setdefault(name, {})[library] = run
        for name, sides in ways.items():
            case = f"{name}, {size:,} variables, unchanged"
            if wanted(case):
                aims = {"fx_nnx": AIMS[name]} if name in AIMS else {}
                yield from side_by_side(case, {**sides, "raw": raw}, rounds=rounds, aims=aims)
        yield from beside_nested(size, ways["clone"], rounds)
    case = f"first split, {SIZES[0]:,} variables, new structure"
    for library in libraries:
        if library != "equinox" and wanted(case):
            run, prepare = first_split(importlib.import_module(library), SIZES[0])
            aim = FIRST if library == "fx_nnx" else None
            yield interleaved(case, run, raw_of(SIZES[0]), aim=aim, prepare=prepare, library=library)
