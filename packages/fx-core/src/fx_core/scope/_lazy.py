"""Evaluating a function of which some arguments are known by shape and dtype only."""

from collections.abc import Callable
from typing import Any

import jax

from fx_core._jax import prune_jaxpr
from fx_core.errors.scope import LazyInitError


def partial_eval(fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Compute ``fn(*args, **kwargs)`` as far as needed for its result, without the abstract arguments.

    The function runs once, as under `jax.jit` with its abstract arguments traced and all others as constants; then the
    operations that the result needs run one by one, so the numbers are those of calling it.

    Args:
      fn: a function to a dictionary of collections.
      args: anything, with `jax.ShapeDtypeStruct` where only shape and dtype are known.
      kwargs: the same.

    Raises:
      LazyInitError: the result depends on such an argument.
    """
    leaves, treedef = jax.tree_util.tree_flatten((args, kwargs))
    where = [i for i, leaf in enumerate(leaves) if isinstance(leaf, jax.ShapeDtypeStruct)]
    if not where:
        return fn(*args, **kwargs)

    def of_abstract(*abstract: Any) -> Any:
        filled = list(leaves)
        for i, value in zip(where, abstract):
            filled[i] = value
        args, kwargs = jax.tree_util.tree_unflatten(treedef, filled)
        return fn(*args, **kwargs)

    jaxpr, shapes = jax.make_jaxpr(of_abstract, return_shape=True)(*(leaves[i] for i in where))
    outputs, structure = jax.tree_util.tree_flatten(shapes)
    run, used = prune_jaxpr(jaxpr, [True] * len(outputs))
    if any(used):
        raise _blame(jaxpr, shapes)
    return jax.tree_util.tree_unflatten(structure, run())


def _blame(jaxpr: Any, shapes: Any) -> LazyInitError:
    """The error, with the first variable that depends on an abstract argument."""
    paths, _ = jax.tree_util.tree_flatten_with_path(shapes)
    for i, (path, shape) in enumerate(paths):
        _, used = prune_jaxpr(jaxpr, [i == j for j in range(len(paths))])
        if any(used):
            collection, *names = [str(getattr(key, "key", key)) for key in path]
            return LazyInitError(shape, "/" + "/".join(names), collection)
    return LazyInitError("an effect, such as printing")
