"""Errors of attention, its key-value cache and rotary positions."""

from typing import Any

from fx_core.errors.kinds import ArgumentError, ShapeMismatchError


class CacheFullError(ArgumentError):
    """A key-value cache has no room for the keys that are to be added.

    Wrong: a third call of a layer whose cache was made for two positions. Right: a cache as long as the sequence.
    """


def attention_heads(what: str, amount: int, name: str, parts: int) -> ArgumentError:
    """The features do not divide into the heads, or the query heads into those of keys and values."""
    return ArgumentError(
        f"{amount} {what} cannot be divided evenly.",
        expected=f"{name} that divides {amount}",
        got=f"{name}={parts}",
        fix=f"change {name}, or the number of {what}",
    )


def attention_hook(what: str, *, expected: str, got: str) -> ArgumentError:
    """Functions that replace the contractions of attention were given in a combination without meaning."""
    return ArgumentError(
        what, expected=expected, got=got, fix="leave one of them out, or bind it with functools.partial"
    )


def attention_inputs(what: str, *, path: str | None, expected: str, got: str) -> ArgumentError:
    """An attention layer was called with inputs that leave open what the keys or values are."""
    return ArgumentError(
        what, path=path, expected=expected, got=got, fix="pass inputs_k, and inputs_v where it differs from inputs_k"
    )


def cache_shape(name: str, *, expected: Any, got: Any, fix: str) -> ShapeMismatchError:
    """Keys, values or queries do not fit the cache that they are to be used with."""
    return ShapeMismatchError(f"The {name} does not fit the key-value cache.", expected=expected, got=got, fix=fix)
