"""jit, and functions with part of their arguments given."""

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import fx_transforms
import jax

from fx_nnx.filters import is_structural, to_predicate
from fx_nnx.transforms.arguments import Missing, StaticArguments, chosen_arguments
from fx_nnx.transforms.carrier import ObjectCarrier
from fx_nnx.transforms.forest import is_node
from fx_nnx.transforms.layout import Handle, Inner, is_variable
from fx_nnx.transforms.modes import carriage
from fx_nnx.transforms.prefixes import PathIs, PerVariable, entries_of, is_entry, resolved, spread_prefix

__all__ = ["JitFunction", "cached_partial", "jit", "jit_partial"]


class JitFunction:
    """A compiled function of modules and arrays, as `jit` makes it."""

    def __init__(self, fun: Callable[..., Any], options: dict[str, Any], graph: bool | None, updates: bool | None):
        functools.update_wrapper(self, fun, [n for n in functools.WRAPPER_ASSIGNMENTS if hasattr(fun, n)])
        self.fun = fun
        statics = options.pop("static_argnums"), options.pop("static_argnames")
        self._statics = StaticArguments(fun, "jit", *statics)
        given = _Given(fun, options)
        carrier = ObjectCarrier(carriage(graph, updates), transform="jit", **given.groups())
        self._lifted: Any = fx_transforms.jit(self._call_inside, carrier, **given.options())

    def _call_inside(self, inner: Inner) -> Any:
        args, kwargs = StaticArguments.put(inner.layout.statics, *inner.tree)
        return self.fun(*args, **kwargs)

    def _handle(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Handle:
        if not self._statics:
            return Handle((args, kwargs))
        statics, args, kwargs = self._statics.take(args, kwargs)
        return Handle((args, kwargs), statics)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function; what it changes in its arguments is changed for the caller."""
        return self._lifted(self._handle(args, kwargs))

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        return self if instance is None else functools.partial(self, instance)

    def lower(self, *args: Any, **kwargs: Any) -> Any:
        """Lower the function for some arguments, see `jax.stages.Lowered`."""
        return self._lifted.compiled.lower(*self._lifted.prepared(self._handle(args, kwargs)))

    def trace(self, *args: Any, **kwargs: Any) -> Any:
        """Trace the function for some arguments, see `jax.stages.Traced`."""
        return self._lifted.compiled.trace(*self._lifted.prepared(self._handle(args, kwargs)))

    def clear_cache(self) -> None:
        """Forget what was compiled."""
        self._lifted.compiled.clear_cache()


class _Given:
    """The options of jit that distinguish arguments: shardings and donation."""

    def __init__(self, fun: Callable[..., Any], options: dict[str, Any]):
        self.ins, self.outs = options.pop("in_shardings"), options.pop("out_shardings")
        self.donated = chosen_arguments(fun, options.pop("donate_argnums"), options.pop("donate_argnames"))
        self.rest = {name: value for name, value in options.items() if value is not None}
        self.sharded = self.ins is not None or self.outs is not None
        self.keys: list[tuple[Any, str]] = []

    @property
    def plain(self) -> bool:
        """Whether all arguments are alike."""
        return not (self.sharded or any(self.donated))

    def key(self, entry: Any, kind: str) -> int:
        """Number of the group of a sharding; ``kind`` tells donated variables and donated arrays from the others."""
        if (entry, kind) not in self.keys:
            self.keys.append((entry, kind))
        return self.keys.index((entry, kind))

    def groups(self) -> dict[str, Any]:
        """Options of the carrier."""
        if self.plain:
            return {}
        kinds = ("", "donated", "donated array") if any(self.donated) else ("",)
        for entry in dict.fromkeys((None, *entries_of(self.ins), *entries_of(self.outs))):
            for kind in kinds:
                self.key(entry, kind)
        return {
            "ins": self.in_places,
            "outs": self.out_places if self.outs is not None else None,
            "count": len(self.keys),
            # A donated buffer is gone, so all donated variables come back.
            "rewritten": [i for i, (_, kind) in enumerate(self.keys) if kind == "donated"],
            "axes": [entry for entry, _ in self.keys],
            "check": True,
            "steady": self.structural(),
        }

    def structural(self) -> bool:
        """Whether the group of a value depends on the structure of the arguments only."""
        entries = map(resolved, jax.tree.leaves(self.ins, is_leaf=is_entry))
        filters = [filter for entry in entries if isinstance(entry, PerVariable) for filter in entry.filters]
        return all(isinstance(f, PathIs) or is_structural(to_predicate(f)) for f in filters)

    def options(self) -> dict[str, Any]:
        """Options of the engine."""
        if self.plain:
            return self.rest
        donated = [i for i, (_, kind) in enumerate(self.keys) if kind]
        shardings = [entry for entry, _ in self.keys] if self.sharded else None
        return {**self.rest, "donate_groups": donated, "group_shardings": shardings}

    def in_places(self, tree: Any, leaves: Sequence[Any]) -> Any:
        """Groups of the arguments."""
        args, kwargs = tree
        entries = spread_prefix("in_shardings", self.ins, args) if self.ins is not None else None
        nums, names = self.donated
        given: list[bool] = []
        for number, arg in enumerate(args):
            given += [number in nums] * _size(arg)
        for name in sorted(kwargs):
            given += [name in names] * _size(kwargs[name])

        def place(leaf: int, path: tuple[Any, ...], value: Any) -> int:
            entry = entries[leaf] if entries is not None and leaf < len(entries) else None
            if isinstance(entry, PerVariable):
                entry = entry.map_prefix(path, value)
            kind = "" if not given[leaf] else "donated" if path or is_variable(value) else "donated array"
            return self.key(entry, kind)

        return place

    def out_places(self, tree: Any, leaves: Sequence[Any]) -> Any:
        """Groups of the result."""
        entries = spread_prefix("out_shardings", self.outs, tree)

        def place(leaf: int, path: tuple[Any, ...], value: Any) -> int:
            entry = entries[leaf]
            return self.key(entry.map_prefix(path, value) if isinstance(entry, PerVariable) else entry, "")

        return place


def _size(tree: Any) -> int:
    return len(jax.tree.leaves(tree, is_leaf=is_node))


def jit(
    fun: Any = Missing,
    *,
    in_shardings: Any = None,
    out_shardings: Any = None,
    static_argnums: int | Sequence[int] | None = None,
    static_argnames: str | Iterable[str] | None = None,
    donate_argnums: int | Sequence[int] | None = None,
    donate_argnames: str | Iterable[str] | None = None,
    keep_unused: bool = False,
    device: Any = None,
    backend: str | None = None,
    inline: bool = False,
    graph: bool | None = None,
    graph_updates: bool | None = None,
) -> Any:
    """Compile a function of modules and arrays, which may change the modules.

    What the function does to its arguments happens to the caller's objects: variables get new values, attributes are
    set, new variables and modules appear. Only the variables that the function changes come out of the compiled
    program; the others are not touched. Modules, variables and arrays may be anywhere in arguments and results, and
    refer to each other.

    >>> import jax.numpy as jnp
    >>> from fx_nnx.modules.containers import Dict
    >>> from fx_nnx.variables import Param
    >>> model = Dict(scale=Param(jnp.ones(2)))
    >>> @jit
    ... def double(model):
    ...     model.scale[...] *= 2
    ...     return model.scale.sum()
    >>> double(model), model.scale[...]
    (Array(4., dtype=float32), Array([2., 2.], dtype=float32))

    Args:
      fun: the function; without it, a decorator is returned.
      in_shardings: as in `jax.jit`, one entry per positional argument; `StateSharding` distinguishes variables.
      out_shardings: the same for the result. Changed variables of arguments keep the sharding of the argument.
      static_argnums: positions of arguments to compile for, hashable ones.
      static_argnames: names of them.
      donate_argnums: positions of arguments whose buffers may be reused. All their variables get new buffers.
      donate_argnames: names of them.
      keep_unused: see `jax.jit`.
      device: see `jax.jit`.
      backend: see `jax.jit`.
      inline: see `jax.jit`.
      graph: False treats modules as trees, in which no object is shared.
      graph_updates: False lets only values of variables come out.

    Raises:
      AliasedStateError: one variable is reachable on two ways that disagree about sharding or donation.
      OutputAliasError: without updates of the graph, the result has a variable of an argument.
      PrefixError: shardings do not fit the arguments.
      StaticArgumentError: a static argument has no hash.
      TraceLevelError: a variable is changed that is not an argument.
      UnhashableStaticError: a static attribute of a module has no hash.
    """
    options = {
        "in_shardings": in_shardings,
        "out_shardings": out_shardings,
        "static_argnums": static_argnums,
        "static_argnames": static_argnames,
        "donate_argnums": donate_argnums,
        "donate_argnames": donate_argnames,
        "keep_unused": keep_unused,
        "device": device,
        "backend": backend,
        "inline": inline,
    }
    if fun is Missing:
        return lambda fun: JitFunction(fun, dict(options), graph, graph_updates)
    return JitFunction(fun, options, graph, graph_updates)


def jit_partial(fun: Callable[..., Any], *partial_args: Any, **options: Any) -> Any:
    """Compile a function and give it its first arguments.

    ::

        step = nnx.jit_partial(train_step, model, optimizer)
        loss = step(batch)

    Args:
      fun: the function.
      *partial_args: its first arguments, such as modules, which it changes as those of `jit`.
      **options: those of `jit`; positions count all arguments.
    """
    return functools.partial(jit(fun, **options), *partial_args)


def cached_partial(
    f: Callable[..., Any], *cached_args: Any, graph: bool | None = None, graph_updates: bool | None = None
) -> Any:
    """Give a compiled function its first arguments.

    The structure of modules is remembered in any case, so that this is as fast as calling ``f`` with all arguments.

    Args:
      f: what `jit` gave.
      *cached_args: its first arguments.
      graph: accepted for compatibility; ``f`` has its own.
      graph_updates: accepted for compatibility.
    """
    del graph, graph_updates
    return functools.partial(f, *cached_args)
