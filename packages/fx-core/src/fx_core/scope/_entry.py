"""From a function of a scope to a function of variables: init, apply, bind, lazy_init."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

from fx_core import config
from fx_core.errors.scope import (
    ApplyScopeInvalidVariablesStructureError,
    ApplyScopeInvalidVariablesTypeError,
    InvalidRngError,
)
from fx_core.frozen_dict import FrozenDict, freeze, unfreeze
from fx_core.scope._bare import VariableDict
from fx_core.scope._filters import CollectionFilter, DenyList, in_filter, is_filter_empty
from fx_core.scope._lazy import partial_eval
from fx_core.scope._rng import LazyRng, PRNGKey, is_key
from fx_core.scope._scope import Scope
from fx_core.traceback_util import api_boundary


def bind(
    variables: VariableDict,
    rngs: Mapping[str, PRNGKey | LazyRng] | None = None,
    mutable: CollectionFilter = False,
    flags: Mapping[str, Any] | None = None,
) -> Scope:
    """Creates a scope that lasts, to try things out.

    >>> scope = bind({"params": {"scale": 2.0}})
    >>> scope.get_variable("params", "scale")
    2.0

    Args:
      variables: collections by name. Mutable ones are copied, so the caller's dictionaries never change.
      rngs: keys by stream name.
      mutable: a filter, the collections that may be written.
      flags: static data for the scope and all inner ones.

    Raises:
      ApplyScopeInvalidVariablesTypeError: ``variables`` is no dictionary of collections.
      InvalidRngError: ``rngs`` is no dictionary of keys.
      InvalidFilterError: ``mutable`` is no filter.
    """
    _check_variables(variables)
    if rngs is not None:
        _check_keys(rngs, "a dictionary of keys by stream name", '{"params": key, ...}')
    if not isinstance(mutable, bool | str | DenyList):
        is_filter_empty(mutable)  # raises for what is no filter, also where there are no variables to try it on
    own = {col: unfreeze(_plain(xs)) if in_filter(mutable, col) else xs for col, xs in variables.items()}
    return Scope(own, rngs, mutable=mutable, flags=flags)


def apply(
    fn: Callable[..., Any], mutable: CollectionFilter = False, flags: Mapping[str, Any] | None = None
) -> Callable[..., Any]:
    """Converts ``fn(scope, *args, **kwargs)`` into a pure function of variables.

    >>> import jax
    >>> scale = lambda scope, x: scope.param("scale", jax.nn.initializers.ones, ()) * x
    >>> apply(scale)({"params": {"scale": jax.numpy.float32(2.0)}}, 3.0)
    Array(6., dtype=float32)

    Args:
      fn: the function.
      mutable: a filter, the collections that may be written.
      flags: static data for the scope.

    Returns:
      A function ``(variables, *args, rngs=None, **kwargs)``, where ``rngs`` is a dictionary of keys by stream name, or
      one key for the stream ``params``. It gives what ``fn`` gives if ``mutable`` is False, otherwise a pair of that
      and the mutable collections. It raises what `bind` does, and `ApplyScopeInvalidVariablesStructureError` for
      ``{"params": {"params": ...}}``.
    """

    @api_boundary
    @functools.wraps(fn)
    def applied(
        variables: VariableDict, *args: Any, rngs: PRNGKey | Mapping[str, PRNGKey] | None = None, **kwargs: Any
    ) -> Any:
        scope = bind(variables, None if rngs is None else _streams(rngs), mutable, flags)
        if "params" in (variables.get("params") or ()):
            raise ApplyScopeInvalidVariablesStructureError(variables)
        with scope.temporary() as root:
            y = fn(root, *args, **kwargs)
        if mutable is False:
            return y
        updated = root.mutable_variables()
        return y, freeze(updated) if config.return_frozen_dict else updated

    return applied


def init(
    fn: Callable[..., Any], mutable: CollectionFilter = True, flags: Mapping[str, Any] | None = None
) -> Callable[..., Any]:
    """Converts ``fn(scope, *args, **kwargs)`` into a function that creates its variables.

    >>> import jax
    >>> scale = lambda scope, x: scope.param("scale", jax.nn.initializers.ones, ()) * x
    >>> y, variables = init(scale)(jax.random.key(0), 3.0)
    >>> variables
    {'params': {'scale': Array(1., dtype=float32)}}

    Args:
      fn: the function.
      mutable: a filter, the collections to create.
      flags: static data for the scope; the flag ``initializing`` is added.

    Returns:
      A function ``(rngs, *args, **kwargs)``, where ``rngs`` is a key for the stream ``params`` or a dictionary of keys
      by stream name. It gives a pair of what ``fn`` gives and the variables, and raises `InvalidRngError` for what is
      no key.
    """
    flags = FrozenDict({**(flags or {}), "initializing": True})

    @api_boundary
    @functools.wraps(fn)
    def initialized(rngs: PRNGKey | Mapping[str, PRNGKey], *args: Any, **kwargs: Any) -> Any:
        streams = _streams(rngs)
        return apply(fn, mutable, flags)({}, *args, rngs=streams, **kwargs)

    return initialized


def lazy_init(
    fn: Callable[..., Any], mutable: CollectionFilter = True, flags: Mapping[str, Any] | None = None
) -> Callable[..., Any]:
    """Like `init`, but computes nothing but the variables; of arguments it is enough to know shape and dtype.

    The function runs with its operations only recorded, while parameters and variables are made at once. If that fails
    and all arguments are known, the function is called as by `init`.

    >>> import jax
    >>> dense = lambda scope, x: x @ scope.param("w", jax.nn.initializers.ones, (x.shape[-1], 2))
    >>> lazy_init(dense)(jax.random.key(0), jax.ShapeDtypeStruct((10_000, 1), "float32"))
    {'params': {'w': Array([[1., 1.]], dtype=float32)}}

    Returns:
      A function ``(rngs, *args, **kwargs)`` that gives the variables, bit for bit those of `init`. Arguments may be or
      contain `jax.ShapeDtypeStruct`. It raises what `init` does, and `LazyInitError` where a variable depends on the
      value of such an argument.
    """

    @api_boundary
    def lazily_initialized(rngs: PRNGKey | Mapping[str, PRNGKey], *args: Any, **kwargs: Any) -> Any:
        streams = _streams(rngs)

        def variables(*args: Any, **kwargs: Any) -> VariableDict:
            return init(fn, mutable, flags)(streams, *args, **kwargs)[1]

        return partial_eval(variables, args, kwargs)

    return lazily_initialized


def _plain(xs: Mapping[str, Any]) -> Mapping[str, Any]:
    # What is neither of the two would come out of `unfreeze` as it is, shared with the caller.
    return xs if isinstance(xs, dict | FrozenDict) else dict(xs)


def _streams(rngs: Any) -> Mapping[str, PRNGKey | LazyRng]:
    if is_key(rngs):
        return {"params": rngs}
    _check_keys(rngs, "a key, or a dictionary of keys by stream name", 'jax.random.key(0) or {"params": key, ...}')
    return rngs


def _check_keys(rngs: Any, wanted: str, example: str) -> None:
    if not hasattr(rngs, "items"):
        raise InvalidRngError(
            f"RNG streams must be {wanted}.",
            expected=example,
            got=f"{type(rngs).__name__}: {rngs!r}",
        )
    for name, key in rngs.items():
        if not isinstance(name, str):
            raise InvalidRngError("RNG streams have names.", expected="a string", got=repr(name))
        if not is_key(key):
            raise InvalidRngError(
                f"What the stream {name!r} was given is no key.",
                expected="one key, such as jax.random.key(0)",
                got=f"{type(key).__name__}: {key!r}",
            )


def _check_variables(variables: Any) -> None:
    if not isinstance(variables, Mapping):
        raise ApplyScopeInvalidVariablesTypeError(f"{type(variables).__name__}")
    for col, xs in variables.items():
        if not isinstance(xs, Mapping):
            raise ApplyScopeInvalidVariablesTypeError(f"{type(xs).__name__} as the collection {col!r}")
        if not (isinstance(col, str) and all(isinstance(name, str) for name in xs)):
            raise ApplyScopeInvalidVariablesTypeError(f"other names than strings in the collection {col!r}")
