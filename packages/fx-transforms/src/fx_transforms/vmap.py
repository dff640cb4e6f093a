"""vmap and pmap over groups of state."""

import functools
import re
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import jax

from fx_transforms.axes import check_new_axes, check_slots, common_size, split_keys, spread
from fx_transforms.carrier import Carrier, Groups, Outcome, run
from fx_transforms.errors import BroadcastVariableError
from fx_transforms.slot import Place, Slot

__all__ = ["pmap", "vmap"]


def vmap(
    fn: Callable[..., Any],
    carrier: Carrier[Any],
    slots: Sequence[Slot],
    *,
    in_axes: Any = 0,
    out_axes: Any = 0,
    axis_size: int | None = None,
    axis_name: Any = None,
    spmd_axis_name: Any = None,
    transform: str = "vmap",
) -> Callable[..., Any]:
    """Maps ``fn(inner, *args)`` over an axis of state and arguments.

    Args:
      fn: function of the merged state and arrays.
      carrier: what splits and merges the state.
      slots: one per group: axes, `SHARED` or `KEYS`.
      in_axes: axes of the arguments after the state, a prefix of their tree.
      out_axes: axes of the results, a prefix of their tree.
      axis_size: number of steps; needed only when nothing has a mapped axis.
      axis_name: name for collectives.
      spmd_axis_name: mesh axis for sharding constraints inside.
      transform: name for messages.

    Returns:
      a function ``(handle, *args)`` that changes the handle as the steps did.

    Raises:
      AxisSizeError: mapped axes of different sizes, or none at all.
      TransformError: a slot other than those above.

    >>> import jax.numpy as jnp
    >>> import fx_core
    >>> import fx_transforms
    >>> carrier = fx_transforms.ScopeCarrier(["params"], [False], [])
    >>> scope = fx_core.Scope({"params": {"scale": jnp.arange(3.0)}}, {})
    >>> scale = lambda scope, x: x * scope.get_variable("params", "scale")
    >>> fx_transforms.vmap(scale, carrier, [fx_transforms.axis(0)])(scope, jnp.ones(3))
    Array([0., 1., 2.], dtype=float32)
    """
    mapper = functools.partial(jax.vmap, axis_name=axis_name, spmd_axis_name=spmd_axis_name)
    return _mapped(mapper, fn, carrier, slots, in_axes, out_axes, axis_size, transform)


def pmap(
    fn: Callable[..., Any],
    carrier: Carrier[Any],
    slots: Sequence[Slot],
    *,
    in_axes: Any = 0,
    out_axes: Any = 0,
    axis_size: int | None = None,
    axis_name: Any = None,
    devices: Sequence[Any] | None = None,
    transform: str = "pmap",
) -> Callable[..., Any]:
    """Maps ``fn(inner, *args)`` over devices; the arguments are those of `vmap`.

    New code does better with `shard_map`; this is for programs that have it.

    >>> import jax.numpy as jnp
    >>> import fx_core
    >>> import fx_transforms
    >>> carrier = fx_transforms.ScopeCarrier(["params"], [False], [])
    >>> scope = fx_core.Scope({"params": {"scale": jnp.full(1, 2.0)}}, {})
    >>> scale = lambda scope, x: x * scope.get_variable("params", "scale")
    >>> float(fx_transforms.pmap(scale, carrier, [fx_transforms.axis(0)])(scope, jnp.ones(1))[0])
    2.0
    """
    mapper = functools.partial(jax.pmap, axis_name=axis_name, devices=devices)
    return _mapped(mapper, fn, carrier, slots, in_axes, out_axes, axis_size, transform)


def _mapped(
    mapper: Callable[..., Any],
    fn: Callable[..., Any],
    carrier: Carrier[Any],
    slots: Sequence[Slot],
    in_axes: Any,
    out_axes: Any,
    axis_size: int | None,
    transform: str,
) -> Callable[..., Any]:
    check_slots(transform, carrier, slots, (Place.SHARED, Place.KEYS), axes=True)
    groups_in = tuple(0 if s.into is Place.KEYS else _axis(s.into) for s in slots)
    groups_out = tuple(_axis(s.out) for s in slots)
    in_axes = tuple(in_axes) if isinstance(in_axes, list) else in_axes

    @functools.wraps(fn)
    def call(handle: Any, *args: Any) -> Any:
        shape, groups = carrier.split(handle)
        size = common_size(transform, carrier, slots, groups, args, spread(in_axes, args), axis_size, "axis_size")
        groups = tuple(split_keys(g, size) if s.into is Place.KEYS else g for s, g in zip(slots, groups))

        def step(groups: Groups, args: tuple[Any, ...]) -> Outcome:
            outcome = run(carrier, fn, shape, groups, *args)
            try:
                axes = spread(out_axes, outcome.out)
            except ValueError:  # no prefix of the result, as JAX will say
                axes = []
            check_new_axes(transform, carrier, slots, outcome.groups, outcome.out, axes)
            return outcome

        places = Outcome(cast(Any, None), groups_out, out_axes)
        mapped = mapper(step, in_axes=(groups_in, in_axes), out_axes=places, axis_size=size)
        with _naming(transform, carrier):
            outcome = mapped(groups, args)
        return carrier.absorb(handle, *outcome)

    return call


@contextmanager
def _naming(transform: str, carrier: Carrier[Any]) -> Generator[None]:
    """Tell JAX's complaint about a shared result that differs between steps as one about state."""
    try:
        yield
    except ValueError as error:
        found = re.search(r"out_axes(?:\[1\]|\.groups)\[(\d+)\](.*?), got axis spec None", str(error))
        if found is None:
            raise
        keys: list[str] = re.findall(r"\['([^']*)'\]", found[2])
        group = int(found[1])
        if len(keys) == 1:
            names = [carrier.label(group, (jax.tree_util.DictKey(keys[0]),))]
        else:
            names = [f"{carrier.label(group, ())} at {''.join(keys[1:]) or found[2]}"]
        raise BroadcastVariableError(transform, names) from error


def _axis(place: int | Place) -> int | None:
    return place if isinstance(place, int) else None
