"""Random numbers of threefry keys, which are the same everywhere.

A key is held as one integer of 64 bits (see `fx_export.onnx.walk.KEY`); here it becomes its two words again.
"""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from fx_core.compat import jax as compat

from fx_export.onnx.builder import Builder
from fx_export.onnx.registry import primitive
from fx_export.onnx.shapes import counting, joined
from fx_export.onnx.tensor import Tensor
from fx_export.onnx.walk import KEY, dtype_of

_WORD, _LONG = np.dtype("uint32"), np.dtype("uint64")


@primitive("random_unwrap")
def unwrap(build: Builder, eqn: Any, key: Tensor) -> Tensor:
    """The words of keys."""
    return words_of(build, key)


def words_of(build: Builder, key: Tensor) -> Tensor:
    """Returns keys as words along a new last axis."""
    number = build.cast(key, _LONG)
    high = build.elementwise("BitShift", [number, build.constant(32, _LONG)], direction="RIGHT")
    low = build.elementwise("BitwiseAnd", [number, build.constant(0xFFFFFFFF, _LONG)])
    shape = (*key.shape, 2)
    halves = [build.broadcast(build.cast(half, _WORD), (*key.shape, 1), range(key.ndim)) for half in (high, low)]
    return joined(build, halves, key.ndim, shape)


@primitive("random_wrap")
def wrap(build: Builder, eqn: Any, words: Tensor) -> Tensor:
    """Keys of words."""
    return _keys_of(build, eqn, words)


def _keys_of(build: Builder, eqn: Any, words: Tensor) -> Tensor:
    dtype_of(eqn.outvars[0].aval)
    rank = words.ndim - 1

    def word(number: int) -> Tensor:
        low = [0] * rank + [number]
        part = build.slice(words, low, [*words.shape[:-1], number + 1], [1] * (rank + 1))
        return build.cast(build.squeeze(part, [rank]), _LONG)

    high = build.elementwise("BitShift", [word(0), build.constant(32, _LONG)], direction="LEFT")
    return build.cast(build.elementwise("BitwiseOr", [high, word(1)]), KEY)


def _mapped(function: Callable[..., Any], rank: int) -> Callable[..., Any]:
    for _ in range(rank):
        function = jax.vmap(function)
    return function


@primitive("random_bits")
def random_bits(build: Builder, eqn: Any, key: Tensor) -> Tensor:
    """Bits of keys."""
    kind, p = compat.key_kind(eqn.invars[0].aval.dtype), eqn.params
    dtype_of(eqn.invars[0].aval)
    draw = _mapped(lambda words: kind.random_bits(words, p["bit_width"], p["shape"]), key.ndim)
    return build.call(draw, words_of(build, key))[0]


@primitive("random_split")
def random_split(build: Builder, eqn: Any, key: Tensor) -> Tensor:
    """More keys of keys."""
    kind, shape = compat.key_kind(eqn.invars[0].aval.dtype), eqn.params["shape"]
    return _keys_of(build, eqn, build.call(_mapped(lambda w: kind.split(w, shape), key.ndim), words_of(build, key))[0])


@primitive("random_fold_in")
def random_fold_in(build: Builder, eqn: Any, key: Tensor, number: Tensor) -> Tensor:
    """Keys with numbers folded in."""
    kind = compat.key_kind(eqn.invars[0].aval.dtype)
    shape = eqn.outvars[0].aval.shape

    def spread(value: Tensor) -> Tensor:
        return (
            value if value.shape == shape else build.broadcast(value, shape, range(len(shape) - value.ndim, len(shape)))
        )

    words = words_of(build, spread(key))
    return _keys_of(build, eqn, build.call(_mapped(kind.fold_in, len(shape)), words, spread(number))[0])


@primitive("random_seed")
def random_seed(build: Builder, eqn: Any, seed: Tensor) -> Tensor:
    """Keys of numbers."""
    return _keys_of(build, eqn, build.call(_mapped(eqn.params["impl"].seed, seed.ndim), seed)[0])


@primitive("random_clone")
def random_clone(build: Builder, eqn: Any, key: Tensor) -> Tensor:
    """The same keys."""
    return key


@primitive("threefry2x32")
def threefry(build: Builder, eqn: Any, *words: Tensor) -> list[Tensor]:
    """The function that keys draw with: twenty rounds of sums, turns and exclusive ors."""
    shape = eqn.outvars[0].aval.shape
    spread = [
        w if w.shape == shape else build.broadcast(w, shape, range(len(shape) - w.ndim, len(shape))) for w in words
    ]
    return build.call(lambda *w: tuple(compat.threefry_words(*w)), *spread)


@primitive("iota_2x32_shape")
def counters(build: Builder, eqn: Any) -> list[Tensor]:
    """Numbers of 64 bits that count the elements of a shape, as two words."""
    shape = eqn.params["shape"]
    total = build.constant(0, np.int64)
    total = build.broadcast(total, shape, ())
    for axis in range(len(shape)):
        inner = 1
        for size in shape[axis + 1 :]:
            inner = inner * size
        step = build.elementwise("Mul", [counting(build, shape, axis, np.dtype("int64")), build.size(inner)])
        total = build.elementwise("Add", [total, step])
    number = build.cast(total, _LONG)
    high = build.elementwise("BitShift", [number, build.constant(32, _LONG)], direction="RIGHT")
    low = build.elementwise("BitwiseAnd", [number, build.constant(0xFFFFFFFF, _LONG)])
    return [build.cast(half, _WORD) for half in (high, low)]
