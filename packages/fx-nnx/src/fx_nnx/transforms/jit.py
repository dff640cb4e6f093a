"""jit, and functions with part of their arguments given."""

import functools
import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import fx_transforms
from fx_core.compat.jax import cache_size
from fx_core.errors import ArgumentError

from fx_nnx.captures import Captures
from fx_nnx.graph.kinds import is_node
from fx_nnx.graph.record import Walk
from fx_nnx.transforms.ahead import Lowered, Traced
from fx_nnx.transforms.arguments import Missing, StaticArguments
from fx_nnx.transforms.carrier import ObjectCarrier
from fx_nnx.transforms.donation import Given
from fx_nnx.transforms.eval_shape import shapes_of
from fx_nnx.transforms.layout import Handle, Inner, root_paths
from fx_nnx.transforms.outside import seen_from
from fx_nnx.transforms.policies import graph_mode
from fx_nnx.transforms.targets import Target, remember_target

__all__ = ["CompiledFunction", "JitFunction", "JitPartial", "Watch", "cached_partial", "jit", "jit_partial"]

_log = logging.getLogger("fx.nnx.jit")

Watch = Callable[[Callable[..., Any]], Callable[..., Any]]
"""Makes a function of an `Inner`, and more, out of one of the latter, arguments, those by name and what is bound."""


class CompiledFunction:
    """A function of a `Handle` that is compiled, and compiled anew when what it has read from outside has changed.

    Args:
      fun: the function, or the functions, that may see modules from outside.
      lift: makes the compiled function, given what makes functions of an `Inner` out of functions of its tree, which
        also notes what they read from outside.
      target: a `Target`, if ``fun`` may be bound to something.
      explain: gives an error that says more than one of JAX about donated buffers, for a handle, or None.
    """

    def __init__(self, fun: Any, lift: Callable[[Watch], Any], target: Any = None, explain: Any = None):
        self.fun, self._lift, self._target, self._explain = fun, lift, target, explain
        self._captures = Captures()
        self._around: dict[int, Any] = {}
        self._lifted = lift(self._watched)

    def _watched(self, f: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(f)
        def watched(inner: Inner, *args: Any) -> Any:
            statics = inner.layout.statics
            with self._captures.watching():
                out = f(*args, *(inner.tree if statics is None else StaticArguments.put(statics, *inner.tree)))
            # Static attributes of the modules that it sees are constants, too; what it is given may see others.
            self._around.update((id(value), value) for part in (statics or ())[:2] for _, value in part)
            bound = () if self._target is None else self._target.bound
            self._captures.seen[:] = seen_from(self.fun, bound, inner.index.values(), self._around)
            return out

        return watched

    def run(self, handle: Handle, *args: Any) -> Any:
        """Calls the function."""
        if self._captures.found or self._captures.seen:
            self._renew()
        if self._explain is None:
            return self._lifted(handle, *args)
        try:
            return self._lifted(handle)
        except (ValueError, RuntimeError) as error:
            explained = self._explain(handle) if "donate" in str(error).lower() else None
            if explained is None:
                raise
            raise explained from error

    def _renew(self) -> None:
        """Compile anew if what was read from outside has changed, so that nothing is computed with old values."""
        self._captures.note_again()
        if not self._captures.hold():
            _log.warning(
                "%s reads variables or modules that it does not get as arguments, and that have changed: it is "
                "compiled anew, with their new values as constants. Pass the modules as arguments instead.",
                getattr(self.fun, "__name__", "a compiled function"),
            )
            self._captures.clear()
            self._lifted = self._lift(self._watched)


class JitFunction(CompiledFunction):
    """A compiled function of modules and arrays, as `jit` makes it.

    Attributes:
      fun: the function.
      jitted_fn: the compiled function of arrays, as `jax.jit` makes it.
    """

    def __init__(self, fun: Any, options: dict[str, Any], graph: bool | None, updates: bool | None):
        names = [n for n in functools.WRAPPER_ASSIGNMENTS if hasattr(fun, n)]
        functools.update_wrapper(self, fun, names, updated=() if is_node(fun) else functools.WRAPPER_UPDATES)
        target = Target(fun)
        statics = options.pop("static_argnums", None), options.pop("static_argnames", None)
        self._statics = StaticArguments(fun, "jit", *statics)
        given = Given(fun, options, self._statics)
        carrier = ObjectCarrier(graph_mode(graph, updates), transform="jit", **given.groups())
        lift = lambda watched: fx_transforms.jit(watched(target.call), carrier, **given.options())  # noqa: E731
        super().__init__(fun, lift, target, given.explain if any(given.donated) else None)
        self._carrier = carrier
        self._simple = not self._statics and not target.bound
        remember_target(self, target, self._call)

    def _handle(self, args: tuple[Any, ...], kwargs: dict[str, Any], *bound: Any) -> Handle:
        statics = None
        if self._statics:
            statics, args, kwargs = self._statics.take(args, kwargs)
        return Handle((args, kwargs, *bound), statics)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Calls the function; what it changes in its arguments is changed for the caller."""
        if self._simple:
            return self.run(Handle((args, kwargs)))
        return self._call(*self._target.tree(args, kwargs))

    def _call(self, args: Any, kwargs: Any, *bound: Any) -> Any:
        """Call it with arguments, those by name, and what it is to be bound to."""
        return self.run(self._handle(args, kwargs, *bound))

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        return self if instance is None else JitPartial(self, instance)

    @property
    def jitted_fn(self) -> Any:
        """The compiled function of arrays, as `jax.jit` makes it."""
        return self._lifted.compiled

    def lower(self, *args: Any, **kwargs: Any) -> Lowered:
        """Lowers the function for some arguments, which may be shapes; see `jax.stages.Lowered`.

        What its ``compile()`` gives is called with modules and arrays, without the static arguments.
        """
        return self.trace(*args, **kwargs).lower()

    def trace(self, *args: Any, **kwargs: Any) -> Traced:
        """Traces the function for some arguments, which may be shapes; see `jax.stages.Traced`."""
        if self._captures.found or self._captures.seen:
            self._renew()
        handle = self._handle(*self._target.tree(args, kwargs))
        traced = self._lifted.compiled.trace(*self._lifted.prepared(handle))
        return Traced(traced, self._carrier, self._lifted.prepared, self._captures, self._target, handle.statics)

    def eval_shape(self, *args: Any, **kwargs: Any) -> Any:
        """Finds out what the function would give, without computing, see `fx_nnx.eval_shape`."""
        return shapes_of(self._target, self._handle(*self._target.tree(args, kwargs)), self._carrier.mode)

    def clear_cache(self) -> None:
        """Discards what was compiled."""
        self._captures.clear()
        self._lifted.compiled.clear_cache()

    def _cache_size(self) -> int:
        return cache_size(self._lifted.compiled)


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
    compiler_options: dict[str, Any] | None = None,
    graph: bool | None = None,
    graph_updates: bool | None = None,
) -> Any:
    """Compiles a function of modules and arrays, which may change the modules.

    What the function does to its arguments happens to the caller's objects: variables get new values, attributes are
    set, new variables and modules appear. Only the variables that the function changes come out of the compiled
    program; the others are not touched. Modules, variables and arrays may be anywhere in arguments and results, and
    refer to each other.

    The module that a method is bound to, modules in a `functools.partial`, and a module that is called itself are
    carried like arguments: ``nnx.jit(model.__call__)(x)``. The values of other variables that the function reads are
    constants of what is compiled; when one changes, the function is compiled anew at its next call.

    >>> import jax.numpy as jnp
    >>> import fx_nnx as nnx
    >>> model = nnx.Dict(scale=nnx.Param(jnp.ones(2)))
    >>> @jit
    ... def double(model):
    ...     model.scale[...] *= 2
    ...     return model.scale.sum()
    >>> double(model), model.scale[...]
    (Array(4., dtype=float32), Array([2., 2.], dtype=float32))

    Args:
      fun: the function; without it, a decorator is returned.
      in_shardings: as in `jax.jit`, one entry per positional argument that is not static; `StateSharding` distinguishes
        variables.
      out_shardings: the same for the result. Changed variables of arguments keep the sharding of the argument.
      static_argnums: positions of arguments to compile for, hashable ones.
      static_argnames: names of them.
      donate_argnums: positions of arguments whose buffers may be reused. All their variables get new buffers.
      donate_argnames: names of them.
      keep_unused: see `jax.jit`.
      device: see `jax.jit`.
      backend: see `jax.jit`.
      inline: see `jax.jit`.
      compiler_options: see `jax.jit`.
      graph: False treats modules as trees, in which no object is shared.
      graph_updates: False lets only values of variables come out.

    Raises:
      ArgumentNumberError: the function has no argument of a number or name given.
      TransformError: one variable is reachable on two ways that disagree about sharding or donation.
      NnxError: without updates of the graph, the result has a variable of an argument.
      PrefixError: shardings do not fit the arguments.
      NnxError: two values share a buffer that is donated.
      StaticArgumentError: a static argument has no hash, or is a module.
      TraceLevelError: a variable is changed that is not an argument.
      ArgumentTypeError: a static attribute of a module has no hash.
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
        "compiler_options": compiler_options,
    }
    if fun is Missing:
        return lambda fun: JitFunction(fun, dict(options), graph, graph_updates)
    return JitFunction(fun, options, graph, graph_updates)


class JitPartial(functools.partial[Any]):
    """A compiled function with its first arguments given, with the methods of `JitFunction`."""

    def lower(self, *args: Any, **kwargs: Any) -> Lowered:
        """See `JitFunction.lower`. What is compiled is called with the other arguments, as this is."""
        return self.trace(*args, **kwargs).lower()

    def trace(self, *args: Any, **kwargs: Any) -> Traced:
        """See `JitFunction.trace`."""
        named = {**self.keywords, **kwargs}
        traced: Traced = self.func.trace(*self.args, *args, **named)  # type: ignore[attr-defined]
        return traced.partial(self.args, self.keywords)

    def eval_shape(self, *args: Any, **kwargs: Any) -> Any:
        """See `JitFunction.eval_shape`."""
        return self.func.eval_shape(*self.args, *args, **{**self.keywords, **kwargs})  # type: ignore[attr-defined]

    def clear_cache(self) -> None:
        """Discards what was compiled."""
        self.func.clear_cache()  # type: ignore[attr-defined]

    def _cache_size(self) -> int:
        return self.func._cache_size()  # type: ignore[attr-defined]

    @property
    def jitted_fn(self) -> Any:
        """The compiled function of arrays, as `jax.jit` makes it."""
        return self.func.jitted_fn  # type: ignore[attr-defined]


def jit_partial(fun: Callable[..., Any], *partial_args: Any, **options: Any) -> Any:
    """Compiles a function and returns it its first arguments.

    ::

        step = nnx.jit_partial(train_step, model, optimizer)
        loss = step(batch)

    Args:
      fun: the function.
      *partial_args: its first arguments, such as modules, which it changes as those of `jit`.
      **options: those of `jit`; positions count all arguments.

    Raises:
      SharedReferenceError: ``graph=False``, and something is reachable on two paths.
    """
    compiled = jit(fun, **options)
    if not compiled._carrier.mode.shared:  # what is shared is found here, and not at the first call
        names, leaves, _ = root_paths((partial_args,))
        Walk(shared=False).through(leaves, names)
    return JitPartial(compiled, *partial_args)


def cached_partial(
    f: Callable[..., Any], *cached_args: Any, graph: bool | None = None, graph_updates: bool | None = None
) -> Any:
    """Returns a compiled function its first arguments.

    The structure of modules is remembered in any case, so that this is as fast as calling ``f`` with all arguments.

    Args:
      f: what `jit` gave.
      *cached_args: its first arguments.
      graph: how ``f`` treats modules, if anything; an option of `jit`.
      graph_updates: the same.

    Raises:
      ArgumentError: ``f`` was compiled with another ``graph`` or ``graph_updates``.

    >>> import jax.numpy as jnp
    >>> import fx_nnx as nnx
    >>> model = nnx.Linear(2, 1, rngs=nnx.Rngs(0))
    >>> step = nnx.cached_partial(nnx.jit(lambda model, x: model(x)), model)
    >>> step(jnp.ones((4, 2))).shape
    (4, 1)
    """
    compiled: Any = f
    while isinstance(compiled, JitPartial):
        compiled = compiled.func
    asked = {"graph": graph, "graph_updates": graph_updates}
    asked = {name: value for name, value in asked.items() if value is not None}
    if asked and isinstance(compiled, JitFunction):
        mode = compiled._carrier.mode
        has = {name: value for name, value in zip(("graph", "graph_updates"), mode) if name in asked}
        if has != asked:
            raise ArgumentError(
                "cached_partial cannot change how a compiled function treats modules.",
                expected=has,
                got=asked,
                fix="give these options to nnx.jit",
            )
    return JitPartial(f, *cached_args)
