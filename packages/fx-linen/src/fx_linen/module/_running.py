"""Starting a module: init, apply, bind."""

import functools
import inspect
from collections.abc import Callable, Collection, Mapping
from types import MethodType
from typing import Any, Self

import jax
import jax.numpy as jnp
from fx_core import scope as core
from fx_core.collections import made_by_init
from fx_core.errors import (
    ApplyModuleInvalidMethodError,
    ArgumentTypeError,
    CallUnbindOnUnboundModuleError,
    InvalidInstanceModuleError,
    InvalidRngError,
)
from fx_core.scope import DenyList, Scope
from fx_core.traceback_util import api_boundary

from fx_linen.module._base import ModuleBase
from fx_linen.module._context import CaptureFilter, context
from fx_linen.module._copying import Copying

__all__ = ["CollectionFilter", "Running", "bound_function", "module_of", "rngs_of"]

CollectionFilter = bool | str | Collection[str] | DenyList
Capture = bool | CaptureFilter
Rngs = jax.Array | Mapping[str, jax.Array]

WITHOUT_INTERMEDIATES = DenyList("intermediates")


def module_of(module: Any) -> Any:
    """Returns the module itself.

    Raises:
      InvalidInstanceModuleError: it is none; ``init`` was called on the class, say.
    """
    if not isinstance(module, ModuleBase):
        raise InvalidInstanceModuleError()
    return module


def rngs_of(rngs: Any, module: ModuleBase) -> Any:
    """Returns keys by stream, from a dict or a single key for ``"params"``.

    Raises:
      InvalidRngError: it is neither.
    """
    if isinstance(rngs, Mapping) or rngs is None:
        return rngs
    dtype = getattr(rngs, "dtype", None)
    if dtype is not None and (
        (jnp.issubdtype(dtype, jax.dtypes.prng_key) and rngs.shape == ())
        or (jnp.issubdtype(dtype, jnp.integer) and rngs.ndim == 1)
    ):
        return {"params": rngs}
    shape = getattr(rngs, "shape", None)
    raise InvalidRngError(
        "RNGs should be a key or a dictionary of keys.",
        path=type(module).__name__,
        expected="jax.random.key(0), or {'params': key, 'dropout': key2}; init takes it before the inputs",
        got=f"{rngs!r:.80}" if shape is None else f"an array of shape {shape} and dtype {dtype}",
    )


def method_of(module: Any, method: Any) -> Callable[..., Any]:
    """Returns the function of the module that ``method=`` means: a name, a (bound) method, a function, or ``__call__``.

    The name may be that of a submodule, too.
    """
    if method is None:
        method = module.__call__
    if isinstance(method, str):
        if not callable(getattr(type(module), method, None)):
            return functools.partial(_call_attribute, method)
        method = getattr(module, method)
    if isinstance(method, MethodType) and isinstance(method.__self__, ModuleBase):
        return method.__func__
    if not callable(method) or isinstance(method, ModuleBase) or not _takes_arguments(method):
        raise ApplyModuleInvalidMethodError(method)
    return method


def _call_attribute(name: str, module: Any, *args: Any, **kwargs: Any) -> Any:
    """Call an attribute of the bound module: a submodule, or a function in a field."""
    found = getattr(module, name)
    if not callable(found):
        raise ArgumentTypeError(
            f"'{type(module).__name__}.{name}' must be a callable, got {type(found)!r}.",
            expected="the name of a method",
            fix="Pass a method's name, the method itself, or a function of the module.",
        )
    return found(*args, **kwargs)


def _takes_arguments(function: Callable[..., Any]) -> bool:
    try:
        return bool(inspect.signature(function).parameters)
    except ValueError:  # built in
        return True


def bound_function(fn: Callable[..., Any], module: Any, capture_intermediates: Capture = False) -> Callable[..., Any]:
    """Converts a function of a module into one of a scope: it binds a clone and runs ``fn`` on it.

    Args:
      fn: called as ``fn(bound_module, *args, **kwargs)``.
      module: the unbound module.
      capture_intermediates: which method calls are stored, see `Module.apply`.
    """
    capture = _call_only if capture_intermediates is True else capture_intermediates or None

    def run(scope: Scope, *args: Any, **kwargs: Any) -> Any:
        bound = module.clone(parent=scope, _deep_clone=True)
        context.captures.append(capture)
        try:
            return fn(bound, *args, **kwargs)
        finally:
            context.captures.pop()

    return run


def _call_only(_: Any, method_name: str) -> bool:
    return method_name == "__call__"


def with_intermediates(mutable: Any, capture: Any = False) -> Any:
    if mutable is WITHOUT_INTERMEDIATES:  # nobody said otherwise: plugins may register more of that kind
        mutable = made_by_init()
    return core.union_filters(mutable, "intermediates") if capture else mutable


class Running(Copying):
    """Running a module on variables."""

    @api_boundary
    def init_with_output(
        self,
        rngs: Rngs,
        *args: Any,
        method: Callable[..., Any] | str | None = None,
        mutable: CollectionFilter = WITHOUT_INTERMEDIATES,
        capture_intermediates: Capture = False,
        **kwargs: Any,
    ) -> tuple[Any, dict[str, Any]]:
        """Creates the module's variables and returns the method's result with them.

        Args:
          rngs: a key for ``"params"``, or a dict of keys by stream.
          *args: arguments of the method.
          method: what to run instead of ``__call__``: a method, its name, or a function of the module.
          mutable: the collections to make.
          capture_intermediates: see `apply`.
          **kwargs: more arguments of the method.

        Returns:
          The result and the variables by collection.

        Raises:
          InvalidInstanceModuleError: called on the class.
          InvalidRngError: ``rngs`` holds no keys.
        """
        module = module_of(self)
        run = bound_function(method_of(module, method), module, capture_intermediates)
        mutable = with_intermediates(mutable, capture_intermediates)
        return core.init(run, mutable=mutable)(rngs_of(rngs, module), *args, **kwargs)

    @api_boundary
    def init(
        self,
        rngs: Rngs,
        *args: Any,
        method: Callable[..., Any] | str | None = None,
        mutable: CollectionFilter = WITHOUT_INTERMEDIATES,
        capture_intermediates: Capture = False,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """Creates the module's variables.

        Nothing else is computed: the method runs with its operations only recorded, and what they print by `jax.debug`
        is not printed. A method that needs to see numbers is run again, computing. `init_with_output` always computes.

        Args:
          rngs: a key for ``"params"``, or a dict of keys by stream.
          *args: arguments of the method; shapes and dtypes matter, usually values do not.
          method: what to run instead of ``__call__``: a method, its name, or a function of the module.
          mutable: the collections to make.
          capture_intermediates: see `apply`.
          **kwargs: more arguments of the method.

        Returns:
          The variables by collection, as nested dicts.

        Raises:
          InvalidInstanceModuleError: called on the class.
          InvalidRngError: ``rngs`` holds no keys.
        """
        module = module_of(self)
        run = bound_function(method_of(module, method), module, capture_intermediates)
        mutable = with_intermediates(mutable, capture_intermediates)
        return core.lazy_init(run, mutable=with_intermediates(mutable))(rngs_of(rngs, module), *args, **kwargs)

    @api_boundary
    def lazy_init(
        self,
        rngs: Rngs,
        *args: Any,
        method: Callable[..., Any] | str | None = None,
        mutable: CollectionFilter = WITHOUT_INTERMEDIATES,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """Creates the module's variables without computing on its inputs.

        Args:
          rngs: a key for ``"params"``, or a dict of keys by stream.
          *args: arguments of the method; `jax.ShapeDtypeStruct` may stand for arrays.
          method: what to run instead of ``__call__``.
          mutable: the collections to make.
          **kwargs: more arguments of the method.

        Returns:
          The variables by collection.

        Raises:
          LazyInitError: a variable depends on the values of the inputs.
        """
        module = module_of(self)
        run = bound_function(method_of(module, method), module)
        return core.lazy_init(run, mutable=with_intermediates(mutable))(rngs_of(rngs, module), *args, **kwargs)

    @api_boundary
    def apply(
        self,
        variables: Mapping[str, Any],
        *args: Any,
        rngs: Rngs | None = None,
        method: Callable[..., Any] | str | None = None,
        mutable: CollectionFilter = False,
        capture_intermediates: Capture = False,
        **kwargs: Any,
    ) -> Any:
        """Runs the module on given variables.

        Args:
          variables: by collection, as ``init`` returns them.
          *args: arguments of the method.
          rngs: keys by stream, or a key for ``"params"``.
          method: what to run instead of ``__call__``: a method, its name, or a function of the module.
          mutable: collections that may change; they are returned.
          capture_intermediates: store the results of method calls in ``"intermediates"``: True for ``__call__`` of
            every submodule, or a function of the module and the method's name.
          **kwargs: more arguments of the method.

        Returns:
          The method's result; with ``mutable``, a pair of it and the mutable collections.

        Raises:
          ScopeCollectionNotFound, ScopeParamNotFoundError: the variables lack something.
          ModifyScopeVariableError: a collection changes that is not mutable.
        """
        module = module_of(self)
        run = bound_function(method_of(module, method), module, capture_intermediates)
        mutable = with_intermediates(mutable, capture_intermediates)
        return core.apply(run, mutable=mutable)(variables, *args, rngs=rngs_of(rngs, module), **kwargs)

    def bind(
        self,
        variables: Mapping[str, Any],
        *args: Any,
        rngs: Rngs | None = None,
        mutable: CollectionFilter = False,
    ) -> Self:
        """Creates a module that holds its variables: its methods run as they are, its submodules are attributes.

        Meant for interactive use; bound modules are no pytrees, so JAX transforms take `apply` instead.

        Args:
          variables: by collection.
          *args: not used.
          rngs: keys by stream, or a key for ``"params"``.
          mutable: collections that may change.

        >>> import jax, jax.numpy as jnp
        >>> import fx_linen as nn
        >>> class Scale(nn.Module):
        ...     @nn.compact
        ...     def __call__(self, x):
        ...         return x * self.param("by", lambda key: jnp.ones(()))
        >>> bound = Scale().bind({"params": {"by": jnp.asarray(2.0)}})
        >>> float(bound(3.0))
        6.0
        """
        module = module_of(self)
        scope = core.bind(variables, rngs=rngs_of(rngs, module), mutable=mutable)
        return module.clone(parent=scope, _deep_clone=True)

    def unbind(self) -> tuple[Self, Mapping[str, Any]]:
        """Takes a bound module apart.

        Returns:
          An unbound copy and the variables, below this module.

        Raises:
          CallUnbindOnUnboundModuleError: the module is not bound.
        """
        if self.scope is None:
            raise CallUnbindOnUnboundModuleError()
        variables = self.scope.variables()
        return self.clone(_deep_clone=True, _reset_names=True, name=None), variables
