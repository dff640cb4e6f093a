"""eval_shape and make_jaxpr."""

from collections.abc import Callable, Sequence
from typing import Any

import fx_transforms

from fx_nnx.sharding import lay_out_abstract
from fx_nnx.transforms.arguments import StaticArguments, decorating
from fx_nnx.transforms.carrier import ObjectCarrier
from fx_nnx.transforms.layout import Handle, on_tree, root_paths, variables_in
from fx_nnx.transforms.policies import GraphMode, ResultPolicy, graph_mode
from fx_nnx.transforms.targets import Target, transformed

__all__ = ["eval_shape", "make_jaxpr", "shapes_of"]


def eval_shape(
    f: Callable[..., Any], *args: Any, graph: bool | None = None, graph_updates: bool | None = None, **kwargs: Any
) -> Any:
    """Finds out what a function would give, without computing: arrays become `jax.ShapeDtypeStruct`, in modules too.

    On a mesh (`jax.set_mesh`, or that of the metadata) those of variables also get the sharding that the metadata and
    the rules say, so that a checkpoint can be restored into its shards; not with ``graph=False`` or
    ``graph_updates=False``, see `fx_nnx.as_abstract`.

    >>> import jax.numpy as jnp
    >>> import fx_nnx as nnx
    >>> eval_shape(lambda: nnx.Dict(scale=nnx.Param(jnp.ones((2, 3))))).scale.get_value()
    ShapeDtypeStruct(shape=(2, 3), dtype=float32)

    Args:
      f: the function; it may also give what it has from outside, such as the state of a model.
      *args: its arguments, of which nothing is changed; modules and shapes of arrays will do.
      graph: False treats modules as trees, in which no object is shared.
      graph_updates: False lets no variable of an argument be in the result, as in `jit`. In either case, what the
        function does to its arguments is dropped.
      **kwargs: more arguments.

    Raises:
      NnxError: with ``graph=False`` or ``graph_updates=False``, a variable of an argument is in the result.
      ShardingRuleError: a variable cannot be laid out on the mesh as its metadata says.
    """
    target, mode = Target(f), graph_mode(graph, graph_updates)
    shapes = shapes_of(target, Handle(target.tree(args, kwargs)), mode, outside=True)
    if mode.shared and mode.updates:
        names, leaves, _ = root_paths(shapes)
        for _, _, variable in variables_in(names, leaves):
            lay_out_abstract(variable)
    return shapes


def shapes_of(target: Target, handle: Handle, mode: GraphMode, *, outside: bool = False) -> Any:
    """Returns the shapes of what a function would give, which may be ``outside`` of it."""
    results = ResultPolicy(alias=mode.updates, outside=outside)
    carrier = ObjectCarrier(GraphMode(mode.shared, False), results=results, transform="eval_shape")
    lifted = fx_transforms.eval_shape(on_tree(target.call), carrier)
    return carrier.result_of(handle, *lifted(handle))


@decorating
def make_jaxpr(
    f: Callable[..., Any],
    *,
    graph: bool | None = None,
    graph_updates: bool | None = None,
    static_argnums: int | Sequence[int] = (),
) -> Any:
    """Returns a function of the traced program of ``f``, which does not compute.

    Its inputs are the values of the variables in the arguments and then the arrays of the arguments; its outputs are
    the values that ``f`` changes, those of new variables, and the arrays of the result.

    Args:
      f: the function; without it, a decorator is returned.
      graph: False treats modules as trees, in which no object is shared.
      graph_updates: as in `eval_shape`.
      static_argnums: positions of arguments to trace for.

    >>> import jax.numpy as jnp
    >>> import fx_nnx as nnx
    >>> jaxpr = nnx.make_jaxpr(lambda model, x: model(x))(nnx.Linear(2, 1, rngs=nnx.Rngs(0)), jnp.ones((4, 2)))
    >>> jaxpr.out_avals[0].shape
    (4, 1)
    """
    target, statics = Target(f), StaticArguments(f, "make_jaxpr", static_argnums)
    mode = graph_mode(graph, graph_updates)
    results = ResultPolicy(alias=mode.updates, outside=True)
    carrier = ObjectCarrier(GraphMode(mode.shared, False), results=results, transform="make_jaxpr")

    lifted = fx_transforms.make_jaxpr(on_tree(target.call), carrier)

    def call(args: Any, kwargs: Any, *rest: Any) -> Any:
        given, args, kwargs = statics.take(args, kwargs)
        return lifted(Handle((args, kwargs, *rest), given))[0]

    return transformed(target, call)
