"""Which axes a normalization reduces, and which carry scale and bias."""

import dataclasses
import functools
from collections.abc import Sequence

from fx_core.errors.kinds import ArgumentError
from fx_core.errors.ops import invalid_axes
from fx_core.ops.initializers import default_bias_init, default_scale_init
from fx_core.ops.params import ParamSpec

__all__ = [
    "NormPlan",
    "norm_params",
    "plan_batch_norm",
    "plan_group_norm",
    "plan_instance_norm",
    "plan_layer_norm",
]

Axes = int | Sequence[int]


@dataclasses.dataclass(frozen=True)
class NormPlan:
    """The axes of a normalization, counted from the front and sorted.

    Attributes:
      ndim: number of dimensions of the input.
      reduction_axes: axes that mean and variance are taken over.
      feature_axes: axes that have a scale and bias of their own.
      groups: for group norms, how many groups the last axis is divided into.
    """

    ndim: int
    reduction_axes: tuple[int, ...]
    feature_axes: tuple[int, ...]
    groups: int | None = None

    @property
    def broadcast_axes(self) -> tuple[int, ...]:
        """Axes along which scale and bias are the same."""
        return tuple(axis for axis in range(self.ndim) if axis not in self.feature_axes)

    def feature_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        """Shape of scale and bias for an input of this shape."""
        return tuple(shape[axis] for axis in self.feature_axes)


def norm_params(feature_shape: Sequence[int], use_scale: bool = True, use_bias: bool = True) -> dict[str, ParamSpec]:
    """Returns the parameters of a normalization, by name.

    >>> list(norm_params((4,)))
    ['scale', 'bias']
    """
    shape = tuple(feature_shape)
    axes = ("features",) if len(shape) == 1 else tuple(f"features_{i}" for i in range(len(shape)))
    params: dict[str, ParamSpec] = {}
    if use_scale:
        params["scale"] = ParamSpec(shape, default_scale_init, axes)
    if use_bias:
        params["bias"] = ParamSpec(shape, default_bias_init, axes)
    return params


def plan_layer_norm(ndim: int, reduction_axes: Axes = -1, feature_axes: Axes = -1) -> NormPlan:
    """Plans a layer norm or RMS norm.

    Args:
      ndim: number of dimensions of the input.
      reduction_axes: axes that statistics are taken over.
      feature_axes: axes with scale and bias.

    Raises:
      ShapeMismatchError: an axis is outside the input.

    >>> plan_layer_norm(3, (-1, 1)).reduction_axes
    (1, 2)
    """
    return _plan_layer_norm(ndim, _ints(reduction_axes), _ints(feature_axes))


@functools.lru_cache(maxsize=1024)
def _plan_layer_norm(ndim: int, reduction_axes: tuple[int, ...], feature_axes: tuple[int, ...]) -> NormPlan:
    return NormPlan(
        ndim, _canonical(reduction_axes, ndim, "reduction_axes"), _canonical(feature_axes, ndim, "feature_axes")
    )


def plan_batch_norm(ndim: int, axis: Axes = -1) -> NormPlan:
    """Plans a batch norm: all axes but those of the features are reduced.

    Raises:
      ShapeMismatchError: an axis is outside the input.

    >>> plan_batch_norm(4).reduction_axes
    (0, 1, 2)
    """
    return _plan_batch_norm(ndim, _ints(axis))


@functools.lru_cache(maxsize=1024)
def _plan_batch_norm(ndim: int, axis: tuple[int, ...]) -> NormPlan:
    features = _canonical(axis, ndim, "axis")
    return NormPlan(ndim, tuple(i for i in range(ndim) if i not in features), features)


def plan_instance_norm(ndim: int, feature_axes: Axes = -1) -> NormPlan:
    """Plans an instance norm: all axes but the batch and those of the features are reduced.

    Raises:
      ShapeMismatchError: an axis is outside the input.
      ArgumentError: the batch axis is among the features.

    >>> plan_instance_norm(4).reduction_axes
    (1, 2)
    """
    features = _canonical(_ints(feature_axes), ndim, "feature_axes")
    if 0 in features:
        raise ArgumentError(
            "The feature axes cannot include the leading axis, which is the batch.",
            expected="feature axes from 1 on",
            got=tuple(_ints(feature_axes)),
            fix="leave 0 out of feature_axes",
        )
    return NormPlan(ndim, tuple(i for i in range(1, ndim) if i not in features), features)


def plan_group_norm(
    shape: Sequence[int],
    num_groups: int | None = 32,
    group_size: int | None = None,
    reduction_axes: Axes | None = None,
) -> NormPlan:
    """Plans a group norm: the last axis is divided into groups, each reduced with the other reduction axes.

    Args:
      shape: of the input.
      num_groups: number of groups, or None.
      group_size: features per group, or None: exactly one of the two is given.
      reduction_axes: all but the first if None, and the only one of an input without a batch.

    Raises:
      ArgumentError: both or none are given, or the channels do not divide.
      ArgumentError: the last axis is not reduced.
      ShapeMismatchError: an axis is outside the input.

    >>> plan_group_norm((2, 5, 8), num_groups=None, group_size=2).groups
    4
    """
    ndim = len(shape)
    # The last axis, which holds the features, is reduced in any case.
    given = (*range(1, ndim - 1), ndim - 1) if reduction_axes is None else _ints(reduction_axes)
    axes = _canonical(given, ndim, "reduction_axes")
    if ndim - 1 not in axes:
        raise ArgumentError(
            "The reduction axes must include the last axis, which holds the features.",
            expected=f"axes with {ndim - 1}",
            got=tuple(axes),
            fix="add -1 to reduction_axes",
        )
    return NormPlan(ndim, axes, (ndim - 1,), group_count(shape[-1], num_groups, group_size))


def group_count(channels: int, num_groups: int | None, group_size: int | None) -> int:
    """Returns the number of groups, whichever way it is said.

    Raises:
      ArgumentError: both or none are given, or the channels do not divide.
    """
    if (num_groups is None) == (group_size is None):
        raise ArgumentError(
            "A group norm needs either num_groups or group_size.",
            expected="one of them, the other None",
            got=f"num_groups={num_groups}, group_size={group_size}",
            fix="pass num_groups=None together with group_size",
        )
    divisor = group_size if num_groups is None else num_groups
    name = "group_size" if num_groups is None else "num_groups"
    if not divisor or divisor < 0 or channels % divisor:
        raise ArgumentError(
            f"The {channels} channels cannot be divided into groups.",
            expected=f"a {name} that divides {channels}",
            got=f"{name}={divisor}",
            fix="change the number of groups, or of channels",
        )
    return channels // divisor if num_groups is None else divisor


def _ints(axes: Axes) -> tuple[int, ...]:
    return tuple(axes) if isinstance(axes, Sequence) else (axes,)


def _canonical(axes: tuple[int, ...], ndim: int, what: str) -> tuple[int, ...]:
    positive = {axis + ndim if axis < 0 else axis for axis in axes}
    if any(not 0 <= axis < ndim for axis in positive):
        raise invalid_axes(what, axes, ndim)
    return tuple(sorted(positive))
