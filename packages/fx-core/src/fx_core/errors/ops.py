"""Errors of the layer mathematics: arguments that make no sense together.

All of them are also `ValueError`, so that code which caught the errors of the reference library goes on working.
"""

from collections.abc import Sequence
from typing import Any

from fx_core.errors.kinds import ArgumentError, ShapeMismatchError


def invalid_axes(what: str, axes: Sequence[int], ndim: int) -> ShapeMismatchError:
    """An axis lies outside the array, or is named twice."""
    return ShapeMismatchError(
        f"{what} does not fit an array of {ndim} dimensions.",
        expected=f"distinct axes between {-ndim} and {ndim - 1}",
        got=tuple(axes),
        fix="count the dimensions of the input, the batch dimension included",
    )


def layer_size(shape: Sequence[Any]) -> ShapeMismatchError:
    """A layer was made with sizes that no array can have."""
    return ShapeMismatchError(
        "The sizes of a layer make no shape of a parameter.",
        expected="integers that are not negative",
        got=tuple(shape),
        fix="look at the numbers of features that the layer was made with",
    )


def conv_feature_groups(groups: int, features: int | None, what: str) -> ArgumentError:
    """The feature groups of a convolution do not divide its features, or a local convolution has groups."""
    if features is None:
        expected, fix = "feature_group_count=1", "use Conv, or one local convolution per group"
    else:
        expected, fix = f"a divisor of {features}", "choose a count that divides input and output features"
    return ArgumentError(what, expected=expected, got=f"feature_group_count={groups}", fix=fix)


def empty_sequential(name: str | None = None) -> ArgumentError:
    """A ``Sequential`` without layers was called."""
    return ArgumentError(
        "Sequential has no layers to call.",
        path=name,
        expected="at least one layer",
        got="no layers",
        fix="add a layer; for the identity use Sequential([lambda x: x])",
    )


def non_matrix_weight(name: str, shape: Sequence[int]) -> ShapeMismatchError:
    """A weight with more than two dimensions was to be normalized by its singular value, and the layer forbids it."""
    return ShapeMismatchError(
        f"The weight {name!r} is no matrix, but error_on_non_matrix is True.",
        expected="two dimensions",
        got=f"shape {tuple(shape)}",
        fix="Set error_on_non_matrix=False to take all dimensions but the last as rows.",
    )
