"""What can be exported: modules of Linen and NNX, training states, functions."""

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
from fx_core.errors import ArgumentTypeError
from fx_core.identity import identity_of
from fx_core.plugins import ModelEntry, registry

Function = Callable[..., Any]


def as_function(model: Any, variables: Any, call: Mapping[str, Any]) -> tuple[Function, Any]:
    """Returns a model as a pure function of variables and inputs, with its variables.

    Args:
      model: a module that a plugin knows by `fx_core.plugins.ModelEntry`, a method of one, a training state with
        ``apply_fn`` and ``params``, or a function of the variables and the inputs.
      variables: a pytree of arrays; None where the model has its own.
      call: keyword arguments of each call.

    Raises:
      ArgumentTypeError: it is none of these, or its variables are missing.
    """
    owner, method = getattr(model, "__self__", None), getattr(model, "__name__", "")
    if inspect.ismethod(model) and _is_of_user(owner, method):
        return as_function(owner, variables, {"method": method, **call})
    entry = model_entry(model)
    if entry is not None:
        return entry.load()(model, variables, **call)
    if hasattr(model, "apply_fn") and hasattr(model, "params"):
        return _of_state(model, variables, call)
    if not callable(model):
        raise ArgumentTypeError(
            "This cannot be exported.",
            expected="a Linen module with variables, an NNX module, a training state, or a function",
            got=type(model).__qualname__,
            fix="Give a function of the variables and the inputs.",
        )
    return (functools.partial(model, **call) if call else model), variables


def model_entry(model: Any) -> ModelEntry | None:
    """Returns what a plugin says of a module, None for what is no module."""
    names = {f"{cls.__module__}:{cls.__qualname__}" for cls in type(model).__mro__}
    return next((entry for entry in registry().models.values() if entry.type in names), None)


def _is_of_user(owner: Any, method: str) -> bool:
    """Returns whether a method is of the model, not of what all modules are; `apply` takes the variables itself."""
    entry = model_entry(owner)
    if entry is None:
        return False
    base = next(cls for cls in type(owner).__mro__ if f"{cls.__module__}:{cls.__qualname__}" == entry.type)
    return type(owner) is base or not hasattr(base, method) or method == "__call__"


def _of_state(state: Any, variables: Any, call: Mapping[str, Any]) -> tuple[Function, Any]:
    """A training state holds the variables by collection, and the function that takes them."""
    if variables is None:
        collections = ["params", *(name for name in registry().collections if name != "params")]
        held = {name: getattr(state, name, None) for name in collections}
        # Some states keep all but the parameters together.
        others = getattr(state, "variables", None)
        variables = dict(others) if isinstance(others, Mapping) else {}
        variables |= {name: value for name, value in held.items() if value is not None}
    apply_fn = state.apply_fn
    return (lambda variables, *inputs: apply_fn(variables, *inputs, **call)), variables


def module_path_of(modules: Sequence[Any]) -> str:
    """Returns the path of the last one of nested modules that is known to lie in the first one.

    Args:
      modules: from the outside in; a module within a transform may be a copy.

    Returns:
      Names with slashes, the name of its class for the first one; empty if there are no modules.
    """
    for module in reversed(modules):
        path = _path_within(modules[0], module)
        if path is not None:
            return path or type(module).__qualname__
    return ""


def _path_within(outer: Any, module: Any) -> str | None:
    if identity_of(outer) == "object":
        nodes = jax.tree_util.tree_leaves_with_path(outer, is_leaf=lambda node: node is module)
        found = (path for path, node in nodes if node is module)
        return next((jax.tree_util.keystr(path, simple=True, separator="/") for path in found), None)
    # Modules of Linen have their paths.
    path = getattr(module, "path", None)
    return "/".join(map(str, path)) if isinstance(path, tuple) else None
