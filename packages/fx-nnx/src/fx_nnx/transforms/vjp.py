"""vjp and jvp."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import fx_transforms
import jax
from fx_transforms.carrier import Static

from fx_nnx.errors import wrong_tangent
from fx_nnx.graph.kinds import is_node
from fx_nnx.transforms.arguments import Missing
from fx_nnx.transforms.carrier import ObjectCarrier
from fx_nnx.transforms.grad import Wanted
from fx_nnx.transforms.layout import Group, Handle, on_tree
from fx_nnx.transforms.policies import Grouping, GroupPolicy, graph_mode
from fx_nnx.transforms.targets import Target
from fx_nnx.transforms.values import derivative_leaves, refuse_reduce_axes, values_by_path

__all__ = ["jvp", "vjp"]


def vjp(
    f: Any = Missing,
    *primals: Any,
    has_aux: bool = False,
    reduce_axes: Sequence[Any] = (),
    graph: bool | None = None,
    graph_updates: bool | None = None,
) -> Any:
    """Linearizes a function of modules and arrays backwards.

    >>> import jax.numpy as jnp
    >>> import fx_nnx as nnx
    >>> model = nnx.Dict(scale=nnx.Param(jnp.array(3.0)))
    >>> out, backward = vjp(lambda model, x: model.scale * x, model, jnp.array(2.0))
    >>> model_cotangent, x_cotangent = backward(jnp.array(1.0))
    >>> float(out), float(model_cotangent.scale[...]), float(x_cotangent)
    (6.0, 2.0, 3.0)

    Args:
      f: the function, which may change its arguments; without it, a decorator is returned.
      *primals: its arguments; without any, a function of them is returned.
      has_aux: whether ``f`` gives ``(out, aux)``.
      reduce_axes: empty: JAX sums over no named axes any more.
      graph: False treats modules as trees, whose cotangents are modules with cotangents for all variables.
      graph_updates: False lets only values of variables come out, and cotangents are as for trees.

    Returns:
      ``(out, backward)`` or ``(out, backward, aux)``. ``backward`` gives a tuple of cotangents from one of ``out``, in
      the form of the derivatives of `grad`; it is a pytree. Modules in ``out`` take no part.

    Raises:
      TransformError: ``f`` does not give a pair where ``has_aux`` says so.
    """
    refuse_reduce_axes("vjp", reduce_axes)
    if f is Missing:
        return functools.partial(vjp, has_aux=has_aux, graph=graph, graph_updates=graph_updates)
    if not primals:
        return functools.partial(vjp, f, has_aux=has_aux, graph=graph, graph_updates=graph_updates)
    mode = graph_mode(graph, graph_updates)
    wanted = Wanted("vjp", tuple(range(len(primals))), mode)
    carrier = wanted.carrier()
    target = Target(f)
    lifted = fx_transforms.vjp(
        on_tree(target.call), carrier, wrt=range(wanted.count - 1), has_aux=has_aux, transform="vjp"
    )
    handle = Handle(target.tree(primals, {}))
    out, backward, *aux = lifted(handle)
    return out, jax.tree_util.Partial(_Cotangents(wanted, handle), backward), *aux


class _Cotangents:
    """Gives cotangents the form of arguments."""

    __slots__ = ("handle", "wanted")

    def __init__(self, wanted: Wanted, handle: Handle):
        self.wanted, self.handle = wanted, handle

    def __call__(self, backward: Callable[[Any], Any], cotangent: Any) -> Any:
        """Give one cotangent per argument."""
        (groups,) = backward(cotangent)
        return self.wanted.gradients(self.handle, groups)


def jvp(
    f: Any = Missing,
    primals: Any = Missing,
    tangents: Any = Missing,
    *,
    has_aux: bool = False,
    graph: bool | None = None,
    graph_updates: bool | None = None,
) -> Any:
    """Pushes tangents through a function of modules and arrays.

    Args:
      f: the function, which may change its arguments; without it, a decorator is returned.
      primals: the arguments; without them, a function of arguments and tangents is returned.
      tangents: their tangents: for a module a state or module with values for some or all of its variables, of which
        the others are constant; for an array an array; None for what is constant.
      has_aux: whether ``f`` gives ``(out, aux)``.
      graph: False treats modules as trees.
      graph_updates: False lets only values of variables come out.

    Returns:
      ``(out, out_tangent)`` or ``(out, out_tangent, aux)``.

    Raises:
      NnxError: the tangents do not fit the primals.
      TransformError: ``f`` does not give a pair where ``has_aux`` says so.

    >>> import jax.numpy as jnp
    >>> import fx_nnx as nnx
    >>> scale = nnx.Param(jnp.full((), 2.0))
    >>> out, tangent = nnx.jvp(lambda scale, x: scale * x, (scale, jnp.ones(())), (None, jnp.ones(())))
    >>> float(out), float(tangent)
    (2.0, 2.0)
    """
    if f is Missing:
        return functools.partial(jvp, has_aux=has_aux, graph=graph, graph_updates=graph_updates)
    if primals is Missing or tangents is Missing:
        return functools.partial(jvp, f, has_aux=has_aux, graph=graph, graph_updates=graph_updates)
    moves = _Tangents(tuple(primals), tuple(tangents))
    groups = [GroupPolicy("a tangent"), GroupPolicy("no tangent")]
    grouping = Grouping(moves.group_args, fresh=1)
    carrier = ObjectCarrier(graph_mode(graph, graph_updates), groups=groups, grouping=grouping, transform="jvp")
    target = Target(f)
    lifted = fx_transforms.jvp(on_tree(target.call), carrier, has_aux=has_aux, transform="jvp")
    return lifted(Handle(target.tree(tuple(primals), {})), (), (), moves)


class _Tangents(Sequence[Any]):
    """Tangents of two groups: those with tangents and those that are constant."""

    def __init__(self, primals: tuple[Any, ...], tangents: tuple[Any, ...]):
        try:
            parts = derivative_leaves(tangents, primals, is_node)
        except (ValueError, TypeError) as error:
            raise wrong_tangent(str(error)) from error
        self.parts = [values_by_path(part) for part in parts]
        self.moving: list[Any] = []
        self.left = [dict(part) for part in self.parts]

    def group_args(self, tree: Any) -> Any:
        """Groups of the arguments; the tangents are noted in the order of the values."""
        del tree
        collecting = not self.moving

        def group_of(leaf: int, path: tuple[Any, ...], value: Any) -> int:
            if leaf >= len(self.parts) or path not in self.parts[leaf]:  # what the function is bound to stands still
                return 1
            if collecting and path in self.left[leaf]:
                self.moving.append(self.left[leaf].pop(path))
            return 0

        return group_of

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: Any) -> Any:
        if index == 1:
            return None
        if index != 0:
            raise IndexError(index)
        extra = [path for part in self.left for path in part]
        if extra:
            raise wrong_tangent(f"there is a tangent for {extra[0]!r}, which the argument has not")
        return Group(Static(None, ()), self.moving)
