"""The inputs of a network: what a program takes, and whether a call gives it."""

import re
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from fx_core.errors import ArgumentError, DtypeError
from fx_core.stored_dtypes import NUMBERS

from fx_export.constraints import UNREADABLE, check_size, read_constraints
from fx_export.errors import exporter_option, input_mismatch
from fx_export.given_sizes import SizeCheck
from fx_export.keys import is_key, words_of
from fx_export.sizes import is_fixed, sizes_in, symbols_of

_MOST_SIZES, _SHOWN = 64, 200
_TEXT = re.compile(r"\s*(?:([A-Za-z_][\w./-]*)\s*:)?\s*(\w+)\s*\[([^\[\]]*)\]\s*")


def described_inputs(texts: Sequence[str], constraints: Sequence[str] = ()) -> list[jax.ShapeDtypeStruct]:
    """Returns the inputs that texts describe; equal names are one size.

    Args:
      texts: such as ``"float32[batch, 28, 28, 1]"``, with or without a name and a colon before.
      constraints: what is known about the sizes, such as ``"length <= 128"``.

    Raises:
      ArgumentError: a text is malformed, or a constraint is: it has other sizes, or none fits all of them.
      DtypeError: JAX computes with 32 bits, and a text asks for 64.

    Example:
      >>> described_inputs(["tokens:int32[batch, length]", "bool[batch, length]"])[1].shape
      (batch, length)
    """
    symbols = sorted({name for text in texts for name in _names_of_sizes(text)})
    read_constraints(constraints, symbols)
    try:
        scope = jax.export.SymbolicScope(tuple(constraints))
    except UNREADABLE as error:
        raise ArgumentError(
            "These constraints do not go together.", got="; ".join(constraints), fix=f"Correct one of them: {error}"
        ) from error
    return [_described(text, scope) for text in texts]


def input_specs(format: str, inputs: Sequence[Any], constraints: Sequence[str]) -> list[Any]:
    """Returns a description for each input that is a text; the others stay as they are.

    Raises:
      ArgumentTypeError: the inputs are no list, or one is no array.
      ArgumentError: a text is malformed, or free sizes are of several scopes.
    """
    if not isinstance(inputs, (list, tuple)):
        # An array would be taken for as many inputs as it has rows.
        raise exporter_option(format, "inputs as a list or tuple, one entry for each", f"{type(inputs).__name__}")
    texts = [value for value in inputs if isinstance(value, str)]
    described = iter(described_inputs(texts, constraints))
    for path, leaf in jax.tree_util.tree_leaves_with_path([i for i in inputs if not isinstance(i, str)]):
        check_width(leaf)
        try:
            spec_of(leaf)
        except TypeError:
            raise exporter_option(
                format,
                "examples of arrays, jax.ShapeDtypeStruct, or a text for an input as a whole",
                f"{leaf!r}"[:_SHOWN] + f" at {jax.tree_util.keystr(path)}",
            ) from None
    specs = [next(described) if isinstance(value, str) else value for value in inputs]
    _check_scopes(specs)
    return specs


def _check_scopes(specs: Sequence[Any]) -> None:
    """Refuse free sizes of which two with one name would be two sizes."""
    sizes = [size for leaf in jax.tree.leaves(specs) for size in np.shape(leaf) if not is_fixed(size)]
    apart = [size for size in sizes if size.scope is not sizes[0].scope]
    if apart:
        raise ArgumentError(
            "The free sizes of the inputs are of several scopes, where equal names are different sizes.",
            expected="sizes of one scope of JAX, or texts for all inputs",
            got=f"{sizes[0]} of one scope and {apart[0]} of another",
            fix="Give scope= to each call of jax.export.symbolic_shape, or describe all inputs by texts.",
        )


def names_in(texts: Sequence[str]) -> list[str] | None:
    """Returns the names in descriptions of inputs, None where none has one.

    Raises:
      ArgumentError: some have a name and others have none.

    >>> names_in(["a:int32[2]", "b:int32[3]"]), names_in(["int32[2]"])
    (['a', 'b'], None)
    """
    names = [found[1] for found in map(_TEXT.fullmatch, texts) if found and found[1]]
    if names and len(names) != len(texts):
        raise ArgumentError(
            "Some inputs have names, and others have none.",
            got=", ".join(text[:_SHOWN] for text in texts),
            fix="Name all of them, or none.",
        )
    return names or None


def _names_of_sizes(text: str) -> set[str]:
    """The names in the sizes of a description, as they are written."""
    found = _TEXT.fullmatch(text)
    if found is None or found[2] not in NUMBERS:
        raise _input_text(text)
    try:
        sizes = sizes_in(found[3])
        if len(sizes) > _MOST_SIZES:
            raise ValueError(f"{len(sizes)} sizes, and arrays have at most {_MOST_SIZES}")
        for size in sizes:
            check_size(size)
        return {name for size in sizes for name in symbols_of(size)}
    except UNREADABLE as error:
        raise _input_text(text, error) from error


def _described(text: str, scope: Any) -> jax.ShapeDtypeStruct:
    found: Any = _TEXT.fullmatch(text)
    try:
        shape = jax.export.symbolic_shape(found[3], scope=scope) if found[3].strip() else ()
        if any(is_fixed(size) and size < 0 for size in shape):
            raise ValueError("a size is negative")
    except UNREADABLE as error:
        raise _input_text(text, error) from error
    spec = jax.ShapeDtypeStruct(shape, NUMBERS[found[2]])
    check_width(spec)
    return spec


def check_width(spec: Any) -> None:
    """Refuses a description of 64 bits where JAX computes with 32: it would describe another input.

    Raises:
      DtypeError: it is one.
    """
    if isinstance(spec, jax.ShapeDtypeStruct) and not is_key(spec):
        width = jax.dtypes.canonicalize_dtype(spec.dtype)
        if width != spec.dtype:
            raise DtypeError(
                f"This process computes with {width} in place of {np.dtype(spec.dtype)}.",
                expected=f"inputs such as {width}[…]",
                got=text_of(spec),
                fix=f"Describe it as {width}, or set JAX_ENABLE_X64=1 for numbers of 64 bits.",
            )


def spec_of(value: Any) -> jax.ShapeDtypeStruct:
    """Describes an example input; a description stays as it is.

    A number of Python is of a weak type, as in a call by JAX: times bfloat16 it is bfloat16. An array that happens to
    be of one only stands for arrays of its dtype.
    """
    if isinstance(value, jax.ShapeDtypeStruct):
        return value.update(weak_type=False) if value.weak_type and value.shape else value
    shaped = jax.typeof(value)
    return jax.ShapeDtypeStruct(shaped.shape, shaped.dtype, weak_type=shaped.weak_type and not shaped.shape)


def word_specs(inputs: Sequence[Any]) -> list[Any]:
    """Describes inputs, and PRNG keys among them by their words."""
    return jax.tree.map(lambda value: words_of(spec_of(value)), list(inputs))


def text_of(spec: Any) -> str:
    """Returns a shape and dtype as text: ``float32[batch, 8, 8, 1]``."""
    return f"{spec.dtype.name}[{', '.join(map(str, spec.shape))}]"


def listed(inputs: Sequence[Any], names: Sequence[str] | None = None) -> list[str]:
    """Returns a text for each array of the inputs, with its name, or its path in them where it has none.

    >>> listed([{"a": np.zeros(2, np.int8)}, np.ones((), bool)]), listed([np.ones(3, np.float32)], ["image"])
    (['0/a: int8[2]', '1: bool[]'], ['image: float32[3]'])
    """
    leaves = jax.tree_util.tree_leaves_with_path(list(inputs))
    paths = [jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in leaves]
    return [f"{name}: {text_of(spec_of(leaf))}" for name, (_, leaf) in zip(names or paths, leaves, strict=True)]


class InputCheck:
    """Checks the inputs of a call against those of a program.

    Args:
      specs: a pytree per input, with shapes and dtypes; sizes may be symbolic.
    """

    def __init__(self, specs: Sequence[Any]):
        self.specs = list(specs)
        self._flat = [jax.tree_util.tree_flatten_with_path(spec) for spec in specs]
        self._sizes = SizeCheck(specs, text_of)

    def __call__(self, inputs: Sequence[Any]) -> tuple[Any, ...]:
        """Compares.

        Returns:
          The inputs, where numbers of Python have become arrays.

        Raises:
          InputMismatchError: an input has another structure, shape or dtype, or there are more or fewer.
        """
        if len(inputs) != len(self.specs):
            raise input_mismatch("all inputs", f"{len(self.specs)} inputs", f"{len(inputs)} inputs")
        sizes: list[int] = []
        checked = list(inputs)
        for number, (value, (specs, treedef)) in enumerate(zip(inputs, self._flat)):
            leaves, given = jax.tree.flatten(value)
            if given != treedef:
                raise input_mismatch(f"input {number}", treedef, given)
            plain = [
                leaf if hasattr(leaf, "dtype") else _as_array(spec, leaf) for (_, spec), leaf in zip(specs, leaves)
            ]
            for (path, spec), leaf in zip(specs, plain):
                _check(f"input {number}{jax.tree_util.keystr(path)}", spec, leaf, sizes)
            if any(one is not other for one, other in zip(plain, leaves)):
                checked[number] = jax.tree.unflatten(treedef, plain)
        if sizes:
            self._sizes(sizes)
        return tuple(checked)


def _as_array(spec: Any, leaf: Any) -> Any:
    """Make an array of a number, of the dtype that is described where JAX would compute in that."""
    if type(leaf) not in (bool, int, float, complex) or spec.shape or is_key(spec):
        return np.asarray(leaf)
    # Beside an array of this dtype, JAX keeps to the dtype, or takes a wider one for a number that does not fit in.
    fits = jnp.result_type(leaf, jnp.zeros((), spec.dtype)) == spec.dtype
    try:
        array = np.asarray(leaf, spec.dtype) if fits else np.asarray(leaf)
    except OverflowError:
        return np.asarray(leaf)
    exact = not jnp.issubdtype(array.dtype, jnp.integer) or int(array) == leaf
    return array if exact else np.asarray(leaf)


def _check(name: str, spec: Any, leaf: Any, sizes: list[int]) -> None:
    """Compare an array with its description; free sizes are appended to those that are known."""
    if leaf.dtype != spec.dtype or len(leaf.shape) != len(spec.shape):
        raise input_mismatch(name, text_of(spec), text_of(leaf))
    for size, given in zip(spec.shape, leaf.shape):
        if not isinstance(size, int):
            sizes.append(given)
        elif size != given:
            raise input_mismatch(name, text_of(spec), text_of(leaf))


def _input_text(got: str, cause: Any = None) -> ArgumentError:
    return ArgumentError(
        "This describes no input.",
        expected="an optional name, a dtype and sizes, such as image:float32[batch, 28, 28, 1]",
        got=got[:_SHOWN] + (f": {str(cause)[:_SHOWN]}" if cause else ""),
        fix="Write numbers for fixed sizes and names for free ones.",
    )
