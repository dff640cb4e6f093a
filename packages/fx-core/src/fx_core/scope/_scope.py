"""The scope: one place in the tree of variables, with its RNG streams."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax

from fx_core import config
from fx_core.array_node import ArrayNode
from fx_core.errors.kinds import ArgumentError
from fx_core.errors.scope import (
    ApplyScopeInvalidVariablesTypeError,
    InvalidRngError,
    InvalidScopeError,
    ModifyScopeVariableError,
    ScopeCollectionNotFound,
    ScopeParamNotFoundError,
    ScopeVariableNotFoundError,
)
from fx_core.frozen_dict import FrozenDict
from fx_core.layers.values import Cell
from fx_core.ops.initializers.fixed import draws_nothing
from fx_core.scope._bare import BareScope, VariableDict
from fx_core.scope._filters import in_filter
from fx_core.scope._rng import LazyRng, PRNGKey, RngCounters
from fx_core.scope._shapes import check_shapes
from fx_core.scope._variable import Variable, unboxed

_NO_DEFAULT: Any = object()
_EMPTY: Mapping[str, Any] = FrozenDict()


class Scope(BareScope):
    """One place in the tree of variables: its variables by collection, its RNG streams, its inner scopes.

    Usually `init`, `apply` or `bind` makes the outermost scope and `push` or `child` the inner ones.

    *For lifted transforms.* A scope can be made from its parts: ``variables`` holds the collections as seen from this
    scope and is taken as it is, so a mutable collection must be a `dict` of its own, not shared with the caller's
    tree. ``rngs`` may hold `LazyRng` streams, whose suffixes go on. Give it the ``path`` it stands for, set
    ``reservations`` (and ``counters``, if draws should continue) to those of the outer scope, and collect the results
    with `mutable_variables`; the outer scope takes them with `put_variable`. The scope belongs to the trace it is made
    in.

    *Traces.* A scope belongs to the trace that it was made in, and may be used in those inside of it, as JAX lets any
    function close over a value: ``jax.vmap(dense)`` of an inner module works. What happens there happens once, not for
    each example or step: variables that are created have one value, since their initializers run outside; a key that is
    drawn is the same for all; what is written must not be a value of the inner trace, nor may initializers use one:
    that raises `JaxTransformError`. Lifted transforms have keys and variables for each.

    Args:
      variables: collections by name, each a (nested) dictionary of variables.
      rngs: keys or `LazyRng` by stream name.
      name: the name of this scope in its parent; None for the outermost.
      mutable: a filter, the collections that may be written.
      parent: the scope around.
      path: the names from the outermost scope to this one.
      debug_path: the same with the transforms in between, for error messages.
      flags: static data that all inner scopes share.

    Attributes:
      reservations: names in use, with the collections (None for an inner scope) that use them.
      counters: how many keys were drawn.

    >>> import jax
    >>> import fx_core
    >>> scope = fx_core.Scope({}, {"params": jax.random.key(0)}, mutable=["params"])
    >>> dense = scope.push("dense")
    >>> dense.param("bias", jax.nn.initializers.zeros, (2,))
    Array([0., 0.], dtype=float32)
    >>> scope.variables()["params"]["dense"]["bias"].shape
    (2,)
    """

    __slots__ = ()

    # Inner scopes

    def push(self, name: str | None = None, prefix: str = "", reuse: bool = False) -> "Scope":
        """Creates an inner scope.

        Args:
          name: its name; by default `default_name(prefix) <default_name>`.
          prefix: see there.
          reuse: allow a name that is in use, for another scope onto the same variables.

        Raises:
          NameInUseError: the name is in use.
          InvalidScopeError: the life of this scope has ended.
        """
        self._check_alive()
        if name is None:
            name = self.default_name(prefix)
        if not reuse or not self.name_reserved(name):
            self.reserve(name)
        inner = self._derive(name, self)
        inner.path, inner.debug_path = (*self.path, name), (*self.debug_path, name)
        inner._suffix, inner._keys = (*self._suffix, name), (*self._keys, name)
        inner.counters = self.counters.child(name)
        return inner

    def child(
        self,
        fn: Callable[..., Any],
        name: str | None = None,
        prefix: str | None = None,
        named_call: bool = True,
        **partial_kwargs: Any,
    ) -> Callable[..., Any]:
        """Binds a function of a scope and arguments to an inner scope.

        >>> dense = lambda scope, x, features: x @ scope.param("w", jax.nn.initializers.ones, (x.shape[-1], features))
        >>> scope = Scope({}, {"params": jax.random.key(0)}, mutable=True)
        >>> scope.child(dense, "dense", features=2)(jax.numpy.ones(3))
        Array([3., 3.], dtype=float32)

        Args:
          fn: a function ``fn(scope, *args, **kwargs)``.
          name: the name of the inner scope; by default the function's with a number.
          prefix: instead of the function's name.
          named_call: show the name in profiles and compiled programs, by `jax.named_scope`.
          **partial_kwargs: arguments to bind now.

        Returns:
          A function of the other arguments. Calling it again uses the same variables again.

        Raises:
          the errors of `push`.
        """
        if prefix is None:
            prefix = f"{fn.__name__}_" if hasattr(fn, "__name__") else ""
        scope = self.push(name, prefix)

        @functools.wraps(fn)
        def call(*args: Any, **kwargs: Any) -> Any:
            kwargs = {**partial_kwargs, **kwargs}
            if named_call and config.profile:
                with jax.named_scope(scope.name or ""):
                    return fn(scope.rewound(), *args, **kwargs)
            return fn(scope.rewound(), *args, **kwargs)

        return call

    def rewound(self, rewind_rngs: bool = False) -> "Scope":
        """Returns a scope at the same place, onto the same variables, with no name in use.

        Args:
          rewind_rngs: draw the same keys again. By default drawing goes on.

        Raises:
          InvalidScopeError: the life of this scope has ended.
        """
        if self.invalid:
            raise InvalidScopeError(self.name, self.path_text)
        new = self._derive(self.name, self.parent)
        if rewind_rngs:
            new.counters = RngCounters()
        return new

    # Variables

    def _find(self, col: str) -> Mapping[str, Any]:
        """The variables of a collection at this place, for reading."""
        # Looked up from the outermost scope each time: a few dictionary accesses, and nothing that could be stale
        # after someone replaced a whole subtree.
        node = self._variables.get(col)
        for key in self._keys:
            if node is None:
                break
            if not isinstance(node, Mapping):
                raise ApplyScopeInvalidVariablesTypeError(f"{type(node).__name__} in {col!r}", self.path_text)
            node = node.get(key)
        if node is None:
            return _EMPTY
        if not isinstance(node, Mapping):
            raise ApplyScopeInvalidVariablesTypeError(f"{type(node).__name__} in {col!r}", self.path_text)
        return node

    def _given(self) -> list[str]:
        """The collections that there are, for errors."""
        return [col for col, node in self._variables.items() if node]

    def _open(self, col: str) -> dict[str, Any]:
        """The same for writing: dictionaries on the way are made."""
        node: Any = self._variables
        for key in (col, *self._keys):
            inner = node.get(key)
            if type(inner) is not dict:
                inner = node[key] = {} if inner is None else dict(inner)
            node = inner
        return node

    def param(
        self, name: str, init_fn: Callable[..., Any], *init_args: Any, unbox: bool = True, **init_kwargs: Any
    ) -> Any:
        """Gets a parameter, or creates it where the collection ``params`` is mutable.

        Args:
          name: its name.
          init_fn: a function ``init_fn(key, *init_args, **init_kwargs)`` that makes the first value.
          *init_args: its arguments, a shape most of the time.
          unbox: give the value without its metadata, if it has any.
          **init_kwargs: more arguments.

        Returns:
          The value.

        Raises:
          NameInUseError: the name is in use.
          ScopeParamShapeError: the parameter exists with another shape than ``init_fn`` makes.
          ScopeParamNotFoundError: it does not exist and cannot be created.
          ScopeCollectionNotFound: the same, and there are no parameters at all.
          InvalidRngError: there is no key to create it with.
          InvalidScopeError: the life of this scope has ended.
          JaxTransformError: it would be created from values of another trace than the one the scope was made in, or
            after that one has ended.
        """
        self._check_alive()
        self.reserve(name, "params")
        params = self._find("params")
        if name in params:
            value = params[name]
            check_shapes(name, self, value, init_fn, init_args, init_kwargs)
        elif in_filter(self.mutable, "params"):
            draw = self._pass_key if draws_nothing(init_fn) else self.make_rng
            value = self._made(f"parameter {name!r}", lambda: init_fn(draw("params"), *init_args, **init_kwargs))
            self._open("params")[name] = value
        elif self.is_collection_empty("params"):
            raise ScopeCollectionNotFound("params", name, self.path_text, self._given())
        else:
            raise ScopeParamNotFoundError(name, self.path_text, got=sorted(params))
        if isinstance(value, jax.Array):  # nearly all are: spares them what follows
            return value
        value = unboxed(value) if unbox else value
        return value.fetched(functools.partial(self._beside, name)) if isinstance(value, ArrayNode) else value

    def _beside(self, name: str, col: str, suffix: str, init_fn: Callable[[], Any]) -> Cell | None:
        """The variable beside a parameter in another collection; see `fx_core.array_node.ArrayNode.fetched`."""
        name, mutable = f"{name}_{suffix}", in_filter(self.mutable, col)
        if not mutable and not self.has_variable(col, name):
            return None
        variable = self.variable(col, name, init_fn)
        return Cell(lambda: variable.value, functools.partial(setattr, variable, "value") if mutable else None)

    def variable(
        self,
        col: str,
        name: str,
        init_fn: Callable[..., Any] | None = None,
        *init_args: Any,
        unbox: bool = True,
        **init_kwargs: Any,
    ) -> Variable[Any]:
        """Gets a variable, or creates it where its collection is mutable.

        Args:
          col: its collection.
          name: its name.
          init_fn: a function ``init_fn(*init_args, **init_kwargs)`` that makes the first value; without one the
            variable must exist.
          *init_args: its arguments.
          unbox: leave metadata out of the variable's ``value``.
          **init_kwargs: more arguments.

        Raises:
          NameInUseError: the name is in use.
          ScopeVariableNotFoundError: it does not exist and cannot be created.
          ScopeCollectionNotFound: the same, and the collection is empty.
          InvalidScopeError: the life of this scope has ended.
          JaxTransformError: it would be created from values of another trace than the one the scope was made in, or
            after that one has ended.
        """
        self._check_alive()
        self.reserve(name, col)
        if not self.has_variable(col, name):
            if init_fn is not None and in_filter(self.mutable, col):
                what = f"variable {name!r} of the collection {col!r}"
                self._open(col)[name] = self._made(what, lambda: init_fn(*init_args, **init_kwargs))
            elif self.is_collection_empty(col):
                raise ScopeCollectionNotFound(col, name, self.path_text, self._given())
            else:
                raise ScopeVariableNotFoundError(name, col, self.path_text, got=sorted(self._find(col)))
        return Variable(self, col, name, unbox)

    def get_variable(self, col: str, name: str, default: Any = None) -> Any:
        """Returns the value of a variable as it is stored, or ``default``."""
        return self._find(col).get(name, default)

    def has_variable(self, col: str, name: str) -> bool:
        """Returns whether the variable exists."""
        return name in self._find(col)

    def put_variable(self, col: str, name: str, value: Any) -> None:
        """Writes a variable, which need not exist.

        Raises:
          ModifyScopeVariableError: the collection is immutable.
          InvalidScopeError: the life of this scope has ended.
          JaxTransformError: the value is known in another trace only than the one the scope was made in, or that one
            has ended.
        """
        self._check_value(f"write the variable {name!r} of the collection {col!r}", value)
        if not in_filter(self.mutable, col):
            raise ModifyScopeVariableError(col, name, self.path_text, self.mutable)
        self._open(col)[name] = value

    def _collection(self, col: str) -> Mapping[str, Any]:
        # Under this name, quantizers written for Flax look through the parameters of the running module.
        return self._find(col)

    def _mutable_collection(self, col: str) -> dict[str, Any]:
        if not in_filter(self.mutable, col):
            raise ModifyScopeVariableError(col, "", self.path_text, self.mutable)
        return self._open(col)

    def variables(self) -> VariableDict:
        """Returns the collections as seen from here."""
        found = {col: self._find(col) for col in self._variables}
        return {col: node for col, node in found.items() if node is not _EMPTY}

    def mutable_variables(self) -> VariableDict:
        """Returns the collections as seen from here, only those that may be written."""
        return {col: node for col, node in self.variables().items() if in_filter(self.mutable, col)}

    def is_mutable_collection(self, col: str) -> bool:
        """Returns whether the variables of a collection may be written."""
        return in_filter(self.mutable, col)

    def is_collection_empty(self, col: str) -> bool:
        """Returns whether a collection has nothing in it, in no scope at all."""
        return not self._variables.get(col)

    # RNG streams

    def has_rng(self, name: str) -> bool:
        """Returns whether there is a stream of this name, without the fallback of `make_rng`."""
        return name in self._streams

    def make_rng(self, name: str = "params") -> PRNGKey:
        """Draws a new key.

        Args:
          name: the stream; where it was not given, ``params`` serves.

        Raises:
          InvalidRngError: there is neither.
          InvalidScopeError: the life of this scope has ended.
          JaxTransformError: the trace that the scope was made in has ended.
        """
        stream, rng = self._stream(name)
        return self._new_key(stream, rng)

    def _pass_key(self, name: str) -> None:
        """Count a key as drawn without deriving it: those after it stay the same."""
        self.counters.next(self._stream(name)[0])

    def _stream(self, name: str) -> tuple[str, LazyRng]:
        """The stream that stands for a name."""
        self._check(f"draw a key from the stream {name!r}")
        stream = name if name in self._streams else "params"
        rng = self._streams.get(stream)
        if rng is None:
            raise InvalidRngError(
                f"A key of the stream {name!r} is needed.",
                path=self.path_text,
                expected=f"a key for {name!r}" + ("" if name == "params" else " or for 'params'"),
                got=f"keys for {sorted(self._streams)}",
            )
        return stream, rng

    def _new_key(self, stream: str, rng: LazyRng) -> PRNGKey:
        return LazyRng.create(rng, *self._suffix, self.counters.next(stream)).as_jax_rng()

    # Flags

    def has_flag(self, key: str) -> bool:
        """Returns whether there is a flag of this name."""
        return key in self.flags

    def get_flag(self, key: str, default: Any = _NO_DEFAULT) -> Any:
        """Returns the value of a flag.

        Raises:
          ArgumentError: there is none and no default.
        """
        if key in self.flags:
            return self.flags[key]
        if default is _NO_DEFAULT:
            raise ArgumentError(
                f"There is no flag {key!r} on the scope.",
                path=self.path_text,
                expected=f"one of {sorted(self.flags)}",
                got=repr(key),
                fix="Pass `flags` to init or apply, or a default to `get_flag`.",
            )
        return default
