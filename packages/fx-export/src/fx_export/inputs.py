"""The inputs of a network: what a program takes, and whether a call gives it."""

import re
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from fx_core.errors import ArgumentError
from fx_core.stored_dtypes import NUMBERS

from fx_export.errors import exporter_option, input_mismatch

_TEXT = re.compile(r"\s*(?:([A-Za-z_][\w./-]*)\s*:)?\s*(\w+)\s*\[([^\[\]]*)\]\s*")


def described_inputs(texts: Sequence[str], constraints: Sequence[str] = ()) -> list[jax.ShapeDtypeStruct]:
    """Returns the inputs that texts describe; equal names are one size.

    Args:
      texts: such as ``"float32[batch, 28, 28, 1]"``, with or without a name and a colon before.
      constraints: what is known about the sizes, such as ``"length <= 128"``.

    Raises:
      ArgumentError: a text is malformed.

    Example:
      >>> described_inputs(["tokens:int32[batch, length]", "bool[batch, length]"])[1].shape
      (batch, length)
    """
    scope = jax.export.SymbolicScope(tuple(constraints))
    return [_described(text, scope) for text in texts]


def input_specs(format: str, inputs: Sequence[Any], constraints: Sequence[str]) -> list[Any]:
    """Returns a description for each input that is a text; the others stay as they are.

    Raises:
      ArgumentTypeError: the inputs are no list.
      ArgumentError: a text is malformed.
    """
    if not isinstance(inputs, (list, tuple)):
        # An array would be taken for as many inputs as it has rows.
        raise exporter_option(format, "inputs as a list or tuple, one entry for each", f"{type(inputs).__name__}")
    texts = [value for value in inputs if isinstance(value, str)]
    described = iter(described_inputs(texts, constraints))
    return [next(described) if isinstance(value, str) else value for value in inputs]


def names_in(texts: Sequence[str]) -> list[str] | None:
    """Returns the names in descriptions of inputs, None where one has none.

    >>> names_in(["a:int32[2]", "b:int32[3]"]), names_in(["int32[2]"])
    (['a', 'b'], None)
    """
    names = [found[1] for found in map(_TEXT.fullmatch, texts) if found and found[1]]
    return names if len(names) == len(texts) else None


def _described(text: str, scope: Any) -> jax.ShapeDtypeStruct:
    found = _TEXT.fullmatch(text)
    if found is None or found[2] not in NUMBERS:
        raise _input_text(text)
    try:
        shape = jax.export.symbolic_shape(found[3], scope=scope) if found[3].strip() else ()
    except (ValueError, TypeError) as error:
        raise _input_text(text) from error
    return jax.ShapeDtypeStruct(shape, NUMBERS[found[2]])


def spec_of(value: Any) -> jax.ShapeDtypeStruct:
    """Describes an example input; a description stays as it is."""
    if isinstance(value, jax.ShapeDtypeStruct):
        return value
    shaped = jax.typeof(value)
    return jax.ShapeDtypeStruct(shaped.shape, shaped.dtype)


def text_of(spec: Any) -> str:
    """Returns a shape and dtype as text: ``float32[batch, 8, 8, 1]``."""
    return f"{spec.dtype.name}[{', '.join(map(str, spec.shape))}]"


class InputCheck:
    """Checks the inputs of a call against those of a program.

    Args:
      specs: a pytree per input, with shapes and dtypes; sizes may be symbolic.
    """

    def __init__(self, specs: Sequence[Any]):
        self.specs = list(specs)
        self._flat = [jax.tree_util.tree_flatten_with_path(spec) for spec in specs]

    def __call__(self, inputs: Sequence[Any]) -> None:
        """Compares.

        Raises:
          InputMismatchError: an input has another structure, shape or dtype, or there are more or fewer.
        """
        if len(inputs) != len(self.specs):
            raise input_mismatch("all inputs", f"{len(self.specs)} inputs", f"{len(inputs)} inputs")
        sizes: dict[str, int] = {}
        for number, (value, (specs, treedef)) in enumerate(zip(inputs, self._flat)):
            leaves, given = jax.tree.flatten(value)
            if given != treedef:
                raise input_mismatch(f"input {number}", treedef, given)
            for (path, spec), leaf in zip(specs, leaves):
                _check(f"input {number}{jax.tree_util.keystr(path)}", spec, leaf, sizes)


def _check(name: str, spec: Any, leaf: Any, sizes: dict[str, int]) -> None:
    if not hasattr(leaf, "dtype") or not hasattr(leaf, "shape"):
        leaf = np.asarray(leaf)
    if leaf.dtype != spec.dtype or len(leaf.shape) != len(spec.shape):
        raise input_mismatch(name, text_of(spec), text_of(leaf))
    for size, given in zip(spec.shape, leaf.shape):
        symbol = str(size)
        # Sizes like 2*batch are left to JAX, which solves for them.
        wanted = size if isinstance(size, int) else sizes.setdefault(symbol, given) if symbol.isidentifier() else given
        if wanted != given:
            where = "" if isinstance(size, int) else f", where {symbol} is {wanted}"
            raise input_mismatch(name, text_of(spec) + where, text_of(leaf))


def _input_text(got: str) -> ArgumentError:
    return ArgumentError(
        "This describes no input.",
        expected="an optional name, a dtype and sizes, such as image:float32[batch, 28, 28, 1]",
        got=got,
        fix="Write numbers for fixed sizes and names for free ones.",
    )
