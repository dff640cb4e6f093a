"""Functions of arrays that get modules, and functions of modules that get arrays: the two halves of a transform."""

from collections.abc import Callable, Hashable
from typing import Any

import jax

from fx_nnx.graph.kinds import is_node
from fx_nnx.transforms.arguments import decorating
from fx_nnx.transforms.contexts import update_context
from fx_nnx.transforms.targets import named
from fx_nnx.transforms.trees import from_tree, to_tree

__all__ = ["merge_inputs", "split_inputs"]

_TAG = "split_merge_inputs"


@decorating
def split_inputs(f: Callable[..., Any], *, ctxtag: Hashable = _TAG) -> Any:
    """Passes modules to a transform of JAX, whose function `merge_inputs` has made.

    What the function does to its arguments is done to the caller's objects. For `jax.jit`, `jax.vmap` and others there
    are transforms of this package; these two make more of them, of transforms that it does not know.

    >>> import jax, jax.numpy as jnp
    >>> import fx_nnx as nnx
    >>> @split_inputs
    ... @jax.jit
    ... @merge_inputs
    ... def double(model):
    ...     model.scale[...] *= 2
    ...     return model.scale.sum()
    >>> model = nnx.Dict(scale=nnx.Param(jnp.ones(2)))
    >>> double(model), model.scale[...]
    (Array(4., dtype=float32), Array([2., 2.], dtype=float32))

    The transform sees a function of trees of arrays that gives its arguments beside its result: where it asks for a
    description of results, such as ``out_axes`` of `jax.vmap`, that is ``(in_axes, out_axes)``.

    Args:
      f: a transform, applied to functions from `merge_inputs`, or to be called with them; without it, a decorator is
        returned.
      ctxtag: tag of the `update_context` that both share.
    """

    def call(*args: Any) -> Any:
        with update_context(ctxtag):
            given_back, out = f(*to_tree(args, ctxtag=ctxtag))
            return from_tree((given_back, out), ctxtag=ctxtag, is_inner=False)[1]

    return named(f, call)


@decorating
def merge_inputs(f: Callable[..., Any], *, ctxtag: Hashable = _TAG) -> Any:
    """Makes a function of trees of arrays out of one of modules, see `split_inputs`.

    Args:
      f: the function; without it, a decorator is returned.
      ctxtag: tag of the `update_context` that both share.

    Returns:
      A function ``(*trees) -> (trees, result)``, whose arrays among the trees given back are None.

    >>> import jax.numpy as jnp
    >>> import fx_nnx as nnx
    >>> @nnx.split_inputs
    ... @nnx.merge_inputs
    ... def call(model, x):
    ...     return model(x)
    >>> call(nnx.Linear(2, 1, rngs=nnx.Rngs(0)), jnp.ones((4, 2))).shape
    (4, 1)
    """

    def call(*trees: Any) -> tuple[Any, Any]:
        args = from_tree(trees, ctxtag=ctxtag, is_inner=True)
        out = f(*args)
        objects = jax.tree.map(lambda leaf: leaf if is_node(leaf) else None, args, is_leaf=is_node)
        return to_tree((objects, out), ctxtag=ctxtag)

    return named(f, call)
