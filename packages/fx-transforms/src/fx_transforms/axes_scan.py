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
        given = ByAxis(in_axes, args)
        size = steps_of("scan", args, given.axes, length)
        kept, cut = given.parted(args)
        results: list[ByAxis] = []

        def step(known: Any, carry: Any, xs: Any) -> tuple[Any, Any, Any]:
            returned: Any = fn(known, carry, *given.joined(kept, xs))
            if not isinstance(returned, tuple) or len(returned) != 3:
                raise transform_output("scan", "a tuple (shared, carry, y)", returned)
            shared_out, carry_out, y = returned
            results[:] = [ByAxis(out_axes, y)]
            same, each = results[0].stacked(y, check_constancy_invariants, "scan")
            return (shared_out, same), carry_out, each

        both, carry, ys = loop_steps(
            step,
            shared,
            carry,
            [front(jnp.asarray(x), axis) for x, axis in zip(cut, given.mapped)],
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
        return shared_out, carry, results[0].joined(same, [restore(y, axis) for y, axis in zip(ys, results[0].mapped)])

    return loop


def steps_of(transform: str, args: tuple[Any, ...], axes: Sequence[Any], length: int | None) -> int:
    """Returns number of steps that the arguments have."""
    sized = list(arg_arrays(args, axes, first=2))
    named = {name: jnp.shape(leaf)[axis] if jnp.ndim(leaf) else 0 for name, leaf, axis in sized}
    found = {*named.values()} if length is None else {*named.values(), length}
    if len(found) != 1 or any(not jnp.ndim(leaf) for _, leaf, _ in sized):
        raise AxisSizeError(transform, named, length, "length")
    return found.pop()


class ByAxis:
    """A tree whose leaves are the same in all steps, or have an axis.

    Args:
      prefix: axes and `broadcast`, a prefix of the tree; `None` shares too.
      tree: the tree.

    Attributes:
      axes: for each leaf its axis, or `broadcast`.
      mapped: the axes alone, for each leaf that has one.
    """

    def __init__(self, prefix: Any, tree: Any):
        self.prefix, self.treedef = prefix, jax.tree.structure(tree)
        self.axes: list[Any] = [broadcast if axis is None else axis for axis in spread(prefix, tree)]
        self.mapped: list[Any] = [axis for axis in self.axes if axis is not broadcast]

    def parted(self, tree: Any) -> tuple[list[Any], list[Any]]:
        """Returns the leaves that are the same in all steps, and those that have an axis."""
        leaves = jax.tree.leaves(tree)
        same = [x for x, axis in zip(leaves, self.axes) if axis is broadcast]
        return same, [x for x, axis in zip(leaves, self.axes) if axis is not broadcast]

    def joined(self, same: Sequence[Any], others: Sequence[Any]) -> Any:
        """Returns the tree of both kinds of leaves."""
        shared, rest = iter(same), iter(others)
        return jax.tree.unflatten(self.treedef, [next(shared if axis is broadcast else rest) for axis in self.axes])

    def stacked(self, tree: Any, checked: bool, transform: str) -> tuple[list[Any], list[Any]]:
        """Returns `parted` results of one step, after a look whether a loop can stack and share them so."""
        paths = [path for path, _ in jax.tree_util.tree_leaves_with_path(tree)]
        named = [("the result" + jax.tree_util.keystr(path), leaf) for path, leaf in zip(paths, jax.tree.leaves(tree))]
        check_new_axes(transform, ((*pair, axis) for pair, axis in zip(named, self.axes) if axis is not broadcast))
        if not checked and any(axis is broadcast for axis in self.axes):
            raise TransformError(
                "A result that all steps of scan share needs check_constancy_invariants=True.",
                expected="out_axes without `broadcast`",
                got=self.prefix,
                fix="give the result an axis or leave the check on",
            )
        return self.parted(tree)


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
