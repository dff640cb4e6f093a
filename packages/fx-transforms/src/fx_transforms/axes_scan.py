"""A scan with axes: any axis of arguments and results, shared inputs and shared results."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, Final

import jax
import jax.numpy as jnp
from fx_core.compat.jax import ShapedArray

from fx_transforms.axes import arg_arrays, check_new_axes, front, restore, spread
from fx_transforms.errors import AxisSizeError, TransformError, transform_output
from fx_transforms.steps import loop_steps

__all__ = ["broadcast", "build_shaped_array", "scan"]


class _Broadcast:
    """The axis of what every step shares."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "broadcast"

    def __reduce__(self) -> str:
        return "broadcast"


broadcast: Final = _Broadcast()
"""In place of an axis: an argument that every step sees whole, or a result that is the same in every step."""


def scan(
    fn: Callable[..., tuple[Any, Any, Any]],
    in_axes: Any,
    out_axes: Any,
    length: int | None = None,
    reverse: bool = False,
    unroll: int = 1,
    _split_transpose: bool = False,
    check_constancy_invariants: bool = True,
) -> Callable[..., tuple[Any, Any, Any]]:
    """Makes a loop out of ``fn(shared, carry, *args) -> (shared, carry, y)``.

    The shared value is the same in every step: what ``fn`` makes of it may depend on nothing else. It is computed once,
    before the loop, and the steps of the loop see the new one.

    >>> import jax.numpy as jnp
    >>> loop = scan(lambda b, c, x: (b + 2, c + 1, 2 * x), in_axes=0, out_axes=0)
    >>> shared, carry, ys = loop(1, 2, jnp.arange(3))
    >>> int(shared), int(carry), ys.tolist()
    (3, 5, [0, 2, 4])

    Args:
      fn: the body.
      in_axes: prefix of the tuple of arguments: an axis, negative counts from the end, or `broadcast`.
      out_axes: the same for the result.
      length: number of steps; needed only when no argument has an axis.
      reverse: whether to begin at the end.
      unroll: steps per iteration of the compiled loop.
      check_constancy_invariants: whether shared results are computed and checked. Without, the shared input comes
        back as it is, results cannot be shared, and the body is traced once less.

    Returns:
      a function ``(shared, carry, *args) -> (shared, carry, ys)``.

    Raises:
      AxisSizeError: arguments of different length, or none that determines it.
      BroadcastVariableError: a shared result depends on the step.
      CarryChangedError: the carry changes its structure, shapes or dtypes.
      TransformError: shared results without the check that they need.
    """
    options = {"reverse": reverse, "unroll": unroll, "_split_transpose": _split_transpose}

    @functools.wraps(fn)
    def loop(shared: Any, carry: Any, *args: Any) -> tuple[Any, Any, Any]:
        axes = prefix_axes(in_axes, args)
        size = steps_of("scan", args, axes, length)
        kept, cut, treedef = part_args(args, axes)
        results: list[Results] = []

        def step(known: Any, carry: Any, xs: Any) -> tuple[Any, Any, Any]:
            returned: Any = fn(known, carry, *join_args(kept, xs, axes, treedef))
            if not isinstance(returned, tuple) or len(returned) != 3:
                raise transform_output("scan", "a tuple (shared, carry, y)", returned)
            shared_out, carry_out, y = returned
            results[:] = [Results.of(y, out_axes, check_constancy_invariants, "scan")]
            same, each = results[0].part(y)
            return (shared_out, same), carry_out, each

        both, carry, ys = loop_steps(
            step,
            shared,
            carry,
            cut,
            again=(lambda both: both[0]) if check_constancy_invariants else None,
            transform="scan",
            name_shared=lambda path: (
                ("shared value" if path[0].idx == 0 else "result") + jax.tree_util.keystr(path[1:])
            ),
            name_carry=lambda path: "carry" + jax.tree_util.keystr(path),
            length=size,
            **options,
        )
        shared_out, same = (shared, ()) if both is None else both
        return shared_out, carry, results[0].join(same, ys)

    return loop


def prefix_axes(prefix: Any, tree: Any) -> list[Any]:
    """Returns one axis per leaf, from a prefix of axes and `broadcast`; `None` shares too."""
    return [broadcast if axis is None else axis for axis in spread(prefix, tree)]


def steps_of(transform: str, args: tuple[Any, ...], axes: Sequence[Any], length: int | None) -> int:
    """Returns number of steps that the arguments have."""
    sized = list(arg_arrays(args, axes, first=2))
    named = {name: jnp.shape(leaf)[axis] if jnp.ndim(leaf) else 0 for name, leaf, axis in sized}
    found = {*named.values()} if length is None else {*named.values(), length}
    if len(found) != 1 or any(not jnp.ndim(leaf) for _, leaf, _ in sized):
        raise AxisSizeError(transform, named, length, "length")
    return found.pop()


def part_args(args: Any, axes: Sequence[Any]) -> tuple[list[Any], list[Any], Any]:
    """Divides the leaves into shared ones and ones to cut, the axis to cut along in front."""
    leaves, treedef = jax.tree.flatten(args)
    kept = [x for x, axis in zip(leaves, axes) if axis is broadcast]
    cut = [front(jnp.asarray(x), axis) for x, axis in zip(leaves, axes) if axis is not broadcast]
    return kept, cut, treedef


def join_args(kept: Sequence[Any], cut: Sequence[Any], axes: Sequence[Any], treedef: Any) -> Any:
    """Undoes `part_args`, inside a step."""
    shared, rows = iter(kept), iter(cut)
    return jax.tree.unflatten(treedef, [next(shared if axis is broadcast else rows) for axis in axes])


class Results:
    """How the result of a step is divided into what is stacked and what is shared."""

    def __init__(self, treedef: Any, axes: list[Any]):
        self.treedef, self.axes = treedef, axes

    @classmethod
    def of(cls, y: Any, out_axes: Any, checked: bool, transform: str) -> "Results":
        """Plans for a result and a prefix of axes."""
        axes = prefix_axes(out_axes, y)
        leaves = jax.tree_util.tree_leaves_with_path(y)
        named = [("the result" + jax.tree_util.keystr(path), leaf) for path, leaf in leaves]
        check_new_axes(transform, ((*pair, axis) for pair, axis in zip(named, axes) if axis is not broadcast))
        if not checked and any(axis is broadcast for axis in axes):
            raise TransformError(
                "A result that all steps of scan share needs check_constancy_invariants=True.",
                expected="out_axes without `broadcast`",
                got=out_axes,
                fix="give the result an axis or leave the check on",
            )
        return cls(jax.tree.structure(y), axes)

    def part(self, y: Any) -> tuple[list[Any], list[Any]]:
        """``(shared, stacked)`` leaves of a step's result."""
        leaves = jax.tree.leaves(y)
        same = [x for x, axis in zip(leaves, self.axes) if axis is broadcast]
        return same, [x for x, axis in zip(leaves, self.axes) if axis is not broadcast]

    def join(self, same: Sequence[Any], stacked: Sequence[Any]) -> Any:
        """Returns the whole result, stacked axes in their places."""
        shared, rows = iter(same), iter(stacked)
        leaves = [next(shared) if axis is broadcast else restore(next(rows), axis) for axis in self.axes]
        return jax.tree.unflatten(self.treedef, leaves)


def build_shaped_array(x: Any, batch_dim: bool = False) -> ShapedArray:
    """Returns the abstract value of an array.

    Args:
      x: anything with a shape and a dtype.
      batch_dim: whether to leave out the first axis.

    >>> import jax.numpy as jnp
    >>> build_shaped_array(jnp.ones((2, 3)), batch_dim=True)
    ShapedArray(float32[3])
    """
    kind = jax.typeof(x)
    return ShapedArray(kind.shape[1:] if batch_dim else kind.shape, kind.dtype)
