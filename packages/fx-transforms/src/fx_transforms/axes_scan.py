"""A scan with axes: any axis of arguments and results, shared inputs and shared results."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
from fx_core.compat.jax import ShapedArray

from fx_transforms.axes import broadcast
from fx_transforms.carrier import Groups, Outcome, Static
from fx_transforms.errors import transform_output
from fx_transforms.scan import scan as scan_groups
from fx_transforms.slot import SHARED

__all__ = ["broadcast", "build_shaped_array", "scan"]


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

    @functools.wraps(fn)
    def body(shared: Any, carry: Any, *args: Any) -> tuple[Any, Any]:
        returned: Any = fn(shared, carry, *args)
        if not isinstance(returned, tuple) or len(returned) != 3:
            raise transform_output("scan", "a tuple (shared, carry, y)", returned)
        shared_out, carry_out, y = returned
        return (shared_out if check_constancy_invariants else shared, carry_out), y

    return scan_groups(
        body,
        _Shared(),
        [SHARED],
        in_axes=in_axes,
        out_axes=out_axes,
        length=length,
        reverse=reverse,
        unroll=unroll,
        split_transpose=_split_transpose,
        check_constancy=check_constancy_invariants,
    )


class _Shared:
    """The carrier of the shared value, which is the only group."""

    def split(self, handle: Any) -> tuple[Static, Groups]:
        """See `Carrier.split`."""
        return _NO_SHAPE, (handle,)

    def merge(self, shape: Static, groups: Groups) -> Any:
        """See `Carrier.merge`."""
        return groups[0]

    def collect(self, inner: Any, out: Any) -> Outcome:
        """See `Carrier.collect`."""
        (shared, carry), y = out
        return Outcome(_NO_SHAPE, (shared,), (carry, y))

    def absorb(self, handle: Any, shape: Static, groups: Groups, out: Any) -> Any:
        """See `Carrier.absorb`."""
        return handle if groups[0] is None else groups[0], *out

    def follow(self, before: Static, after: Static) -> Static:
        """See `Carrier.follow`."""
        return before

    def join(self, shapes: Sequence[Static]) -> Static:
        """See `Carrier.join`."""
        return shapes[0]

    def writes(self, shape: Static) -> Sequence[bool]:
        """See `Carrier.writes`."""
        return [True]

    def label(self, group: int, path: tuple[Any, ...]) -> str:
        """See `Carrier.label`."""
        return "shared value" + jax.tree_util.keystr(path)


_NO_SHAPE = Static(None)


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
