"""Errors of the layer mathematics: arguments that make no sense together.

All of them are also `ValueError`, so that code which caught the errors of the reference library goes on working.
"""

from collections.abc import Sequence
from typing import Any

from fx_core.errors._base import FxError

__all__ = [
    "BatchDimsError",
    "ContractionShapeError",
    "ConvFeatureGroupsError",
    "ConvInputRankError",
    "ConvPaddingError",
    "ConvWindowError",
    "DropoutRateError",
    "EinsumEquationError",
    "EmptySequentialError",
    "FeatureAxisError",
    "InexactDtypeError",
    "InvalidAxesError",
    "LayerSizeError",
    "LookupIndexDtypeError",
    "MaskShapeError",
    "NonMatrixWeightError",
    "NormFeatureAxesError",
    "NormGroupsError",
    "NormMaskShapeError",
    "NormReductionAxesError",
    "OpArgumentError",
    "ParameterShapeError",
    "PoolWindowError",
    "SequentialLayersError",
]


class OpArgumentError(FxError, ValueError):
    """Base class of the errors of `fx_core.ops`."""


class InexactDtypeError(OpArgumentError):
    """A layer that computes with real or complex numbers was given an integer dtype.

    Wrong: ``Dense(3, dtype=jnp.int32)``. Right: ``Dense(3, dtype=jnp.float32)``.
    """

    def __init__(self, dtype: Any):
        super().__init__(
            "The computation dtype must be inexact.",
            expected="a floating point or complex dtype",
            got=dtype,
            fix="pass a floating point dtype, or dtype=None to follow the inputs",
        )


class InvalidAxesError(OpArgumentError):
    """An axis lies outside the array, or is named twice.

    Wrong: ``DenseGeneral(3, axis=(-1, -1))``. Right: ``DenseGeneral(3, axis=(-2, -1))``.
    """

    def __init__(self, what: str, axes: Sequence[int], ndim: int):
        super().__init__(
            f"{what} does not fit an array of {ndim} dimensions.",
            expected=f"distinct axes between {-ndim} and {ndim - 1}",
            got=tuple(axes),
            fix="count the dimensions of the input, the batch dimension included",
        )


class BatchDimsError(OpArgumentError):
    """The batch dimensions of a general dense layer are not the leading ones.

    Wrong: ``DenseGeneral(3, batch_dims=(1,))``. Right: move that axis to the front and say ``batch_dims=(0,)``.
    """

    def __init__(self, batch_dims: Sequence[int]):
        super().__init__(
            "Batch dimensions must be consecutive leading dimensions, starting from 0.",
            expected=f"batch_dims={tuple(range(len(batch_dims)))}",
            got=f"batch_dims={tuple(batch_dims)}",
            fix="move the batch axes of the input to the front (jnp.moveaxis)",
        )


class EinsumEquationError(OpArgumentError):
    """An einsum layer needs an explicit equation of exactly two operands: the input and the kernel.

    Wrong: ``Einsum((4, 5), "abc,cd")``. Right: ``Einsum((4, 5), "abc,cd->abd")``.
    """

    def __init__(self, equation: str | None, problem: str):
        super().__init__(
            f"The einsum equation {problem}.",
            expected="an equation such as 'abc,cd->abd': input, kernel, result",
            got=None if equation is None else repr(equation),
            fix="write the equation with one comma and one '->', once: in the constructor or in the call",
        )


class ContractionShapeError(OpArgumentError):
    """The input of a linear map does not have the sizes of the kernel that is to multiply it, or the bias does not.

    Wrong: ``nnx.LinearGeneral((3, 4), 5, axis=(-2, -1), rngs=rngs)(jnp.ones((2, 3, 5)))``. Right: an input of shape
    ``(2, 3, 4)``.
    """

    def __init__(self, what: str, *, expected: Any, got: Any, fix: str):
        super().__init__(what, expected=expected, got=got, fix=fix)


class FeatureAxisError(OpArgumentError):
    """The inputs of a layer have no axis of features.

    Wrong: ``nn.Dense(3).init(key, jnp.array(1.0))``. Right: ``nn.Dense(3).init(key, jnp.array([1.0]))``.
    """

    def __init__(self, what: str, got: Any):
        shape = getattr(got, "shape", None)
        super().__init__(
            f"The {what} have no axis of features.",
            expected="an array of shape (..., features)",
            got=f"a value of type {type(got).__name__}" if shape is None else f"shape {tuple(shape)}",
            fix=f"make the {what} an array with at least one axis, such as x[None]",
        )


class LayerSizeError(OpArgumentError):
    """A layer was made with sizes that no array can have.

    Wrong: ``nnx.Linear("3", 4, rngs=rngs)``, ``nnx.Linear(-1, 4, rngs=rngs)``. Right: ``nnx.Linear(3, 4, rngs=rngs)``.
    """

    def __init__(self, shape: Sequence[Any]):
        super().__init__(
            "The sizes of a layer make no shape of a parameter.",
            expected="integers that are not negative",
            got=tuple(shape),
            fix="look at the numbers of features that the layer was made with",
        )


class LookupIndexDtypeError(OpArgumentError):
    """An embedding was looked up with numbers that are not integers.

    Wrong: ``embed(jnp.array([0.0, 1.0]))``. Right: ``embed(jnp.array([0, 1]))``.
    """

    def __init__(self, dtype: Any):
        super().__init__(
            "An embedding is looked up by integers.",
            expected="an array of signed or unsigned integers",
            got=dtype,
            fix="cast the indices with .astype(jnp.int32); to multiply vectors with the embedding use attend",
        )


class MaskShapeError(OpArgumentError):
    """The mask of a kernel has another shape than the kernel.

    Wrong: ``Conv(8, (3,), mask=jnp.ones((3, 8)))``. Right: ``Conv(8, (3,), mask=jnp.ones((3, in_features, 8)))``.
    """

    def __init__(self, mask_shape: Sequence[Any], kernel_shape: Sequence[Any]):
        super().__init__(
            "The mask must have the same shape as the kernel.",
            expected=tuple(kernel_shape),
            got=tuple(mask_shape),
            fix="give the mask one entry per kernel entry (jnp.broadcast_to)",
        )


class ConvWindowError(OpArgumentError):
    """A kernel size, stride or dilation of a convolution does not fit the number of spatial dimensions.

    Wrong: ``Conv(8, (3, 3), strides=(2,))``. Right: ``Conv(8, (3, 3), strides=(2, 2))`` or ``strides=2``.
    """

    def __init__(self, name: str, value: Any, rank: int | None):
        expected = "a sequence of positive integers, one per spatial dimension"
        if rank is not None:
            expected = f"a positive integer or {rank} of them, one per spatial dimension"
        super().__init__(
            f"The {name} of a convolution is not usable.",
            expected=expected,
            got=f"{name}={value!r}",
            fix=f"give {name} as many entries as the kernel has spatial dimensions",
        )


class ConvPaddingError(OpArgumentError):
    """A padding that this convolution does not know.

    Wrong: ``Conv(8, (3, 3), padding="CAUSAL")`` (causal padding is for one spatial dimension). Right:
    ``padding="SAME"``, ``"VALID"``, ``"CIRCULAR"``, ``"REFLECT"``, an integer, or a pair per spatial dimension.
    """

    def __init__(self, padding: Any, rank: int, allowed: str):
        super().__init__(
            f"The padding does not fit a convolution with {rank} spatial dimension(s).",
            expected=allowed,
            got=f"padding={padding!r}",
            fix="choose one of these, or pad the input with jnp.pad and use padding='VALID'",
        )


class ConvInputRankError(OpArgumentError):
    """The input of a convolution has too few dimensions.

    Wrong: ``Conv(8, (3, 3))(jnp.ones((28, 28)))``. Right: ``Conv(8, (3, 3))(jnp.ones((28, 28, 1)))``.
    """

    def __init__(self, shape: Sequence[Any], rank: int):
        super().__init__(
            f"The input has too few dimensions for a convolution with {rank} spatial dimension(s).",
            expected=f"(*batch, {'space, ' * rank}features)",
            got=tuple(shape),
            fix="add the missing dimension, often the features: x[..., None]",
        )


class ConvFeatureGroupsError(OpArgumentError):
    """The feature groups of a convolution do not divide its features, or a local convolution has groups.

    Wrong: ``Conv(9, (3,), feature_group_count=2)``. Right: ``Conv(8, (3,), feature_group_count=2)``.
    """

    def __init__(self, groups: int, features: int | None, what: str):
        if features is None:
            expected, fix = "feature_group_count=1", "use Conv, or one local convolution per group"
        else:
            expected, fix = f"a divisor of {features}", "choose a count that divides input and output features"
        super().__init__(what, expected=expected, got=f"feature_group_count={groups}", fix=fix)


class PoolWindowError(OpArgumentError):
    """Window, strides or padding of a pooling do not fit each other or the input.

    Wrong: ``max_pool(x, (2, 2), padding=(1, 1))``. Right: ``max_pool(x, (2, 2), padding=((1, 1), (1, 1)))``.
    """

    def __init__(self, what: str, *, expected: Any, got: Any, fix: str):
        super().__init__(what, expected=expected, got=got, fix=fix)


class NormFeatureAxesError(OpArgumentError):
    """An instance norm cannot have the batch axis among its features.

    Wrong: ``InstanceNorm(feature_axes=0)``. Right: ``InstanceNorm(feature_axes=-1)``.
    """

    def __init__(self, feature_axes: Sequence[int]):
        super().__init__(
            "The feature axes cannot include the leading axis, which is the batch.",
            expected="feature axes from 1 on",
            got=tuple(feature_axes),
            fix="leave 0 out of feature_axes",
        )


class NormGroupsError(OpArgumentError):
    """A group norm needs either a number of groups or a group size, which divides the channels.

    Wrong: ``GroupNorm(num_groups=32, group_size=4)``. Right: ``GroupNorm(num_groups=None, group_size=4)``.
    """

    def __init__(self, what: str, *, expected: Any, got: Any, fix: str):
        super().__init__(what, expected=expected, got=got, fix=fix)


class NormMaskShapeError(OpArgumentError):
    """The mask of a normalization does not broadcast to its input.

    Wrong: ``norm(jnp.ones((2, 3)), mask=jnp.ones(2, bool))``. Right: ``mask=jnp.ones((2, 1), bool)``.
    """

    def __init__(self, mask_shape: Sequence[int], shape: Sequence[int]):
        super().__init__(
            "The mask does not broadcast to the input of the normalization.",
            expected=f"a shape that broadcasts to {tuple(shape)}",
            got=tuple(mask_shape),
            fix="give the mask one entry per value, or axes of size 1 (mask[:, None])",
        )


class NormReductionAxesError(OpArgumentError):
    """A group norm reduces at least over the last axis, which it divides into groups.

    Wrong: ``GroupNorm(4, reduction_axes=(1,))``. Right: ``GroupNorm(4, reduction_axes=(1, -1))``.
    """

    def __init__(self, reduction_axes: Sequence[int], ndim: int):
        super().__init__(
            "The reduction axes must include the last axis, which holds the features.",
            expected=f"axes with {ndim - 1}",
            got=tuple(reduction_axes),
            fix="add -1 to reduction_axes",
        )


class DropoutRateError(OpArgumentError):
    """A dropout rate is a probability.

    Wrong: ``Dropout(50)``. Right: ``Dropout(0.5)``.
    """

    def __init__(self, rate: Any):
        super().__init__(
            "A dropout rate is the probability to drop a value.",
            expected="a number between 0 and 1",
            got=rate,
            fix="divide by 100 if the rate is in percent",
        )


class ParameterShapeError(OpArgumentError):
    """An array does not have the shape that the operation needs."""

    def __init__(self, what: str, *, expected: Any, got: Any, fix: str):
        super().__init__(what, expected=expected, got=got, fix=fix)


class SequentialLayersError(OpArgumentError):
    """``Sequential`` was given something that is not a sequence.

    Wrong: ``Sequential(Dense(3))``. Right: ``Sequential([Dense(3)])``.
    """

    def __init__(self, layers: Any):
        super().__init__(
            "The layers of Sequential must be a sequence.",
            expected="a list or tuple of functions and modules",
            got=type(layers).__name__,
            fix="put the layers into a list: Sequential([layer_1, layer_2])",
        )


class EmptySequentialError(OpArgumentError):
    """A ``Sequential`` without layers was called.

    Wrong: ``Sequential([])(x)``. Right: ``Sequential([lambda x: x])(x)``.
    """

    def __init__(self, name: str | None = None):
        super().__init__(
            "Sequential has no layers to call.",
            path=name,
            expected="at least one layer",
            got="no layers",
            fix="add a layer; for the identity use Sequential([lambda x: x])",
        )


class NonMatrixWeightError(FxError, ValueError):
    """A weight with more than two dimensions was to be normalized by its singular value, and the layer forbids it.

    Args:
      name: the weight.
      shape: its shape.
    """

    def __init__(self, name: str, shape: Sequence[int]):
        super().__init__(
            f"The weight {name!r} is no matrix, but error_on_non_matrix is True.",
            expected="two dimensions",
            got=f"shape {tuple(shape)}",
            fix="Set error_on_non_matrix=False to take all dimensions but the last as rows.",
        )
