"""Making the variables of a function without computing the rest of it."""

import contextlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
from jax.core import Tracer

from fx_core.compat.jax import prune_jaxpr, tracing
from fx_core.errors.scope import LazyInitError
from fx_core.scope._outside import recording

Path = tuple[Any, ...]


def partial_eval(fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Computes ``fn(*args, **kwargs)`` as far as needed for its result.

    The function runs as under `jax.make_jaxpr`, but for the initializers of variables, which scopes run at once. If the
    result holds anything else that was recorded, the operations it needs run one by one afterwards. So the numbers are
    those of calling the function. Where that fails and nothing is abstract, the function is called: it may need to see
    numbers, and mistakes in it are then reported from there.

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
        if not (tracing() or getattr(jax.config, "jax_disable_jit")):  # noqa: B009 - unknown to the type checker
            with contextlib.suppress(Exception):
                return _record(lambda: fn(*args, **kwargs), [])
        return fn(*args, **kwargs)

    def of_abstract(*abstract: Any) -> Any:
        filled = list(leaves)
        for i, value in zip(where, abstract):
            filled[i] = value
        args, kwargs = jax.tree_util.tree_unflatten(treedef, filled)
        return fn(*args, **kwargs)

    return _record(of_abstract, [leaves[i] for i in where])


def _record(fn: Callable[..., Any], abstract: list[Any]) -> Any:
    result: Any = None
    recorded: list[tuple[Path, Tracer]] = []

    def traced(*abstract: Any) -> list[Tracer]:
        nonlocal result
        with here():
            result = fn(*abstract)
        leaves, _ = jax.tree_util.tree_flatten_with_path(result)
        recorded.extend((path, leaf) for path, leaf in leaves if isinstance(leaf, Tracer))
        return [leaf for _, leaf in recorded]

    here = contextlib.nullcontext if tracing() else recording
    jaxpr = jax.make_jaxpr(traced)(*abstract)
    run, used = prune_jaxpr(jaxpr, [True] * len(recorded))
    if any(used):
        raise _blame(jaxpr, recorded)
    if not recorded:
        return result
    return _replaced(result, {id(leaf): value for (_, leaf), value in zip(recorded, run())})


def _replaced(node: Any, values: Mapping[int, Any]) -> Any:
    if type(node) is dict:  # by hand, as JAX would sort the names
        return {name: _replaced(inner, values) for name, inner in node.items()}
    return jax.tree_util.tree_map(lambda leaf: values.get(id(leaf), leaf), node)


def _blame(jaxpr: Any, recorded: list[tuple[Path, Tracer]]) -> LazyInitError:
    """The error, with the first variable that depends on an abstract argument."""
    for i, (path, leaf) in enumerate(recorded):
        _, used = prune_jaxpr(jaxpr, [i == j for j in range(len(recorded))])
        if any(used):
            collection, *names = [str(getattr(key, "key", key)) for key in path]
            shape = jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, weak_type=getattr(leaf.aval, "weak_type", False))
            return LazyInitError(shape, "/" + "/".join(names), collection)
    return LazyInitError("an effect, such as printing")
