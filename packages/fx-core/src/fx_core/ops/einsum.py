"""Linear maps by an einsum equation of input and kernel."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import jax

from fx_core.array_node import ArrayNode
from fx_core.errors.kinds import ArgumentError, ShapeMismatchError
from fx_core.ops import contract
from fx_core.ops.broadcast import along
from fx_core.ops.contract import Contraction
from fx_core.ops.initializers import default_bias_init, default_kernel_init
from fx_core.ops.params import ParamSpec
from fx_core.typing import PrecisionLike

__all__ = ["EinsumPlan", "check_einsum", "einsum", "einsum_params", "plan_einsum"]


@dataclasses.dataclass(frozen=True)
class EinsumPlan:
    """An einsum equation of input and kernel, taken apart. See `plan_einsum`.

    Attributes:
      equation: the equation without blanks.
      bias_dims: kernel dimensions that make up the bias, in the order of the result.
      bias_positions: where these are among the dimensions of the result.
      result_ndim: number of dimensions of the result.
      joined: pairs of dimensions of input and kernel that have one label.
    """

    equation: str
    bias_dims: tuple[int, ...]
    bias_positions: tuple[int, ...]
    result_ndim: int
    joined: tuple[tuple[int, int], ...] = ()

    def check(self, inputs: Sequence[int], kernel: Sequence[int], bias: Sequence[int] | None) -> None:
        """Compares the shapes of input, kernel and bias.

        Raises:
          ShapeMismatchError: they do not fit each other.
        """
        if any(inputs[i] != kernel[j] and 1 not in (inputs[i], kernel[j]) for i, j in self.joined):
            needed = ", ".join(f"{kernel[j]} in axis {i}" for i, j in self.joined)
            raise ShapeMismatchError(
                f"The input does not have the sizes of the kernel in {self.equation!r}.",
                expected=f"{needed}, as the kernel of shape {tuple(kernel)}",
                got=f"shape {tuple(inputs)}",
                fix="give the input these sizes, or make the layer for those that it has",
            )
        if bias is not None and tuple(bias) != tuple(kernel[dim] for dim in self.bias_dims):
            raise ShapeMismatchError(
                f"The bias does not have the dimensions of the result of {self.equation!r} that the kernel has.",
                expected=tuple(kernel[dim] for dim in self.bias_dims),
                got=tuple(bias),
                fix="make the layer with that bias_shape",
            )

    def broadcast_bias(self, bias: jax.Array | ArrayNode) -> jax.Array:
        """Reshapes the bias so that it adds to the result."""
        return along(bias, [i for i in range(self.result_ndim) if i not in self.bias_positions])


@functools.lru_cache(maxsize=1024)
def plan_einsum(equation: str, inputs_ndim: int, kernel_ndim: int) -> EinsumPlan:
    """Checks an equation and finds out what its bias looks like.

    The bias has those dimensions of the result that also the kernel has.

    Args:
      equation: such as ``"abc,cd->abd"``; ``...`` stands for any number of leading dimensions.
      inputs_ndim: number of dimensions of the input.
      kernel_ndim: number of dimensions of the kernel.

    Raises:
      ArgumentError: there are not exactly two operands, or no ``->``.

    >>> plan_einsum("abc,cde->abed", 3, 3).bias_dims
    (2, 1)
    """
    equation = check_einsum(equation)
    operands, result = equation.split("->")
    left, right = operands.split(",")
    labels_left, labels_right = _labels(equation, left, inputs_ndim), _labels(equation, right, kernel_ndim)
    dots = max((labels for labels in (labels_left, labels_right)), key=lambda ls: sum(isinstance(x, int) for x in ls))
    ellipsis = [label for label in dots if isinstance(label, int)]
    out: list[str | int] = []
    for part in result.replace("...", "."):
        out.extend(ellipsis if part == "." else [part])
    shared = [(labels_right.index(label), i) for i, label in enumerate(out) if label in labels_right]
    joined = tuple((i, labels_right.index(label)) for i, label in enumerate(labels_left) if label in labels_right)
    return EinsumPlan(equation, tuple(dim for dim, _ in shared), tuple(i for _, i in shared), len(out), joined)


def check_einsum(equation: str | None) -> str:
    """Returns the equation without blanks, or raise `ArgumentError`."""
    if equation is None:
        raise _einsum_equation(None, "is missing")
    plain = equation.replace(" ", "")
    if "->" not in plain:
        raise _einsum_equation(equation, "does not say what the result is")
    if plain.count(",") != 1:
        raise _einsum_equation(equation, f"has {plain.count(',') + 1} operand(s) instead of two")
    return plain


def einsum_params(kernel_shape: Sequence[int], bias_shape: Sequence[int] | None) -> dict[str, ParamSpec]:
    """Returns the parameters of `einsum`, by name.

    >>> {name: spec.shape for name, spec in einsum_params((4, 5), (5,)).items()}
    {'kernel': (4, 5), 'bias': (5,)}
    """
    kernel_shape = tuple(kernel_shape)
    params = {
        "kernel": ParamSpec(kernel_shape, default_kernel_init, tuple(f"kernel_{i}" for i in range(len(kernel_shape))))
    }
    if bias_shape is not None:
        bias_shape = tuple(bias_shape)
        params["bias"] = ParamSpec(bias_shape, default_bias_init, tuple(f"bias_{i}" for i in range(len(bias_shape))))
    return params


def einsum(
    plan: EinsumPlan,
    inputs: jax.Array,
    kernel: jax.Array | ArrayNode,
    bias: jax.Array | ArrayNode | None = None,
    *,
    precision: PrecisionLike = None,
    einsum_op: Contraction | None = None,
    **options: Any,
) -> jax.Array:
    """Computes an einsum of input and kernel and add a bias.

    Args:
      plan: from `plan_einsum`.
      inputs: the first operand.
      kernel: the second operand.
      bias: the dimensions of the result that the kernel has, in the order of the result; or None.
      precision: of the multiplication, see `jax.lax.Precision`.
      einsum_op: replaces `jax.numpy.einsum`.
      **options: handed to ``einsum_op``: ``preferred_element_type``, ``out_sharding``.

    Returns:
      What the equation says.

    Raises:
      ShapeMismatchError: the shapes do not fit each other.

    >>> import jax.numpy as jnp
    >>> plan = plan_einsum("abc,cd->adb", 3, 2)
    >>> einsum(plan, jnp.ones((1, 2, 3)), jnp.ones((3, 2)), jnp.array([0.0, 1.0]))
    Array([[[3., 3.], [4., 4.]]], dtype=float32)
    """
    plan.check(inputs.shape, kernel.shape, None if bias is None else bias.shape)
    result = contract.einsum(plan.equation, inputs, kernel, einsum_op, precision=precision, **options)
    return result if bias is None else result + plan.broadcast_bias(bias)


def _labels(equation: str, operand: str, ndim: int) -> list[str | int]:
    # A dimension under the ellipsis is labeled by its distance to the last one there: that is how they are broadcast.
    if operand.count("...") > 1:
        raise _einsum_equation(equation, "has two ellipses in one operand")
    named = operand.replace("...", "")
    hidden = ndim - len(named)
    if hidden < 0 or (hidden > 0 and "..." not in operand):
        raise _einsum_equation(equation, f"names {len(named)} dimensions of an operand that has {ndim}")
    labels: list[str | int] = []
    for part in operand.replace("...", "."):
        labels.extend(range(-hidden, 0) if part == "." else [part])
    return labels


def _einsum_equation(equation: str | None, problem: str) -> ArgumentError:
    return ArgumentError(
        f"The einsum equation {problem}.",
        expected="an equation such as 'abc,cd->abd': input, kernel, result",
        got=None if equation is None else repr(equation),
        fix="write the equation with one comma and one '->', once: in the constructor or in the call",
    )
