"""while_loop and fori_loop over groups of state."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from fx_core.errors import FxError

from fx_transforms.axes import check_slots
from fx_transforms.carrier import Carrier, Groups, Lifted, Outcome, Static, run
from fx_transforms.errors import BroadcastVariableError, TransformError
from fx_transforms.scan import name_carry
from fx_transforms.slot import Place, Slot
from fx_transforms.steps import carry_changed, hide_static, show_static

__all__ = ["fori_loop", "while_loop"]


def while_loop(
    cond_fn: Callable[..., Any],
    body_fn: Callable[..., Any],
    carrier: Carrier[Any],
    slots: Sequence[Slot],
    *,
    transform: str = "while_loop",
) -> Lifted:
    """Repeats ``body_fn(inner, carry) -> carry`` while ``cond_fn(inner, carry)`` holds.

    Args:
      cond_fn: sees the state, its writes are dropped.
      body_fn: may write to carried state.
      carrier: what splits and merges the state.
      slots: one per group: `CARRY`, `SHARED` (read only here) or `KEYS` (step i folds i into every key).
      transform: name for messages.

    Returns:
      a function ``(handle, carry) -> carry`` that changes the handle as the steps did.

    Raises:
      BroadcastVariableError: a step writes to shared state.
      CarryChangedError: the carry, or carried state, changes its structure, shapes or dtypes.
      TransformError: a slot other than those above.
      TransformError: carried state has a `jax.Ref`.

    >>> import fx_core
    >>> import fx_transforms
    >>> carrier = fx_transforms.ScopeCarrier(["params"], [False], [])
    >>> scope = fx_core.Scope({"params": {"scale": 2.0}}, {})
    >>> double = lambda scope, x: x * scope.get_variable("params", "scale")
    >>> below = lambda scope, x: x < 10
    >>> float(fx_transforms.while_loop(below, double, carrier, [fx_transforms.SHARED])(scope, 1.0))
    16.0
    """
    check_slots(transform, carrier, slots, (Place.SHARED, Place.CARRY, Place.KEYS), axes=False)

    def pure(shape: Static, groups: Groups, init: Any) -> Outcome:
        loop = _Loop(carrier, slots, shape, groups, transform)
        loop.refuse_references()

        def proceed(state: Any) -> Any:
            i, carried, carry = state
            return run(carrier, cond_fn, loop.shape, loop.together(carried, i), show_static(carry)).out

        def advance(state: Any) -> Any:
            i, carried, carry = state
            carried, carry = loop.step(body_fn, i, carried, carry)
            return i + 1, carried, carry

        _, carried, carry = loop.guarded(
            jax.lax.while_loop, proceed, advance, (jnp.int32(0), loop.carried, hide_static(init))
        )
        return loop.outcome(carried, carry)

    return Lifted(body_fn, carrier, pure)


def fori_loop(
    body_fn: Callable[..., Any],
    carrier: Carrier[Any],
    slots: Sequence[Slot],
    *,
    unroll: int | bool | None = None,
    transform: str = "fori_loop",
) -> Lifted:
    """Repeats ``body_fn(inner, i, carry) -> carry`` for a range of i; slots and errors are those of `while_loop`.

    Returns:
      a function ``(handle, lower, upper, carry) -> carry`` that changes the handle as the steps did.

    >>> import fx_core
    >>> import fx_transforms
    >>> carrier = fx_transforms.ScopeCarrier(["params"], [False], [])
    >>> scope = fx_core.Scope({"params": {"scale": 2.0}}, {})
    >>> double = lambda scope, i, x: x * scope.get_variable("params", "scale")
    >>> float(fx_transforms.fori_loop(double, carrier, [fx_transforms.SHARED])(scope, 0, 3, 1.0))
    8.0
    """
    check_slots(transform, carrier, slots, (Place.SHARED, Place.CARRY, Place.KEYS), axes=False)

    def pure(shape: Static, groups: Groups, lower: Any, upper: Any, init: Any) -> Outcome:
        loop = _Loop(carrier, slots, shape, groups, transform)

        def advance(i: Any, state: Any) -> Any:
            return loop.step(functools.partial(_indexed, body_fn, i), i, *state)

        run_loop = functools.partial(jax.lax.fori_loop, lower, upper, unroll=unroll)
        return loop.outcome(*loop.guarded(run_loop, advance, (loop.carried, hide_static(init))))

    return Lifted(body_fn, carrier, pure)


def _indexed(body_fn: Callable[..., Any], i: Any, inner: Any, carry: Any) -> Any:
    return body_fn(inner, i, carry)


class _Loop:
    """One call of a loop: the groups, dealt out, and what the trace of its body found."""

    def __init__(self, carrier: Carrier[Any], slots: Sequence[Slot], shape: Static, groups: Groups, transform: str):
        self.carrier, self.slots, self.shape, self.groups, self.transform = carrier, slots, shape, groups, transform
        writes = carrier.writes(shape)
        self.indices = [i for i, s in enumerate(slots) if s.into is Place.CARRY and writes[i]]
        self.carried = {i: hide_static(self.groups[i]) for i in self.indices}
        self.after: Static = self.shape
        self.seen: list[tuple[Any, Any]] = []

    def refuse_references(self) -> None:
        """Make sure that there are no references: the condition would not see what the body writes to them."""
        for n in self.indices:
            for path, leaf in jax.tree_util.tree_leaves_with_path(self.groups[n]):
                if isinstance(leaf, jax.Ref):
                    raise TransformError(
                        f"{self.transform} cannot hand on {self.carrier.label(n, path)}, which is a reference.",
                        expected="arrays",
                        got=repr(jax.typeof(leaf)),
                        fix="fori_loop or scan, whose steps see references; or make the variable with ref=False",
                    )

    def together(self, carried: dict[int, Any], i: Any) -> Groups:
        """All groups as step i gets them."""
        found = show_static(carried)
        return tuple(
            found[n] if n in found else fold_keys(g, i) if s.into is Place.KEYS else g
            for n, (s, g) in enumerate(zip(self.slots, self.groups))
        )

    def step(self, body_fn: Callable[..., Any], i: Any, carried: Any, carry: Any) -> tuple[Any, Any]:
        """Run the body once, in the trace."""
        groups = self.together(carried, i)
        self.after, new, carry_out = run(self.carrier, body_fn, self.shape, groups, show_static(carry))
        carry_out = hide_static(carry_out)
        for n, (slot, group) in enumerate(zip(self.slots, new)):
            if n not in self.indices and slot.out is not Place.ABSENT and jax.tree.leaves(group):
                paths = [path for path, _ in jax.tree_util.tree_leaves_with_path(group)]
                names = [self.carrier.label(n, path) for path in paths]
                raise BroadcastVariableError(self.transform, names, "is written by a step")
        carried_out = {n: hide_static(new[n]) for n in self.indices}
        shapes = [jax.tree.map(jax.typeof, tree) for tree in ((carried, carry), (carried_out, carry_out))]
        self.seen.append((shapes[0], shapes[1]))
        return carried_out, carry_out

    def guarded(self, loop: Callable[..., Any], *args: Any) -> Any:
        """Run JAX's loop; say which variable changed when it refuses the carry."""
        try:
            return loop(*args)
        except TypeError as error:
            if isinstance(error, FxError):
                raise
            changed = carry_changed(self.transform, self.seen, lambda p: name_carry(self.carrier, p))
            if changed is None:
                raise
            raise changed from error

    def outcome(self, carried: dict[int, Any], carry: Any) -> Outcome:
        """What comes back, of the last carry."""
        found = show_static(carried)
        return Outcome(self.after, tuple(found.get(n) for n in range(len(self.slots))), show_static(carry))


def fold_keys(keys: Any, i: Any) -> Any:
    """Returns the keys of step i."""
    return jax.tree.map(lambda key: jax.random.fold_in(key, i), keys)
