"""Loops and conditionals outside of a trace: compiled once, and then found again by their functions.

JAX finds what it compiled for a loop by the identity of the body. Ours is a new function at each call, made of the
structure of the arguments; so the whole loop is compiled like a function given to `fx_nnx.jit`, and kept with the body.
"""

import functools
import inspect
from collections.abc import Callable, Sequence
from types import FunctionType, MethodType
from typing import Any

import jax
import numpy as np
from fx_core import config, spmd
from fx_core.compat.jax import at_top_level
from fx_transforms import Lifted

from fx_nnx.graph.kinds import is_node
from fx_nnx.modes import set_graph_mode, set_graph_updates, use_eager_sharding
from fx_nnx.transforms.change import changes_of
from fx_nnx.transforms.jit import CompiledFunction, Watch
from fx_nnx.transforms.layout import on_tree

__all__ = ["are_arrays", "compiled_once"]

_ATTRIBUTE = "_fx_nnx_compiled"
_LIMIT = 32


class _Table(dict[Any, tuple[Any, CompiledFunction]]):
    """What was compiled for a function, which owns it, so that both go together. It is empty when it is copied."""

    owner: Any = None

    def __reduce__(self) -> tuple[Any, ...]:
        return _Table, ()


def compiled_once(
    transform: str, functions: Sequence[Any], options: tuple[Any, ...], lift: Callable[[Watch], Lifted]
) -> Callable[..., Any]:
    """Returns a transform of functions, compiled if this is outside of a trace and its functions can be found again.

    Args:
      transform: its name.
      functions: the functions.
      options: what else it depends on.
      lift: the transform, given what makes functions of an `Inner` out of functions of its tree.
    """
    if not at_top_level() or jax.config.jax_disable_jit:  # type: ignore[attr-defined]
        return lift(on_tree)
    anchors = [_anchor(f) for f in functions]
    if None in anchors:
        return lift(on_tree)
    owner: Any = anchors[0][1]  # type: ignore[index]
    table = owner.__dict__.get(_ATTRIBUTE)
    if type(table) is not _Table or table.owner is not owner:  # copied from what the function wraps
        table = _Table()
        table.owner = owner
        setattr(owner, _ATTRIBUTE, table)
    modes = [mode.current_value() for mode in (set_graph_mode, set_graph_updates, use_eager_sharding)]
    settings = (*modes, config.fix_rng_separator, repr(spmd.get_logical_axis_rules()))
    kinds = tuple([(kind, id(anchor)) for kind, anchor in anchors])  # type: ignore[misc]
    key = (transform, kinds, options, settings)
    try:
        found = table.get(key)
    except TypeError:  # an option without a hash
        return lift(on_tree)
    if found is None:
        if len(table) >= _LIMIT:
            table.clear()
        # Those without what they are bound to, which each call gives.
        last: Any = tuple([anchor for _, anchor in anchors])  # type: ignore[misc]
        made = CompiledFunction(last, functools.partial(_compiled, lift))
        found = table[key] = anchors, made  # with all functions, so that their identities stay theirs
    return found[1].run


def _compiled(lift: Callable[[Watch], Lifted], watched: Watch) -> Lifted:
    """Compile a transform as a whole."""
    loop = lift(watched)
    whole = functools.partial(changes_of, loop.pure)
    return Lifted(loop, loop.carrier, jax.jit(functools.update_wrapper(whole, loop, updated=())))


def _anchor(f: Any) -> tuple[Any, Any] | None:
    """Give a function that lasts, and what else a callable is that is found by it; None if nothing lasts."""
    if type(f) is FunctionType:
        return None, f
    if isinstance(f, MethodType) and is_node(f.__self__) and type(f.__func__) is FunctionType:
        return "method", f.__func__
    call = inspect.getattr_static(type(f), "__call__", None)
    return (type(f), call) if is_node(f) and type(call) is FunctionType else None


def are_arrays(tree: Any, *, numpy: bool) -> bool:
    """Returns whether a tree has modules in it, and arrays that a program takes for arguments as they are, and no more.

    Args:
      tree: the tree.
      numpy: whether arrays of NumPy are such arrays.
    """
    kinds = (jax.Array, np.ndarray) if numpy else jax.Array
    if isinstance(tree, kinds) or is_node(tree):
        return True
    return all(isinstance(leaf, kinds) or is_node(leaf) for leaf in jax.tree.leaves(tree, is_leaf=is_node))
