"""scan."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import fx_transforms
from fx_transforms import Slot
from fx_transforms.errors import transform_output

from fx_nnx.errors import PrefixError
from fx_nnx.transforms.arguments import bound, decorating
from fx_nnx.transforms.axes import NO_METADATA, AxisGroups
from fx_nnx.transforms.carrier import ObjectCarrier
from fx_nnx.transforms.change import Returned
from fx_nnx.transforms.eager import are_arrays, compiled_once
from fx_nnx.transforms.jit import Watch
from fx_nnx.transforms.layout import Handle, on_tree
from fx_nnx.transforms.policies import GraphMode, ResultPolicy, graph_mode
from fx_nnx.transforms.prefixes import Carry, PerVariable, StateAxes, entries_of
from fx_nnx.transforms.targets import Target, transformed

__all__ = ["scan"]


@decorating
def scan(
    f: Callable[..., Any],
    *,
    length: int | None = None,
    reverse: bool = False,
    unroll: int | bool = 1,
    _split_transpose: bool = False,
    in_axes: Any = (Carry, 0),
    out_axes: Any = (Carry, 0),
    transform_metadata: Any = NO_METADATA,
    graph: bool | None = None,
    graph_updates: bool | None = None,
) -> Any:
    """Loops a function of modules and arrays over an axis of them.

    What is marked with `Carry`, an argument or through `StateAxes` some variables of a module, is handed on from step
    to step; what has an axis is cut along it, and what steps leave behind is stacked; what has None all steps share.

    >>> import jax.numpy as jnp
    >>> import fx_nnx as nnx
    >>> layers = nnx.Dict(scale=nnx.Param(jnp.array([1.0, 2.0, 3.0])))
    >>> scan(lambda x, layer: x * layer.scale, in_axes=(Carry, 0), out_axes=Carry)(10.0, layers)
    Array(60., dtype=float32)

    Args:
      f: the body; without it, a decorator is returned.
      length: number of steps, needed if nothing has an axis.
      reverse: whether to begin at the end.
      unroll: steps per iteration of the compiled loop.
      in_axes: an axis, None or `Carry` for all arguments, or a tuple with an entry per argument: one of these, a tree
        of axes, or `StateAxes`. At most one argument is the carry.
      out_axes: the same for the result, without None.
      transform_metadata: with ``{nnx.PARTITION_NAME: name}`` the axis names of variables lose and gain the name.
      graph: False treats modules as trees, in which no object is shared.
      graph_updates: False lets only values of variables come out. Variables that all steps share are then handed on.

    Raises:
      TransformError: one variable is reachable on two ways with different axes.
      AxisSizeError: axes of different lengths, or none at all.
      BroadcastVariableError: a step writes a variable that all steps share.
      CarryChangedError: the carry changes its structure, shapes or dtypes.
      PrefixError: axes do not fit arguments or results, or `Carry` is where it cannot be.
      TransformError: the result has not as many parts as ``out_axes``.
    """
    target, loop = Target(f), _loop_of(in_axes, out_axes, graph_mode(graph, graph_updates), transform_metadata)
    carrier, position_out = loop.carrier, loop.position_out

    def step(carry: Any, *tree: Any) -> Any:
        del carry  # it is among the groups
        out = target.call(*tree)
        if position_out is None:
            return out
        if position_out == -1:
            return Returned(out, ())
        if not isinstance(out, tuple) or len(out) != len(out_axes):
            raise transform_output("scan", f"a tuple of {len(out_axes)} parts, as out_axes says", out)
        return Returned(out[position_out], (*out[:position_out], *out[position_out + 1 :]))

    def lift(watched: Watch) -> fx_transforms.Lifted:
        return fx_transforms.scan(
            watched(step),
            carrier,
            loop.slots,
            in_axes=(),
            length=length,
            reverse=reverse,
            unroll=unroll,
            split_transpose=_split_transpose,
            check_constancy=False,
        )

    settings = tuple(transform_metadata.items())
    options = (length, reverse, unroll, _split_transpose, in_axes, out_axes, settings, *carrier.mode)

    def call(args: Any, kwargs: Any, *rest: Any) -> Any:
        args = bound(f, args, kwargs) if kwargs else args
        if isinstance(in_axes, tuple) and len(in_axes) != len(args):
            raise PrefixError.mismatch("in_axes of scan", in_axes, f"{len(args)} arguments")
        handle = Handle((args, {}, *rest))
        # What all steps share is not traced if it is a number or an array of NumPy.
        entries = in_axes if isinstance(in_axes, tuple | list) else [in_axes] * len(args)
        traced = all(e is Carry or are_arrays(arg, numpy=type(e) is int) for arg, e in zip(args, entries))
        out = (compiled_once("scan", (f,), options, lift) if traced else lift(on_tree))(handle, ())
        if position_out is None:
            return out
        carry = carrier.carry_of(handle)
        return carry if position_out == -1 else (*out[:position_out], carry, *out[position_out:])

    return transformed(target, call)


class _Axes(NamedTuple):
    """What the axes of a loop come to.

    Attributes:
      carrier: its carrier.
      slots: of the groups.
      position_out: of the carry in the result, see `_carry`.
    """

    carrier: ObjectCarrier
    slots: list[Slot]
    position_out: int | None


def _loop_of(in_axes: Any, out_axes: Any, mode: GraphMode, metadata: Any) -> _Axes:
    """Read the axes of a loop; usual ones, such as a layer has in every call, only once."""
    kinds = _kinds_of(in_axes), _kinds_of(out_axes)
    if None in kinds or metadata is not NO_METADATA:
        return _read(in_axes, out_axes, mode, metadata)
    try:
        return _read_once(in_axes, out_axes, mode, kinds)
    except TypeError:  # a filter without a hash
        return _read(in_axes, out_axes, mode, metadata)


def _kinds_of(axes: Any) -> tuple[Any, ...] | None:
    """Types of axes, to distinguish 0 from False; None where there is more to axes than entries."""
    kinds: list[Any] = []
    for entry in axes if type(axes) is tuple else (axes,):
        if type(entry) is StateAxes:
            # Plugins may have registered more collections since.
            kinds.append((*map(type, entry.axes), entry.completed("scan")))
        elif entry is None or entry is Carry or type(entry) is int:
            kinds.append(type(entry))
        else:
            return None
    return tuple(kinds)


@functools.lru_cache(maxsize=256)
def _read_once(in_axes: Any, out_axes: Any, mode: GraphMode, kinds: Any) -> _Axes:
    del kinds  # only to tell axes apart
    return _read(in_axes, out_axes, mode, NO_METADATA)


def _read(in_axes: Any, out_axes: Any, mode: GraphMode, metadata: Any) -> _Axes:
    position_in, position_out = _carry("in_axes", in_axes), _carry("out_axes", out_axes)
    if (position_in is None) != (position_out is None):
        raise PrefixError.misplaced("out_axes of scan", out_axes, "Carry where in_axes has it, and nowhere else")
    if any(entry is None for entry in entries_of(out_axes)):
        raise PrefixError.misplaced("out_axes of scan", None, "axes, Carry, or a StateAxes")
    rest_axes = out_axes
    if position_out is not None:
        rest_axes = () if position_out == -1 else (*out_axes[:position_out], *out_axes[position_out + 1 :])
    groups = AxisGroups("scan", in_axes, rest_axes, mode, carries=True)
    carrier = groups.carrier(
        metadata,
        results=ResultPolicy(emptied=((), ())),
        carried=None if position_in is None else max(position_in, 0),
    )
    return _Axes(carrier, groups.slots(), position_out)


def _carry(name: str, axes: Any) -> int | None:
    """Position of the carry: -1 if it is all there is, None if there is none."""
    if axes is Carry:
        return -1
    entries = axes if isinstance(axes, tuple | list) else (axes,)
    found = [i for i, entry in enumerate(entries) if entry is Carry]
    nested = [e for e in entries if not isinstance(e, PerVariable) and e is not Carry and Carry in entries_of(e)]
    if len(found) > 1 or nested:
        raise PrefixError.misplaced(f"{name} of scan", axes, "Carry once, as the entry of an argument or result")
    return found[0] if found else None
