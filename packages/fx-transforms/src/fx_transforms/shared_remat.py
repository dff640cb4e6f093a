"""remat of functions of scopes that traces a function once for all scopes of one kind.

`jax.checkpoint` keeps the trace of a function, so a function that is called for twelve layers is traced once if it is
one function. A lifted function is told by its scope where it is, and draws keys that depend on the place. So its trace
is made with scopes that are watched:

- Keys are drawn in the trace around, where they are constants of the function's trace. Another place puts its own keys,
  drawn from the same streams under the same names below it, in their stead.
- A function that asks where it is (path, name, keys of streams) has a trace of its own.

What else a trace depends on is in the key: the structure, shapes and dtypes of all arguments and variables, the
mutability, flags and counters of the scopes, JAX's and fx's settings, and what the caller knows of the function. Traces
are forgotten with the outermost scope, so they hold no tracers longer than it does.
"""

# A carrier sees what its state keeps to itself:
# pyright: reportPrivateUsage=false

# JAX's own signatures are partly unknown to the checker; errors about our code stay on.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUnknownLambdaType=false

from collections.abc import Callable, Hashable, Sequence
from typing import Any

import jax
from fx_core import config, spmd
from fx_core._jax import ShapedArray, checkpoint_jaxpr, trace_context
from fx_core.scope import LazyRng, Scope
from fx_core.scope._watched import Draw, Watch, WatchedScope

from fx_transforms.carrier import Groups, Outcome, run
from fx_transforms.lift.explain import explaining
from fx_transforms.scope_carrier import ScopeCarrier

__all__ = ["SharedRemat"]

Leaves = list[Any]


class _WatchedCarrier(ScopeCarrier):
    """Carries scopes whose streams stay outside."""

    def __init__(self, carrier: ScopeCarrier, streams: Groups, watch: Watch):
        super().__init__(carrier.ins, carrier.outs, (), carrier.name)
        self._watch = watch
        self._outside: list[dict[str, LazyRng]] = _by_scope(streams)

    def _make(self, n: int, *args: Any) -> Scope:
        variables, _, *others = args
        streams = self._outside[n] if self._outside else {}
        return WatchedScope(variables, streams, *others).watched_by(self._watch, n)

    def collect(self, inner: Any, out: Any) -> Outcome:
        with self._watch.unseen():
            return super().collect(inner, out)


def _by_scope(streams: Groups) -> list[dict[str, LazyRng]]:
    """The streams of each outermost scope, from groups of them."""
    return [{name: rng for group in groups for name, rng in group.items()} for groups in zip(*streams)]


class _Trace:
    """A trace, and what takes it to another place.

    Attributes:
      own: whether it is for the place that it was made at, only.
    """

    def __init__(self, pure: Callable[[Leaves], Any], leaves: Leaves, watch: Watch, prevent_cse: bool, policy: Any):
        closed, out = jax.make_jaxpr(pure, return_shape=True)(leaves)
        self.own = watch.looked
        self._out = jax.tree.structure(out)
        self._consts: Leaves = list(closed.consts)
        positions = {id(const): n for n, const in enumerate(self._consts)}
        drawn: list[tuple[int, Draw]] = []
        for draw in watch.draws:
            if id(draw.key) in positions:  # else nobody used it
                drawn.append((positions[id(draw.key)], draw))
        self._drawn = drawn
        self._call = checkpoint_jaxpr(closed, prevent_cse=prevent_cse, policy=policy)

    def __call__(self, leaves: Leaves, streams: list[dict[str, LazyRng]] | None) -> Any:
        """Run it on other values; with streams, at another place."""
        consts = self._consts
        if streams is not None and self._drawn:
            consts = list(consts)
            for n, (root, stream, suffix, _) in self._drawn:
                consts[n] = LazyRng.create(streams[root][stream], *suffix).as_jax_rng()
        return jax.tree.unflatten(self._out, self._call(consts, leaves))


class SharedRemat:
    """remat of functions of scopes, where functions with equal descriptions share a trace.

    Args:
      carrier: of the scopes.
      statics: positions of Python arguments, counted from 0 for the first one after the scopes.
      prevent_cse: see `jax.checkpoint`.
      policy: see `jax.checkpoint`.
    """

    def __init__(self, carrier: ScopeCarrier, statics: Sequence[int], prevent_cse: bool, policy: Any):
        self._carrier, self._statics = carrier, tuple(statics)
        self._prevent_cse, self._policy = prevent_cse, policy

    def find(
        self,
        make: Callable[[Watch], Callable[..., Any]],
        about: Hashable,
        handle: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Callable[[], Any] | None:
        """Find the trace of a function of scopes, or make it.

        Args:
          make: makes the function, to be traced under watch.
          about: description of the function; equal ones mean the same.
          handle: the scopes. Their outermost scope is temporary.
          args: the other arguments.
          kwargs: arguments by name.

        Returns:
          What does the call; None if no trace can be shared.
        """
        carrier, memo = self._carrier, jax.tree.leaves(handle)[0].memo
        shape, groups = carrier.split(handle)
        count = len(carrier.ins)
        variables, streams = groups[:count], groups[count:]
        call = _Arguments(variables, args, kwargs, self._statics)
        if call.avals is None:
            return None
        named = tuple(tuple(tuple(names) for names in group) for group in streams)
        here = trace_context(), tuple(config.flags().items()), _Rules(spmd.get_logical_axis_rules())
        key = (about, self._policy, self._prevent_cse, shape, named, call.tree, call.avals, call.fixed, here)
        try:
            trace = memo.get(key)
        except TypeError:  # something has no hash
            return None
        if trace is not None:
            if trace.own:
                return None
            return lambda: carrier.absorb(handle, *trace(call.leaves, _by_scope(streams)))
        watch = Watch()
        inner, fn = _WatchedCarrier(carrier, streams, watch), make(watch)

        def pure(leaves: Leaves) -> Outcome:
            variables, args, kwargs = call.put_together(leaves)
            return run(inner, fn, shape, variables, *args, **kwargs)

        with explaining(carrier, handle):
            made = memo[key] = _Trace(pure, call.leaves, watch, self._prevent_cse, self._policy)
        return lambda: carrier.absorb(handle, *made(call.leaves, None))


class _Arguments:
    """Variables and arguments of a call.

    Attributes:
      leaves: the arrays among them.
      tree: the structure around the arrays.
      avals: what a trace knows of the arrays; None if something is no plain array.
      fixed: position, type and value of the arguments that are no arrays.
    """

    def __init__(self, variables: Groups, args: tuple[Any, ...], kwargs: dict[str, Any], statics: Sequence[int]):
        count = len(args)
        numbers = sorted({n % count for n in statics if -count <= n < count})
        self.fixed = tuple((n, type(args[n]), args[n]) for n in numbers)
        given = [x for n, x in enumerate(args) if n not in numbers]
        self.leaves, self.tree = jax.tree.flatten((variables, given, kwargs))
        self.avals = _avals(self.leaves)

    def put_together(self, leaves: Leaves) -> tuple[Groups, list[Any], dict[str, Any]]:
        """Variables, arguments and arguments by name with other arrays."""
        variables, args, kwargs = jax.tree.unflatten(self.tree, leaves)
        for n, _, value in self.fixed:
            args.insert(n, value)
        return variables, args, kwargs


class _Rules:
    """Rules for logical axes, compared by what they say; lists among them have no hash."""

    def __init__(self, rules: Any):
        self._text = repr(rules)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Rules) and other._text == self._text

    def __hash__(self) -> int:
        return hash(self._text)


def _avals(leaves: Leaves) -> tuple[ShapedArray, ...] | None:
    """What a trace knows of its arguments; None where something is no plain array."""
    try:
        avals = tuple(map(jax.typeof, leaves))
    except TypeError:
        return None
    return avals if all(type(aval) is ShapedArray for aval in avals) else None
