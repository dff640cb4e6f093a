"""The class of bridge modules."""

import dataclasses
import functools
import inspect
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, dataclass_transform

from fx_core.frozen_dict import FrozenDict, freeze
from fx_core.scope import CollectionFilter, in_filter
from fx_nnx import Module as NnxModule
from fx_nnx import Pytree, Variable, clone, data, has_data, iter_modules, variable_type_from_name
from fx_nnx.objects.pytree import attributes_of

from fx_bridge.context import current_context
from fx_bridge.errors import bridge_method, bridge_place, name_conflict, uninitialized
from fx_bridge.module.compact import entered, wrap_method
from fx_bridge.module.priority import AttrPriority
from fx_bridge.module.scope import Scope
from fx_bridge.module.variables import Pending, collect, load, new_variable, take_over, unpack
from fx_bridge.streams import rngs_of
from fx_bridge.to_nnx import initializing

__all__ = ["Module", "attach"]


class _BridgeMeta(type(NnxModule)):
    """Gives what a compact method makes to the module whose method it is."""

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        entry = current_context()
        parent = entry.module if entry is not None and entry.may_attach else None
        name = None
        if parent is not None:
            # A class that has these arguments itself gets them as well.
            own = inspect.signature(cls.__init__).parameters
            name = kwargs.get("name") if "name" in own else kwargs.pop("name", None)
            alone = "parent" not in own and "parent" in kwargs and kwargs.pop("parent") is None
            if alone or (
                name is None and entry is not None and not entry.in_compact
            ):  # in `setup` the attribute is the name
                parent = None
        with entered(None):  # what the constructor makes belongs to the new module
            module = super().__call__(*args, **kwargs)
        if parent is not None:
            attach(parent, module, name)
        return module


@dataclass_transform(field_specifiers=(dataclasses.field,))
class Module(NnxModule, metaclass=_BridgeMeta):
    """An NNX module that is written and run as one of Linen.

    Annotated attributes are arguments of the constructor. Submodules and variables are made in ``setup``, in the
    constructor, or where they are used in a method marked `compact`; ``init`` gives the variables by collection,
    ``apply`` takes them. They are attributes all the same: what `param` returns is an `fx_nnx.Param`.

    >>> import jax, jax.numpy as jnp
    >>> from fx_bridge import compact
    >>> class Dense(Module):
    ...     features: int
    ...
    ...     @compact
    ...     def __call__(self, x):
    ...         return x @ self.param("kernel", jax.nn.initializers.ones, (x.shape[-1], self.features))
    >>> class Network(Module):
    ...     @compact
    ...     def __call__(self, x):
    ...         x = Dense(4)(x)
    ...         return Dense(1)(x)
    >>> variables = Network().init(jax.random.key(0), jnp.ones((1, 2)))
    >>> jax.tree.map(jnp.shape, variables)
    {'params': {'Dense_0': {'kernel': (2, 4)}, 'Dense_1': {'kernel': (4, 1)}}}
    >>> Network().apply(variables, jnp.ones((1, 2)))
    Array([[8.]], dtype=float32)
    """

    if TYPE_CHECKING:
        scope: Scope | None
        attr_priorities: FrozenDict[str, int]
        _bridge_ready: bool
    else:  # not annotated, or they would be arguments of the constructor
        scope = None
        attr_priorities = FrozenDict()
        _bridge_ready = False

    _bridge_own_init: ClassVar[bool] = False

    def __init_subclass__(cls, **kwargs: Any):
        super().__init_subclass__(**kwargs)
        # A constructor that was written by hand stays, in subclasses too.
        cls._bridge_own_init = cls._bridge_own_init or "__init__" in vars(cls)
        dataclasses.dataclass(init=not cls._bridge_own_init, eq=False, repr=False)(cls)
        fields = {field.name for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
        for name, value in list(vars(cls).items()):
            hidden = name.startswith("__") and name != "__call__"
            if not hidden and name not in fields and name != "setup" and _is_method(value):
                setattr(cls, name, wrap_method(value))

    def setup(self) -> None:
        """Creates submodules and variables as attributes; runs once, before the first method in ``init`` or
        ``apply``.
        """

    # --- running ------------------------------------------------------------------------------------------------------

    def init_with_output(
        self,
        rngs: Any = None,
        *args: Any,
        method: str | Callable[..., Any] = "__call__",
        mutable: CollectionFilter = False,
        **kwargs: Any,
    ) -> tuple[Any, dict[str, Any]]:
        """Creates the variables, and returns the result of the method with them.

        Args:
          rngs: a key or seed, a dictionary of them by stream, or `fx_nnx.Rngs`; a key is the stream ``default``.
          *args: arguments of the method.
          method: what to run: a name, or a function of the module.
          mutable: no effect, as in Flax: all collections are made.
          **kwargs: more arguments of the method.
        """
        return self.apply({}, *args, rngs=rngs, method=method, mutable=True, _initialize=True, **kwargs)

    def init(
        self, rngs: Any = None, *args: Any, method: str | Callable[..., Any] = "__call__", **kwargs: Any
    ) -> dict[str, Any]:
        """Creates the variables; see `init_with_output`."""
        return self.init_with_output(rngs, *args, method=method, **kwargs)[1]

    def apply(
        self,
        variables: Mapping[str, Any],
        *args: Any,
        rngs: Any = None,
        method: str | Callable[..., Any] = "__call__",
        mutable: CollectionFilter = False,
        _initialize: bool = False,
        **kwargs: Any,
    ) -> Any:
        """Runs the module on variables; the module itself does not change.

        Args:
          variables: by collection, as ``init`` gives them.
          *args: arguments of the method.
          rngs: a key, a dictionary of keys by stream, or `fx_nnx.Rngs`.
          method: what to run: a name, or a function of the module.
          mutable: the collections that may change.
          **kwargs: more arguments of the method.

        Returns:
          The result; with ``mutable``, a pair of it and all variables, in which only these collections have changed.

        Raises:
          InvalidAttributeError: there is no such method.
          UninitializedError: a variable is missing.
        """
        module = _copy(self)
        module.scope = Scope(rngs_of(rngs), mutable, initializing=_initialize)
        load(module, unpack(variables))
        call = _method_of(module, method)
        if _initialize:
            with initializing(module):
                out = call(*args, **kwargs)
        else:
            out = call(*args, **kwargs)
        if mutable is False:
            return out
        return out, _merged(variables, collect(module), module.scope)

    def is_initializing(self) -> bool:
        """Returns whether ``init`` runs, rather than ``apply``."""
        return self.scope is not None and self.scope.initializing

    # --- variables ----------------------------------------------------------------------------------------------------

    @property
    def variables(self) -> FrozenDict[str, Any]:
        """The variables by collection, those of submodules included."""
        return freeze(collect(self))

    def param(
        self, name: str, init_fn: Callable[..., Any], *init_args: Any, unbox: bool = True, **init_kwargs: Any
    ) -> Variable[Any]:
        """Creates or finds a parameter.

        Args:
          name: its name.
          init_fn: called as ``init_fn(key, *init_args, **init_kwargs)`` if it does not exist.
          *init_args: usually the shape.
          unbox: no effect, as in Flax: metadata of boxes is that of the variable.
          **init_kwargs: more arguments.

        Returns:
          The `fx_nnx.Param`, which stands for its value in computations.

        Raises:
          BridgeError: neither ``init`` nor ``apply`` runs.
          BridgeError: something else has the name.
          UninitializedError: it does not exist and cannot be made.
        """

        def make() -> Any:
            return init_fn(self.make_rng("params"), *init_args, **init_kwargs)

        return self._bridge_variable("params", name, make)

    def variable(
        self,
        col: str,
        name: str,
        init_fn: Callable[..., Any] | None = None,
        *init_args: Any,
        unbox: bool = True,
        **init_kwargs: Any,
    ) -> Variable[Any]:
        """Creates or finds a variable of any collection; one that has no variable type gets one.

        Args:
          col: the collection.
          name: its name.
          init_fn: called as ``init_fn(*init_args, **init_kwargs)`` if it does not exist.
          *init_args: its arguments.
          unbox: no effect, as in Flax.
          **init_kwargs: more arguments.

        Returns:
          The variable.

        Raises:
          BridgeError: neither ``init`` nor ``apply`` runs.
          BridgeError: something else has the name.
          UninitializedError: it does not exist and cannot be made.
        """
        make = None if init_fn is None else functools.partial(init_fn, *init_args, **init_kwargs)
        return self._bridge_variable(col, name, make)

    def make_rng(self, name: str = "default") -> Any:
        """Draws a key from a stream.

        Raises:
          BridgeError: neither ``init`` nor ``apply`` runs.
          InvalidAttributeError: the stream was not given, nor one that serves it.
        """
        return getattr(_scope_of(self, "make_rng").rngs, name)()

    def set_attr_priority(self, name: str, value: AttrPriority) -> None:
        """Sets how much an attribute has a claim to what it shares with others."""
        self.attr_priorities = FrozenDict({**self.attr_priorities, name: value})

    def _bridge_variable(self, collection: str, name: str, make: Callable[[], Any] | None) -> Variable[Any]:
        scope = _scope_of(self, "param" if collection == "params" else "variable")
        kind, what = variable_type_from_name(collection, allow_register=True), f"a variable of {collection!r}"
        entry = current_context()
        if entry is not None and entry.module is self and entry.in_compact:
            _claim(self, entry, name, what)
        found: Any = attributes_of(self).get(name)
        if type(found) is kind:
            return found
        if found is not None or hasattr(type(self), name):
            old = "a method" if found is None else f"a {type(found).__name__}"
            raise name_conflict(type(self).__name__, name, what, old)
        if make is None or not scope.may_create(collection):
            raise uninitialized(
                type(self).__name__,
                None,
                f"{collection}/{name}",
                f"pass the variables that init makes, or mutable={[collection]!r}",
            )
        value = make()
        made = new_variable(kind, collection, value)
        self._nnx_set(name, made)
        return made

    # --- attributes ---------------------------------------------------------------------------------------------------

    def __setattr__(self, name: str, value: Any) -> None:
        old = attributes_of(self).get(name)
        if isinstance(value, list | tuple | dict) and has_data(value):
            value = data(value)
        super().__setattr__(name, value)
        value = attributes_of(self).get(name)
        pending = isinstance(old, Pending) and old is not value
        if isinstance(old, Pending) and pending:
            load(value, old, (name,))
        if self.scope is not None and name != "scope":
            _bind(value, self.scope)
            if pending and isinstance(value, Module):
                value._bridge_prepare()  # so that nobody finds variables in the place of what its `setup` makes

    def __getattr__(self, name: str) -> Any:
        # What `setup` makes is there for the modules that hold this one, before any method of it ran.
        if not name.startswith("_") and self.scope is not None and not self._bridge_ready:
            self._bridge_prepare()
            return getattr(self, name)
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def _bridge_prepare(self) -> None:
        if self.scope is None or self._bridge_ready:
            return
        self._bridge_ready = True
        with entered(self, in_setup=True):
            self.setup()
        for value in list(attributes_of(self).values()):
            _bind(value, self.scope)


def attach(parent: Any, module: Any, name: str | None, kind: type | None = None) -> None:
    """Makes a module a part of the one whose compact method runs.

    Args:
      parent: the running module.
      module: the new one.
      name: its name; by default its class with a number.
      kind: the class that it is named by, if not its own.

    Raises:
      BridgeError: the name is taken.
    """
    entry = current_context()
    assert entry is not None
    kind = kind or type(module)
    if name is None:
        # By the text of the name: a Dense of Linen and one of ours are Dense_0 and Dense_1.
        name = f"{kind.__name__}_{entry.type_counter[kind.__name__]}"
        entry.type_counter[kind.__name__] += 1
    _claim(parent, entry, name, "a submodule")
    old = attributes_of(parent).get(name)
    if old is not None and not isinstance(old, Pending) and type(old) is not type(module):
        raise name_conflict(type(parent).__name__, name, f"a {kind.__name__}", f"a {type(old).__name__}")
    if old is None and hasattr(type(parent), name):
        raise name_conflict(type(parent).__name__, name, f"a {kind.__name__}", "a method")
    if isinstance(old, Pending) or (old is not None and not parent.is_initializing()):
        take_over(module, old)  # in `init`, the last call decides, as in Flax
    parent._nnx_set(name, module)
    if parent.scope is not None:
        _bind(module, parent.scope)
    parent.set_attr_priority(name, AttrPriority.INIT_PARENT)


def _claim(module: Any, entry: Any, name: str, what: str) -> None:
    if name in entry.names:
        raise name_conflict(type(module).__name__, name, what, entry.names[name])
    entry.names[name] = what


def _bind(value: Any, scope: Scope) -> None:
    """Let the bridge modules in a value take part in a run."""
    if isinstance(value, Scope) or not (isinstance(value, Pytree | list | tuple | dict) and has_data(value)):
        return
    for _, module in list(iter_modules(value)):
        if isinstance(module, Module) and module.scope is None:
            module.scope = scope.copy()


def _scope_of(module: Any, what: str) -> Scope:
    if module.scope is None:
        raise bridge_place(
            f"{type(module).__name__}.{what}",
            "a module that init or apply runs, or one made by a compact method of such a module",
            "module.init(key, x) and module.apply(variables, x); inside of other NNX modules, ToNNX(module, rngs=rngs)",
        )
    return module.scope


def _method_of(module: Any, method: Any) -> Callable[..., Any]:
    method = "__call__" if method is None else method
    if isinstance(method, str):
        found = getattr(module, method, None)
        if not callable(found):
            general = set(dir(Module)) - {"__call__"}
            raise bridge_method(type(module).__name__, method, set(dir(type(module))) - general)
        return found
    if not callable(method):
        raise bridge_method(type(module).__name__, method, ["__call__"])
    return functools.partial(wrap_method(getattr(method, "__func__", method)), module)


def _copy(module: Any) -> Any:
    made = clone(module)
    for _, part in list(iter_modules(made)):
        if isinstance(part, Module):
            for name in ("scope", "_bridge_ready"):
                if name in attributes_of(part):
                    delattr(part, name)
    return made


def _is_method(value: Any) -> bool:
    return callable(value) and not isinstance(value, type | staticmethod | classmethod)


def _merged(given: Mapping[str, Any], found: Mapping[str, Any], scope: Scope) -> dict[str, Any]:
    kept = {name: tree for name, tree in given.items() if not scope.may_create(name)}
    return {**kept, **{name: tree for name, tree in found.items() if in_filter(scope.mutable, name)}}
