"""Convolutions."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from fx_export.onnx.builder import Builder
from fx_export.onnx.registry import RefusedError, primitive
from fx_export.onnx.shapes import padded, reversed_along, with_windows
from fx_export.onnx.tensor import Tensor, at_least_one, is_static, surely_positive

Pairs = Sequence[tuple[int, int]]


@primitive("conv_general_dilated")
def convolution(build: Builder, eqn: Any, x: Tensor, kernel: Tensor) -> Tensor:
    """A convolution with strides, padding, dilation of either side, and groups."""
    p, result = eqn.params, eqn.outvars[0].aval
    numbers, dtype = p["dimension_numbers"], np.dtype(result.dtype)
    if not numbers.lhs_spec[2:]:
        raise RefusedError("a convolution over no dimension")
    groups = p["feature_group_count"]
    x = build.transpose(x, numbers.lhs_spec)
    kernel = build.transpose(kernel, numbers.rhs_spec)
    shape = [result.shape[axis] for axis in numbers.out_spec]
    if p["batch_group_count"] > 1:
        x, groups = _batch_as_features(build, x, p["batch_group_count"]), p["batch_group_count"]
    padding = p["padding"]
    if not is_static([count for pair in padding for count in pair]):
        # Operators have fixed padding only.
        low, high = ([0, 0, *(pair[end] for pair in padding)] for end in (0, 1))
        if any(factor != 1 for factor in p["lhs_dilation"]):
            raise RefusedError("gaps in an input that is padded by a free size")
        x, padding = padded(build, x, low, high, build.like(x, 0)), [(0, 0)] * len(padding)
    settings = _Settings(p["window_strides"], padding, p["rhs_dilation"], groups)
    spread = p["lhs_dilation"]
    if _in_32_bits(x, kernel, dtype, spread):
        # Sums that do not fit into fewer bits wrap around, as in JAX.
        out = _convolved(build, "ConvInteger", x, kernel, settings, spread, shape, np.dtype(np.int32))
    else:
        single = _single(build, x, kernel, dtype)
        out = _convolved(build, "Conv", *single, settings, spread, shape, single[0].dtype)
    out = build.cast(out, dtype)
    return build.transpose(out, np.argsort(numbers.out_spec).tolist())


class _Settings:
    """What a convolution does besides multiplying."""

    def __init__(self, strides: Sequence[int], padding: Pairs, dilation: Sequence[int], groups: int):
        self.strides, self.padding = list(strides), [(int(a), int(b)) for a, b in padding]
        self.dilation, self.groups = list(dilation), groups


def _in_32_bits(x: Tensor, kernel: Tensor, dtype: np.dtype, spread: Sequence[int]) -> bool:
    """Whether sums of integers of 8 bits are exact in 32 bits; where the input has gaps, they are made in float32."""
    if dtype.kind not in "iu" or not {x.dtype.name, kernel.dtype.name} <= {"int8", "uint8"}:
        return False
    largest = math.prod(kernel.shape[1:]) * 2**16
    return largest <= 2**24 if any(factor != 1 for factor in spread) else largest < 2**31 or dtype.itemsize <= 4


def _single(build: Builder, x: Tensor, kernel: Tensor, dtype: np.dtype) -> tuple[Tensor, Tensor]:
    """Operands in the dtype of the sums, which are of floats."""
    if dtype.kind in "iu":
        terms = math.prod(kernel.shape[1:])
        raise RefusedError(f"integers of {x.dtype} in sums of {terms}; ONNX convolves floats and integers of 8 bits")
    return build.cast(x, dtype), build.cast(kernel, dtype)


def _batch_as_features(build: Builder, x: Tensor, groups: int) -> Tensor:
    batch, features, *space = x.shape
    parts = build.reshape(x, (groups, batch // groups, features, *space))
    moved = build.transpose(parts, [1, 0, *range(2, parts.ndim)])
    return build.reshape(moved, (batch // groups, groups * features, *space))


def _convolved(
    build: Builder,
    op: str,
    x: Tensor,
    kernel: Tensor,
    settings: _Settings,
    spread: Sequence[int],
    shape: Sequence[Any],
    dtype: np.dtype,
) -> Tensor:
    if any(factor != 1 for factor in spread):
        if op == "ConvInteger":
            x, kernel = build.cast(x, np.float32), build.cast(kernel, np.float32)
        return build.cast(_transposed(build, x, kernel, settings, spread, shape), dtype)
    crop = [min(0, a) for a, _ in settings.padding], [min(0, b) for _, b in settings.padding]
    x = padded(build, x, [0, 0, *crop[0]], [0, 0, *crop[1]], build.like(x, 0))
    pads = [max(0, a) for a, _ in settings.padding] + [max(0, b) for _, b in settings.padding]
    space = range(len(spread))
    reach = [settings.dilation[n] * (kernel.shape[n + 2] - 1) + 1 for n in space]
    lengths = {n + 2: reach[n] - pads[n] - pads[n + len(space)] for n in space}
    x = with_windows(build, x, lengths, {n + 2: shape[n + 2] for n in space}, build.like(x, 0))
    attributes = {
        "kernel_shape": [int(size) for size in kernel.shape[2:]],
        "strides": settings.strides,
        "dilations": settings.dilation,
        "pads": pads,
        "group": settings.groups,
    }
    typed = () if op == "ConvInteger" else (0, 1)
    found = (*shape[:2], *map(at_least_one, shape[2:]))
    out = build.op(op, [x, kernel], found, dtype, typed=typed, **attributes)
    return build.slice(out, [0] * out.ndim, shape, [1] * out.ndim)


def _transposed(
    build: Builder, x: Tensor, kernel: Tensor, settings: _Settings, spread: Sequence[int], shape: Sequence[Any]
) -> Tensor:
    """A convolution of an input with gaps is the transpose of one with strides.

    The transposed one gives all places that the kernel touches; padding cuts off or adds zeros at the ends.
    """
    space = range(len(spread))
    empty = not all(map(surely_positive, x.shape[2:]))
    # Runtimes take no axis without elements: zeros in their place touch nothing.
    x = with_windows(build, x, {n + 2: 1 for n in space}, {n + 2: x.shape[n + 2] for n in space}, build.like(x, 0))
    reach = [settings.dilation[n] * (kernel.shape[n + 2] - 1) for n in space]
    whole = [(x.shape[n + 2] - 1) * spread[n] + 1 + reach[n] for n in space]
    cut = [(reach[n] - a, reach[n] - b) for n, (a, b) in enumerate(settings.padding)]
    ends = [whole[n] - max(0, cut[n][0]) - max(0, cut[n][1]) for n in space]
    # What cuts off more than there is leaves nothing, which runtimes refuse.
    inner = [(max(0, a), max(0, b)) if surely_positive(end) else (0, 0) for (a, b), end in zip(cut, ends)]
    flipped = _swapped(build, reversed_along(build, kernel, [n + 2 for n in space]), settings.groups)
    out_shape = (*shape[:2], *(whole[n] - inner[n][0] - inner[n][1] for n in space))
    attributes = {
        "kernel_shape": [int(size) for size in kernel.shape[2:]],
        "strides": list(spread),
        "dilations": settings.dilation,
        "pads": [a for a, _ in inner] + [b for _, b in inner],
        "group": settings.groups,
    }
    out = build.op("ConvTranspose", [x, flipped], out_shape, typed=(0, 1), **attributes)
    outside = [(i - a, k - b) for (a, b), (i, k) in zip(cut, inner)]
    low, high = [0, 0, *(a for a, _ in outside)], [0, 0, *(b for _, b in outside)]
    out = padded(build, out, low, high, build.like(out, 0))
    if any(stride != 1 for stride in settings.strides):
        out = build.slice(out, [0] * out.ndim, out.shape, [1, 1, *settings.strides])
    return build.slice(out, [0] * out.ndim, shape, [1] * out.ndim) if empty else out.relabeled(shape, out.axes)


def _swapped(build: Builder, kernel: Tensor, groups: int) -> Tensor:
    """Exchange inputs and outputs of a kernel within its groups."""
    if groups == 1:
        return build.transpose(kernel, [1, 0, *range(2, kernel.ndim)])
    outputs, inputs, *space = kernel.shape
    parts = build.reshape(kernel, (groups, outputs // groups, inputs, *space))
    moved = build.transpose(parts, [0, 2, 1, *range(3, parts.ndim)])
    return build.reshape(moved, (groups * inputs, outputs // groups, *space))
