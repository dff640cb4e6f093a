"""Linen modules as NNX modules."""

import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import fx_linen as linen
from fx_core.errors import InvalidAttributeError
from fx_core.errors.scope import ScopeCollectionNotFound, ScopeParamNotFoundError, ScopeVariableNotFoundError
from fx_core.plugins.registry import registry
from fx_core.scope import DenyList, filter_to_set, in_filter
from fx_linen.module import detached, enclosing_module
from fx_nnx import Module, iter_modules, variable_type_from_name
from fx_nnx.objects.pytree import attributes_of

from fx_bridge.attributes import INITIALIZING, MODULE, collections_of, name_of, put_variables
from fx_bridge.context import current_scope
from fx_bridge.errors import BridgeError, bridge_method, bridge_target, uninitialized
from fx_bridge.streams import forked, keys_of

__all__ = ["ToNNX", "initializing", "lazy_init", "wrapped_in"]


class ToNNX(Module):
    """A Linen module as an NNX module.

    Its variables are attributes, of the types that stand for their collections; those of submodules are in an
    `fx_nnx.Dict` under the submodule's name. `lazy_init` makes them; a module that comes bound brings them along.

    >>> import jax.numpy as jnp
    >>> import fx_linen as nn
    >>> import fx_nnx as nnx
    >>> model = lazy_init(ToNNX(nn.Dense(3), rngs=nnx.Rngs(0)), jnp.ones((1, 2)))
    >>> type(model.kernel).__name__, model.kernel.shape
    ('Param', (2, 3))
    >>> model(jnp.ones((4, 2))).shape
    (4, 3)

    Methods of the Linen module are methods of this one, too: ``model.encode(x)``.

    Args:
      module: the Linen module, or a `fx_bridge.Module`.
      rngs: streams, of which the module gets its own; ``default`` is what Linen calls ``params``. A key is the stream
        ``params``.

    Raises:
      ArgumentTypeError: it is no Linen module.
      ArgumentTypeError: ``rngs`` is neither an `fx_nnx.Rngs` nor a key.
    """

    def __init__(self, module: Any, rngs: Any = None):
        variables: Mapping[str, Any] = {}
        if isinstance(module, linen.Module):
            with detached():
                if module.scope is not None:
                    module, variables = module.unbind()
                elif module.parent is not None:
                    module = module.clone(name=None)
        elif not hasattr(type(module), "init_with_output"):
            raise bridge_target("ToNNX", "a Linen module, such as fx_linen.Dense(3)", module)
        self.to_nnx__module = module
        self.to_nnx__rngs = forked(rngs)
        put_variables(self, variables)

    @property
    def module(self) -> Any:
        """The Linen module."""
        return self.to_nnx__module

    @property
    def rngs(self) -> Any:
        """The streams."""
        return self.to_nnx__rngs

    def lazy_init(self, *args: Any, **kwargs: Any) -> "ToNNX":
        """Creates the variables, and computes nothing else; the arguments are those of the call.

        Of arrays among them it is enough to know shape and dtype, as a `jax.ShapeDtypeStruct` does.

        Returns:
          The module itself.
        """
        kwargs.pop("mutable", None)  # everything is made, as by the `init` of Linen
        self._initialize(self._keys(kwargs.pop("rngs", None)), args, kwargs, output=False)
        return self

    def __call__(
        self,
        *args: Any,
        rngs: Any = None,
        method: Callable[..., Any] | str | None = None,
        mutable: Any = None,
        **kwargs: Any,
    ) -> Any:
        """Calls the Linen module on its variables.

        Args:
          *args: arguments of the method.
          rngs: streams for this call, instead of the module's: an `fx_nnx.Rngs`, a key, or a dictionary of keys.
          method: what to call instead of ``__call__``: a name, a method, or a function of the Linen module.
          mutable: the collections that may change; what changes is put into the variables of this module. By default
            those of the `fx_bridge.Module` whose method runs, or of the Linen module around, or none.
          **kwargs: more arguments of the method.

        Returns:
          What the method returns.

        Raises:
          UninitializedError: there are no variables yet.
          InvalidAttributeError: there is no such method.
          BridgeError: ``mutable`` names a collection that is not registered.
          BridgeError: the names of new variables are taken.
        """
        keys = self._keys(rngs)
        options = {**kwargs, "method": method}
        if getattr(self, INITIALIZING, False):
            return self._initialize(keys, args, options, output=True)
        return self._apply(keys, args, options, mutable)

    def __getattr__(self, name: str) -> Any:
        module = None if name.startswith("__") else attributes_of(self).get(MODULE)
        if module is not None and callable(getattr(type(module), name, None)):
            return functools.partial(self, method=name)
        raise _bridge_attribute("ToNNX" if module is None else name_of(self), name, bool(collections_of(self)))

    def _keys(self, rngs: Any) -> dict[str, Any]:
        return keys_of(self.to_nnx__rngs if rngs is None else rngs)

    def _initialize(self, keys: Any, args: tuple[Any, ...], options: Any, *, output: bool) -> Any:
        module = self.to_nnx__module
        _check_method(module, options.get("method"))
        with detached():
            if output:
                out, variables = module.init_with_output(keys, *args, **options)
            else:
                init = module.lazy_init if isinstance(module, linen.Module) else module.init
                out, variables = None, init(keys, *args, **options)
        put_variables(self, variables)
        return out

    def _apply(self, keys: Any, args: tuple[Any, ...], options: Any, mutable: Any) -> Any:
        module = self.to_nnx__module
        _check_method(module, options["method"])
        variables = collections_of(self)
        inherited = mutable is None
        if inherited:
            mutable = _mutable_around()
        try:
            with detached():
                out = module.apply(variables, *args, rngs=keys, mutable=mutable, **options)
        except (ScopeCollectionNotFound, ScopeParamNotFoundError, ScopeVariableNotFoundError) as error:
            if variables:
                raise
            raise uninitialized(
                f"ToNNX({type(module).__name__})", error.path, None, "call bridge.lazy_init(model, x) once"
            ) from error
        if mutable is False:
            return out
        out, updates = out
        if not inherited:
            _check_collections(mutable, updates, variables)
        put_variables(self, updates)
        return out


def lazy_init(fn: Module | Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Calls a model once, so that the Linen modules in it get their variables.

    Every `ToNNX` in the model that has no variables is initialized, with the streams that it was given; in a shared one
    that is called several times, the last call decides. A model that is a `ToNNX` itself is initialized anew.

    Args:
      fn: a model, or a method of it.
      *args: arguments of the call.
      **kwargs: more arguments.

    Returns:
      ``fn``.

    Raises:
      ArgumentTypeError: ``fn`` is neither.

    >>> import jax.numpy as jnp
    >>> import fx_linen as nn
    >>> import fx_nnx as nnx
    >>> class Model(nnx.Module):
    ...     def __init__(self, rngs):
    ...         self.encode = ToNNX(nn.Dense(3), rngs=rngs)
    ...     def __call__(self, x):
    ...         return nnx.relu(self.encode(x))
    >>> lazy_init(Model(nnx.Rngs(0)), jnp.ones((1, 2))).encode.kernel.shape
    (2, 3)
    """
    target = fn.func if isinstance(fn, functools.partial) else fn
    module = target if isinstance(target, Module) else getattr(target, "__self__", None)
    if not isinstance(module, Module):
        raise bridge_target("lazy_init", "an NNX module or a method of one", fn)
    if isinstance(fn, ToNNX):
        fn.lazy_init(*args, **kwargs)
        return fn
    call: Any = fn
    with initializing(module):
        call(*args, **kwargs)
    return fn


class initializing:  # noqa: N801 - a context manager
    """Within a block, the Linen modules in a model that have no variables make them when they are called.

    The mark is an attribute: what JAX compiled for a model that has its variables is not used for making them.

    Args:
      model: the model.
    """

    def __init__(self, model: Any):
        self.model = model

    def __enter__(self) -> None:
        for module in wrapped_in(self.model):
            if not collections_of(module):
                setattr(module, INITIALIZING, True)

    def __exit__(self, *_: Any) -> None:
        for module in wrapped_in(self.model):
            if hasattr(module, INITIALIZING):
                delattr(module, INITIALIZING)


def wrapped_in(model: Any) -> Iterator[ToNNX]:
    """Returns the wrapped Linen modules in a model."""
    return (module for _, module in list(iter_modules(model)) if isinstance(module, ToNNX))


# --- checks -----------------------------------------------------------------------------------------------------------


def _mutable_around() -> Any:
    """Give what is mutable in the bridge module or the Linen module whose method runs."""
    scope = current_scope()
    if scope is None and (module := enclosing_module()) is not None:
        scope = module.scope
    return False if scope is None else scope.mutable


def _check_method(module: Any, method: Any) -> None:
    if isinstance(method, str) and not callable(getattr(module, method, None)):
        raise bridge_method(type(module).__name__, method, _methods(module))


def _methods(module: Any) -> list[str]:
    general = set(dir(linen.Module)) - {"__call__"}
    return [name for name in dir(type(module)) if name not in general and callable(getattr(type(module), name))]


def _check_collections(mutable: Any, updates: Mapping[str, Any], variables: Mapping[str, Any]) -> None:
    if isinstance(mutable, bool) or in_filter(mutable, ""):
        return
    if isinstance(mutable, DenyList):
        return
    known = {*variables, *updates}
    for name in sorted(filter_to_set(mutable) - known):
        known |= set(registry().collections)
        if name not in known and not _registered(name):
            raise BridgeError(
                f"There is no collection {name!r}.",
                collection=name,
                expected=f"one of {', '.join(sorted(known))}",
                got=repr(name),
                fix="check the spelling; if the module only makes it sometimes, "
                "fx_nnx.register_variable_name(name, type)",
            )


def _registered(name: str) -> bool:
    try:
        variable_type_from_name(name)
    except ValueError:
        return False
    return True


def _bridge_attribute(module: str, name: str, initialized: bool) -> InvalidAttributeError:
    return InvalidAttributeError(
        f"{module} has no attribute {name!r}" + ("." if initialized else "; it has no variables yet."),
        path=module,
        expected="a variable, a submodule, or a method of the Linen module",
        got=name,
        fix="check the spelling" if initialized else "call bridge.lazy_init(model, x) once",
    )
