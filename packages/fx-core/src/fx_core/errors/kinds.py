"""The kinds of mistakes that occur everywhere: an argument, a shape, a dtype, a name, a package."""

from dataclasses import FrozenInstanceError

from fx_core.errors._base import FxError

__all__ = [
    "ArgumentError",
    "ArgumentTypeError",
    "DtypeError",
    "ImmutableError",
    "InvalidAttributeError",
    "ItemNotFoundError",
    "MissingPackageError",
    "ShapeMismatchError",
    "UnsupportedOperationError",
]


class ArgumentError(FxError, ValueError):
    """An argument has a value that makes no sense, alone or beside the others.

    Wrong: ``Dropout(50)``. Right: ``Dropout(0.5)``.
    """


class ArgumentTypeError(ArgumentError, TypeError):
    """An argument is of a type that the function cannot use; also a `ValueError`, as such mistakes often are in Flax.

    Wrong: ``Sequential(Dense(3))``. Right: ``Sequential([Dense(3)])``.
    """


class ShapeMismatchError(ArgumentError, TypeError):
    """Shapes do not fit each other, or a number of dimensions, axes or sizes does not fit an array.

    Also a `TypeError`, which JAX raises for such mistakes.

    Wrong: ``dot_product_attention(q, k, v[:, :-1])``. Right: as many values as keys.
    """


class DtypeError(ArgumentError, TypeError):
    """An array or a computation has a dtype with which it cannot be done; also a `TypeError`, as in JAX.

    Wrong: ``Dense(3, dtype=jnp.int32)``. Right: ``Dense(3, dtype=jnp.float32)``.
    """


class InvalidAttributeError(FxError, AttributeError):
    """An object has no attribute, method, flag or stream of that name, or does not let it be set.

    Wrong: ``config.update("fix_rng_seperator", True)``. Right: ``config.update("fix_rng_separator", True)``.
    """


class ItemNotFoundError(FxError, KeyError, IndexError):
    """A key or an index is not there; also a `LookupError`, as `KeyError` and `IndexError` are.

    Wrong: ``cursor({"a": 1})["b"]``. Right: ``cursor({"a": 1})["a"]``.
    """

    # KeyError would quote the text.
    __str__ = Exception.__str__


class ImmutableError(FxError, FrozenInstanceError, ValueError):
    """Something that never changes was to be changed: a `FrozenDict`, or a dataclass of `fx_core.struct`.

    Wrong: ``state.step = 3``. Right: ``state = state.replace(step=3)``.
    """


class UnsupportedOperationError(FxError, NotImplementedError):
    """A class does not define what the operation needs, or an object cannot do it by its nature.

    Wrong: an ``RNN`` of a cell without ``initialize_carry``. Right: a cell that defines it.
    """


class MissingPackageError(FxError, ModuleNotFoundError):
    """A package that is needed for this is not installed; the text says which extra brings it.

    >>> from fx_core.errors import MissingPackageError
    >>> try:
    ...     raise MissingPackageError("Progress bars need tqdm.", fix="pip install fx-train[progress]")
    ... except ModuleNotFoundError as error:
    ...     print(error)
    Progress bars need tqdm.
      what to do: pip install fx-train[progress]
    """
