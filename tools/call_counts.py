"""Counts what a call goes through: `python tools/call_counts.py` prints functions, files and classes of ours.

A function stands for one that a reader of the call has to know; comprehensions belong to the function that they are
in. A class is one with a method among these functions. Whatever JAX and Python do is not counted.
"""

import os
import sys
from collections.abc import Callable, Iterator
from types import CodeType, FrameType
from typing import Any, NamedTuple


class Counts(NamedTuple):
    """What one call went through."""

    functions: int
    files: int
    classes: int
    calls: int


_COMPREHENSIONS = {"<listcomp>", "<dictcomp>", "<setcomp>", "<genexpr>"}


def codes_of(call: Callable[[], Any]) -> list[CodeType]:
    """Returns the code of every function of ours that a call runs, once for each time it is run."""
    found: list[CodeType] = []

    def note(frame: FrameType, event: str, arg: object) -> None:
        if event == "call" and f"{os.sep}fx_" in frame.f_code.co_filename:
            found.append(frame.f_code)

    sys.setprofile(note)
    try:
        call()
    finally:
        sys.setprofile(None)
    return [code for code in found if code.co_name not in _COMPREHENSIONS]


def counts_of(call: Callable[[], Any], besides: Callable[[], Any] | None = None) -> Counts:
    """Runs a call and counts; ``besides`` is another one, whose functions do not count."""
    codes = codes_of(call)
    if besides is not None:
        others = set(codes_of(besides))
        codes = [code for code in codes if code not in others]
    names = {(code.co_filename, code.co_firstlineno, code.co_qualname) for code in codes}
    owners = {(file, name.split(".<locals>")[0].rpartition(".")[0]) for file, _, name in names}
    classes = {(file, owner) for file, owner in owners if owner}
    return Counts(len(names), len({file for file, _, _ in names}), len(classes), len(codes))


def calls() -> Iterator[tuple[str, Callable[[int], Callable[[], Any]]]]:
    """Returns what makes calls of a model of two layers, of some size, by name of the call."""
    import fx_linen as nn
    import fx_nnx as nnx
    import jax
    import jax.numpy as jnp

    class Model(nnx.Module):
        def __init__(self, size: int, rngs: nnx.Rngs):
            self.linear = nnx.Linear(size, size, rngs=rngs)
            self.norm = nnx.LayerNorm(size, rngs=rngs)

        def __call__(self, x: Any) -> Any:
            return self.norm(self.linear(x))

    class LinenModel(nn.Module):
        size: int

        @nn.compact
        def __call__(self, x: Any) -> Any:
            return nn.LayerNorm()(nn.Dense(self.size)(x))

    axes = {"in_axes": (nnx.Carry, None), "out_axes": (nnx.Carry, 0)}

    def alone(size: int) -> Callable[[], Any]:
        x, model = jnp.ones((4, size)), Model(size, nnx.Rngs(0))
        # Traced as well: what it does then and else not is the model's, too.
        return lambda: (model(x), jax.make_jaxpr(lambda x: model(x))(x))

    def first(size: int) -> Callable[[], Any]:
        x, model = jnp.ones((4, size)), Model(size, nnx.Rngs(0))
        jitted = nnx.jit(lambda model, x: model(x))
        return lambda: jitted(model, x)

    def further(size: int) -> Callable[[], Any]:
        call = first(size)
        call()
        call()
        return call

    def scan(size: int) -> Callable[[], Any]:
        x, model = jnp.ones((4, size)), Model(size, nnx.Rngs(0))
        looped = nnx.scan(lambda x, model: (model(x), None), length=3, **axes)
        return lambda: looped(x, model)

    def scan_inside(size: int) -> Callable[[], Any]:
        x, model = jnp.ones((4, size)), Model(size, nnx.Rngs(0))
        looped = nnx.scan(lambda x, model: (model(x), None), length=3, **axes)
        jitted = nnx.jit(lambda x, model: looped(x, model))
        return lambda: jitted(x, model)

    def linen(size: int) -> Callable[[], Any]:
        x, model = jnp.ones((4, size)), LinenModel(size)
        variables = model.init(jax.random.key(0), x)
        return lambda: model.apply(variables, x)

    yield "first call of nnx.jit", first
    yield "further call of nnx.jit", further
    yield "first call of nnx.scan", scan
    yield "first call of nnx.scan in nnx.jit", scan_inside
    yield "Module.apply of Linen", linen
    yield "the NNX model alone, computed and traced", alone


def main() -> None:
    """Prints a table; what the model does by itself is left out in the lines that say so."""
    print(f"{'':40}" + "".join(f"{name:>11}" for name in Counts._fields))
    found = dict(calls())
    alone = found["the NNX model alone, computed and traced"]
    for name, made in found.items():
        made(3)()  # what is found out once per type does not count
        lines = {name: counts_of(made(2))}
        if name.startswith("first call"):
            lines[f"{name}, without the model"] = counts_of(made(2), besides=alone(2))
        for line, counts in lines.items():
            print(f"{line:40}" + "".join(f"{count:11,}" for count in counts))


if __name__ == "__main__":
    main()
