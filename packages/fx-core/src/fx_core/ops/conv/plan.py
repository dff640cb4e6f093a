"""The static side of a convolution, checked once."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

from fx_core.errors.kinds import ArgumentError
from fx_core.errors.ops import conv_feature_groups
from fx_core.ops.initializers import default_bias_init, default_kernel_init
from fx_core.ops.params import ParamSpec

__all__ = ["ConvPlan", "LaxPadding", "PaddingLike", "conv_params", "normalize_window", "plan_conv"]

PaddingLike = str | int | Sequence[int | tuple[int, int]]
"""What users may write: a name, one integer, or an integer or pair per spatial dimension."""

LaxPadding = str | tuple[tuple[int, int], ...]
"""What `jax.lax` takes."""

LAX_NAMES = frozenset({"SAME", "SAME_LOWER", "VALID"})
PAD_MODES = {"CIRCULAR": "wrap", "REFLECT": "reflect", "CAUSAL": "constant"}


@dataclasses.dataclass(frozen=True)
class ConvPlan:
    """The static arguments of a convolution, normalized. See `plan_conv`.

    Attributes:
      kernel_size: window in each spatial dimension.
      strides: step of the window.
      padding: what `jax.lax` pads.
      input_dilation: distance of input values (1: none between them).
      kernel_dilation: distance of kernel values.
      groups: feature groups; each sees its share of the input features.
      pad_mode: mode of `jax.numpy.pad` for padding that comes before the convolution, or None.
      pad_width: pairs for that, per spatial dimension.
    """

    kernel_size: tuple[int, ...]
    strides: tuple[int, ...]
    padding: LaxPadding
    input_dilation: tuple[int, ...]
    kernel_dilation: tuple[int, ...]
    groups: int
    pad_mode: str | None
    pad_width: tuple[tuple[int, int], ...]

    @property
    def rank(self) -> int:
        """Number of spatial dimensions."""
        return len(self.kernel_size)


def plan_conv(
    kernel_size: int | Sequence[int],
    strides: int | Sequence[int] | None = 1,
    padding: PaddingLike = "SAME",
    input_dilation: int | Sequence[int] | None = 1,
    kernel_dilation: int | Sequence[int] | None = 1,
    feature_group_count: int = 1,
) -> ConvPlan:
    """Checks and normalizes the static arguments of a convolution.

    Args:
      kernel_size: window in each spatial dimension; an integer means one spatial dimension, and ``()`` none.
      strides: step of the window; an integer is for every dimension, None means 1.
      padding: ``"SAME"``, ``"SAME_LOWER"``, ``"VALID"``, ``"CIRCULAR"`` (the image goes on at the other side),
        ``"REFLECT"`` (the image is mirrored at its border), ``"CAUSAL"`` (one dimension: no result sees later inputs),
        an integer, or an integer or pair per spatial dimension.
      input_dilation: distance of input values.
      kernel_dilation: distance of kernel values.
      feature_group_count: number of feature groups.

    Returns:
      The plan; equal arguments give the same object.

    Raises:
      ArgumentError: sizes that are not positive or do not fit the number of spatial dimensions.
      ArgumentError: a padding that is not known, or not for this number of dimensions, or not for a dilated input.

    >>> plan_conv((3, 3), strides=2, padding=1).padding
    ((1, 1), (1, 1))
    """
    return _plan(
        normalize_window("kernel_size", kernel_size, None),
        hashable(strides),
        hashable(padding),
        hashable(input_dilation),
        hashable(kernel_dilation),
        feature_group_count,
    )


@functools.lru_cache(maxsize=4096)
def _plan(
    kernel_size: tuple[int, ...], strides: Any, padding: Any, input_dilation: Any, kernel_dilation: Any, groups: int
) -> ConvPlan:
    rank = len(kernel_size)
    dilation = normalize_window("kernel_dilation", kernel_dilation, rank)
    lax_padding, mode, width = _split_padding(padding, kernel_size, dilation)
    spacing = normalize_window("input_dilation", input_dilation, rank)
    if isinstance(lax_padding, str) and any(step > 1 for step in spacing):
        # JAX refuses every name here, because "SAME" has no clear meaning for an input with gaps; "VALID" has. What is
        # filled with values of the input would get gaps, too, which gives results of other lengths and places.
        if lax_padding != "VALID" or mode is not None:
            raise _conv_padding(padding, rank, "'VALID' or explicit padding, when the input is dilated")
        lax_padding = ((0, 0),) * rank
    return ConvPlan(
        kernel_size=kernel_size,
        strides=normalize_window("strides", strides, rank),
        padding=lax_padding,
        input_dilation=spacing,
        kernel_dilation=dilation,
        groups=groups,
        pad_mode=mode,
        pad_width=width,
    )


def normalize_window(name: str, value: int | Sequence[int] | None, rank: int | None) -> tuple[int, ...]:
    """Returns one positive integer per spatial dimension.

    Args:
      name: of the argument, for the error.
      value: an integer (for all dimensions), a sequence, or None (ones).
      rank: number of spatial dimensions; None to take it from ``value``.

    Raises:
      ArgumentError: the value is something else.
    """
    if value is None and rank is not None:
        return (1,) * rank
    try:
        copies = 1 if rank is None else rank
        sizes = tuple(value) if isinstance(value, Sequence) else (int(value),) * copies  # type: ignore[arg-type]
        good = all(size == int(size) and size > 0 for size in sizes) and rank in (None, len(sizes))
    except (TypeError, ValueError):
        raise _conv_window(name, value, rank) from None
    if not good:
        raise _conv_window(name, value, rank)
    return tuple(int(size) for size in sizes)


def normalize_padding(padding: Any, rank: int, names: frozenset[str]) -> LaxPadding:
    """Returns a padding name in capitals, or a pair per spatial dimension.

    Args:
      padding: what the user wrote.
      rank: number of spatial dimensions.
      names: the names that are allowed.

    Raises:
      ArgumentError: the padding is something else.
    """
    if isinstance(padding, str):
        if padding.upper() in names:
            return padding.upper()
    else:
        try:
            pads = (padding,) * rank if isinstance(padding, int) else tuple(padding)
            pairs = tuple((pad, pad) if isinstance(pad, int) else (int(pad[0]), int(pad[1])) for pad in pads)
            if len(pairs) == rank and all(len(pad) == 2 for pad in pads if not isinstance(pad, int)):
                return pairs
        except (TypeError, ValueError, IndexError):
            pass
    allowed = f"{', '.join(sorted(names))}, an integer, or {rank} integer(s) or pair(s)"
    raise _conv_padding(padding, rank, allowed)


def _split_padding(
    padding: Any, kernel_size: tuple[int, ...], dilation: tuple[int, ...]
) -> tuple[LaxPadding, str | None, tuple[tuple[int, int], ...]]:
    rank = len(kernel_size)
    names = LAX_NAMES | (PAD_MODES.keys() if rank == 1 else PAD_MODES.keys() - {"CAUSAL"})
    padding = normalize_padding(padding, rank, names)
    if not isinstance(padding, str) or padding in LAX_NAMES:
        return padding, None, ()
    reach = [(size - 1) * step for size, step in zip(kernel_size, dilation)]
    if padding == "CAUSAL":
        width = tuple((cells, 0) for cells in reach)
    else:
        # What "SAME" pads at stride 1: the smaller half before.
        width = tuple((cells // 2, cells - cells // 2) for cells in reach)
    return "VALID", PAD_MODES[padding], width


def conv_params(
    kernel_size: Sequence[int], in_features: int, features: int, groups: int = 1, use_bias: bool = True
) -> dict[str, ParamSpec]:
    """Returns the parameters of `fx_core, by name.ops.conv.conv`.

    Raises:
      ArgumentError: the groups do not divide the input or output features.

    >>> {name: spec.shape for name, spec in conv_params((3, 3), 8, 16, groups=2).items()}
    {'kernel': (3, 3, 4, 16), 'bias': (16,)}
    """
    for what, size in (("input", in_features), ("output", features)):
        if size % groups:
            raise conv_feature_groups(groups, size, f"The feature groups do not divide the {what} features.")
    space = tuple(f"window_{i}" for i in range(len(kernel_size)))
    shape = (*kernel_size, in_features // groups, features)
    params = {"kernel": ParamSpec(shape, default_kernel_init, (*space, "in", "out"))}
    if use_bias:
        params["bias"] = ParamSpec((features,), default_bias_init, ("out",))
    return params


def hashable(value: Any) -> Any:
    """Converts sequences into tuples, so that a plan can be looked up."""
    if isinstance(value, str) or not hasattr(value, "__iter__"):
        return value
    return tuple([hashable(item) for item in value])


def _conv_window(name: str, value: Any, rank: int | None) -> ArgumentError:
    expected = "a sequence of positive integers, one per spatial dimension"
    if rank is not None:
        expected = f"a positive integer or {rank} of them, one per spatial dimension"
    return ArgumentError(
        f"The {name} of a convolution is not usable.",
        expected=expected,
        got=f"{name}={value!r}",
        fix=f"give {name} as many entries as the kernel has spatial dimensions",
    )


def _conv_padding(padding: Any, rank: int, allowed: str) -> ArgumentError:
    return ArgumentError(
        f"The padding does not fit a convolution with {rank} spatial dimension(s).",
        expected=allowed,
        got=f"padding={padding!r}",
        fix="choose one of these, or pad the input with jnp.pad and use padding='VALID'",
    )
