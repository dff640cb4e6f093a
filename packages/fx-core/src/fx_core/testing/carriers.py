"""What a carrier of state has to do, so that every transform of the lifting engine works with it.

The suite knows carriers by what they can do: fx-transforms is not imported here, the author hands it in.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

_FAST = settings(deadline=None, max_examples=8, suppress_health_check=[HealthCheck.differing_executors])
_AXES = st.sampled_from([0, 1, -1])
_PLACES = st.one_of(st.sampled_from(["carry", "shared"]), st.tuples(_AXES, _AXES))
_STEPS = st.integers(1, 3)
_SEEDS = st.integers(0, 99)
_SIZE = 3


def _advance(a: Any, b: Any, x: Any) -> tuple[Any, Any, Any]:
    """The function under test, on bare arrays: new state and a result."""
    return jnp.tanh(a) + x, b + 0.5 * a * x, (a * b * x).sum()


def _arrays(seed: int, *shapes: tuple[int, ...]) -> list[Any]:
    rng = np.random.default_rng(seed)
    return [jnp.asarray(rng.uniform(-1, 1, shape), jnp.float32) for shape in shapes]


def _same(got: Any, want: Any) -> None:
    assert jax.tree.structure(got) == jax.tree.structure(want)
    for have, expected in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(np.asarray(have), np.asarray(expected), rtol=1e-5, atol=1e-6)


def _stacked(shape: tuple[int, ...], steps: int, axis: int) -> tuple[int, ...]:
    at = axis if axis >= 0 else len(shape) + 1 + axis
    return (*shape[:at], steps, *shape[at:])


class CarrierSuite:
    """The contract of a carrier with two groups, each holding one array of shape ``(3,)``, called a and b.

    Subclass it, hand in the engine and say how to make the carrier, how to make a handle and how to get at its arrays:

    >>> class TestDicts(CarrierSuite):
    ...     def engine(self):
    ...         return fx_transforms
    ...     def carrier(self):
    ...         return DictCarrier(("a",), ("b",))
    ...     def make(self, a, b):
    ...         return {"a": a, "b": b}
    ...     def read(self, state):
    ...         return state["a"], state["b"]
    ...     def write(self, state, a, b):
    ...         state.update(a=a, b=b)
    """

    def engine(self) -> Any:
        """Returns the module ``fx_transforms``."""
        raise TypeError(f"{type(self).__name__} does not hand in the engine: define engine(self).")

    def carrier(self) -> Any:
        """Creates the carrier under test."""
        raise TypeError(f"{type(self).__name__} does not say how to make its carrier: define carrier(self).")

    def make(self, a: Any, b: Any) -> Any:
        """Creates a handle whose groups hold ``a`` and ``b``, both of which functions may write."""
        raise TypeError(f"{type(self).__name__} does not say how to make a handle: define make(self, a, b).")

    def read(self, state: Any) -> tuple[Any, Any]:
        """Gets the arrays out of a handle, or out of what functions get in its place."""
        raise TypeError(f"{type(self).__name__} does not say how to read state: define read(self, state).")

    def write(self, state: Any, a: Any, b: Any) -> None:
        """Sets the arrays of a handle, or of what functions get in its place."""
        raise TypeError(f"{type(self).__name__} does not say how to write state: define write(self, state, a, b).")

    def step(self, inner: Any, x: Any) -> Any:
        """Returns the function under test, on state."""
        a, b, y = _advance(*self.read(inner), x)
        self.write(inner, a, b)
        return y

    def check(self, lifted: Callable[..., Any], seed: int, *args: Any, index: int = 0) -> None:
        """Compares a lifted `step` with the plain one; the state is argument ``index`` of no matter what else."""
        del index
        a, b, x = _arrays(seed, (_SIZE,), (_SIZE,), (_SIZE,))
        handle = self.make(a, b)
        y = lifted(handle, *args, x)
        _same((*self.read(handle), y), _advance(a, b, x))

    # State that only passes through

    @_FAST
    @given(_SEEDS)
    def test_state_survives_the_way_in_and_out(self, seed: int) -> None:
        a, b = _arrays(seed, (_SIZE,), (_SIZE,))
        carrier, handle = self.carrier(), self.make(a, b)
        shape, groups = carrier.split(handle)
        assert not jax.tree.leaves(shape)
        assert len(groups) == len(carrier.writes(shape)) >= 2
        _same(self.read(handle), (a, b))
        inner = carrier.merge(shape, groups)
        _same(self.read(inner), (a, b))
        after, new, out = carrier.collect(inner, "out")
        _same([jax.tree.leaves(g) for g in new[:2]], [[a], [b]])
        assert carrier.absorb(handle, after, new, out) == "out"
        _same(self.read(handle), (a, b))

    def test_inner_state_is_a_copy(self) -> None:
        a, b = _arrays(0, (_SIZE,), (_SIZE,))
        carrier, handle = self.carrier(), self.make(a, b)
        self.write(carrier.merge(*carrier.split(handle)), 2 * a, 2 * b)
        _same(self.read(handle), (a, b))

    def test_equal_state_has_equal_shape(self) -> None:
        a, b = _arrays(0, (_SIZE,), (_SIZE,))
        carrier = self.carrier()
        first, second = (carrier.split(self.make(k * a, k * b))[0] for k in (1, 2))
        assert first == second
        assert hash(first) == hash(second)

    def test_labels_name_the_groups(self) -> None:
        carrier = self.carrier()
        _, groups = carrier.split(self.make(*_arrays(0, (_SIZE,), (_SIZE,))))
        names = [carrier.label(i, path) for i in (0, 1) for path, _ in jax.tree_util.tree_leaves_with_path(groups[i])]
        assert len(set(names)) == 2
        assert all(names)

    # One call

    @_FAST
    @given(_SEEDS)
    def test_jit(self, seed: int) -> None:
        self.check(self.engine().jit(self.step, self.carrier()), seed)

    def test_jit_traces_once(self) -> None:
        traces: list[int] = []

        def step(inner: Any, x: Any) -> Any:
            traces.append(1)
            return self.step(inner, x)

        compiled = self.engine().jit(step, self.carrier())
        for seed in range(3):
            self.check(compiled, seed)
        assert len(traces) == 1

    @_FAST
    @given(_SEEDS)
    def test_remat(self, seed: int) -> None:
        self.check(self.engine().remat(self.step, self.carrier()), seed)

    @_FAST
    @given(_SEEDS, st.booleans())
    def test_cond(self, seed: int, pred: bool) -> None:
        def other(inner: Any, x: Any) -> Any:
            return self.step(inner, 2 * x)

        a, b, x = _arrays(seed, (_SIZE,), (_SIZE,), (_SIZE,))
        handle = self.make(a, b)
        y = self.engine().cond(self.step, other, self.carrier())(handle, pred, x)
        _same((*self.read(handle), y), _advance(a, b, x if pred else 2 * x))

    @_FAST
    @given(_SEEDS, st.integers(-1, 3))
    def test_switch(self, seed: int, index: int) -> None:
        branches = [lambda inner, x, k=k: self.step(inner, k * x) for k in range(3)]
        a, b, x = _arrays(seed, (_SIZE,), (_SIZE,), (_SIZE,))
        handle = self.make(a, b)
        y = self.engine().switch(branches, self.carrier())(handle, index, x)
        _same((*self.read(handle), y), _advance(a, b, min(max(index, 0), 2) * x))

    def test_eval_shape_and_make_jaxpr_leave_state_alone(self) -> None:
        a, b, x = _arrays(0, (_SIZE,), (_SIZE,), (_SIZE,))
        handle = self.make(a, b)
        outcome = self.engine().eval_shape(self.step, self.carrier())(handle, x)
        assert outcome.out.shape == ()
        jaxpr, outcome = self.engine().make_jaxpr(self.step, self.carrier())(handle, x)
        assert outcome.out.shape == ()
        assert len(jaxpr.eqns) > 0
        _same(self.read(handle), (a, b))

    # Derivatives

    @_FAST
    @given(_SEEDS)
    def test_value_and_grad(self, seed: int) -> None:
        a, b, x = _arrays(seed, (_SIZE,), (_SIZE,), (_SIZE,))
        handle = self.make(a, b)
        run = self.engine().value_and_grad(self.step, self.carrier(), wrt=(0,), argnums=(1,))
        y, ((state_grad,), (x_grad,)) = run(handle, x)
        want = jax.grad(lambda a, x: _advance(a, b, x)[2], argnums=(0, 1))(a, x)
        _same((*jax.tree.leaves(state_grad), x_grad), want)
        _same((*self.read(handle), y), _advance(a, b, x))

    @_FAST
    @given(_SEEDS)
    def test_vjp(self, seed: int) -> None:
        a, b, x = _arrays(seed, (_SIZE,), (_SIZE,), (_SIZE,))
        handle = self.make(a, b)
        y, backward = self.engine().vjp(self.step, self.carrier(), wrt=(0, 1))(handle, x)
        want, want_backward = jax.vjp(lambda a, b, x: _advance(a, b, x)[2], a, b, x)
        _same(jax.tree.leaves(backward(jnp.float32(2))), list(want_backward(jnp.float32(2))))
        _same((*self.read(handle), y), _advance(a, b, x))
        _same(y, want)

    @_FAST
    @given(_SEEDS)
    def test_jvp(self, seed: int) -> None:
        a, b, x = _arrays(seed, (_SIZE,), (_SIZE,), (_SIZE,))
        carrier, handle = self.carrier(), self.make(a, b)
        groups = carrier.split(handle)[1]
        tangents = (jax.tree.map(jnp.ones_like, groups[0]), *(None for _ in groups[1:]))
        got = self.engine().jvp(self.step, carrier)(handle, (x,), (2 * x,), tangents)
        _same(got, jax.jvp(lambda a, x: _advance(a, b, x)[2], (a, x), (jnp.ones_like(a), 2 * x)))
        _same(self.read(handle), _advance(a, b, x)[:2])

    def test_custom_vjp(self) -> None:
        def forward(inner: Any, x: Any) -> Any:
            return self.step(inner, x), x

        def backward(x: Any, cotangent: Any) -> Any:
            return (jax.tree.map(lambda g: jnp.full_like(g, 7), zeros),), cotangent * x

        a, b, x = _arrays(0, (_SIZE,), (_SIZE,), (_SIZE,))
        carrier = self.carrier()
        zeros = carrier.split(self.make(a, b))[1][0]
        rule = self.engine().custom_vjp(self.step, forward, backward, carrier, wrt=(0,))
        self.check(rule, 0)

        def loss(a: Any, b: Any, x: Any) -> Any:
            return rule(self.make(a, b), x)

        _same(jax.grad(loss, argnums=(0, 1, 2))(a, b, x), (jnp.full(_SIZE, 7.0), jnp.zeros(_SIZE), x))

    # Loops

    @_FAST
    @given(_SEEDS, _STEPS, _AXES, _AXES, _AXES)
    def test_vmap(self, seed: int, steps: int, a_in: int, a_out: int, b_axis: int) -> None:
        shapes = [_stacked((_SIZE,), steps, axis) for axis in (a_in, b_axis, 0)]
        a, b, xs = _arrays(seed, *shapes)
        handle = self.make(a, b)
        engine = self.engine()
        slots = [engine.axis(a_in, a_out), engine.axis(b_axis)]
        y = engine.vmap(self.step, self.carrier(), self.slots(slots))(handle, xs)
        rows = [_advance(jnp.take(a, i, a_in), jnp.take(b, i, b_axis), xs[i]) for i in range(steps)]
        _same((*self.read(handle), y), self.stacked(rows, a_out, b_axis))

    @_FAST
    @given(_SEEDS, _STEPS, st.booleans(), st.booleans())
    def test_vmap_with_shared_state(self, seed: int, steps: int, a_shared: bool, jitted: bool) -> None:
        """Shared state is seen whole by all, and stays what it was."""
        a, b = _arrays(seed, (_SIZE,) if a_shared else (steps, _SIZE), (steps, _SIZE) if a_shared else (_SIZE,))
        (xs,) = _arrays(seed + 1, (steps, _SIZE))
        handle, engine = self.make(a, b), self.engine()
        slots = [engine.SHARED, engine.axis(0)] if a_shared else [engine.axis(0), engine.SHARED]

        def look(inner: Any, x: Any) -> Any:
            return _advance(*self.read(inner), x)

        mapped = engine.vmap(look, self.carrier(), self.slots(slots))
        if jitted:
            mapped = engine.jit(mapped, self.carrier())
        got = mapped(handle, xs)
        rows = [_advance(a if a_shared else a[i], b[i] if a_shared else b, xs[i]) for i in range(steps)]
        _same(got, self.stacked(rows, 0, 0))
        _same(self.read(handle), (a, b))

    @_FAST
    @given(_SEEDS, _STEPS, _AXES, _AXES, st.booleans())
    def test_scan(self, seed: int, steps: int, b_in: int, b_out: int, reverse: bool) -> None:
        """One group is carried, the other has an axis."""
        a, b, xs = _arrays(seed, (_SIZE,), _stacked((_SIZE,), steps, b_in), (steps, _SIZE))
        handle, engine = self.make(a, b), self.engine()

        def body(inner: Any, total: Any, x: Any) -> Any:
            y = self.step(inner, x)
            return total + y, y

        slots = self.slots([engine.CARRY, engine.axis(b_in, b_out)])
        total, ys = engine.scan(body, self.carrier(), slots, reverse=reverse)(handle, jnp.float32(0), xs)
        order = range(steps)[::-1] if reverse else range(steps)
        rows: dict[int, Any] = {}
        for i in order:
            a, b_row, y = _advance(a, jnp.take(b, i, b_in), xs[i])
            rows[i] = (a, b_row, y)
        _, want_b, want_ys = self.stacked([rows[i] for i in range(steps)], 0, b_out)
        _same((*self.read(handle), total, ys), (a, want_b, want_ys.sum(), want_ys))

    @_FAST
    @given(_SEEDS, _STEPS, _PLACES, _PLACES, st.booleans())
    def test_scan_with_any_slots(self, seed: int, steps: int, a_place: Any, b_place: Any, jitted: bool) -> None:
        """Each group is carried, shared and left alone, or has axes."""
        places, engine = (a_place, b_place), self.engine()
        shapes = [_stacked((_SIZE,), steps, p[0]) if isinstance(p, tuple) else (_SIZE,) for p in places]
        *now, xs = _arrays(seed, *shapes, (steps, _SIZE))
        handle = self.make(*now)

        def body(inner: Any, carry: Any, x: Any) -> Any:
            old = self.read(inner)
            *new, y = _advance(*old, x)
            a, b = (o if place == "shared" else n for o, n, place in zip(old, new, places))
            self.write(inner, a, b)
            return carry, y

        named = {"carry": engine.CARRY, "shared": engine.SHARED}
        slots = self.slots([engine.axis(*p) if isinstance(p, tuple) else named[p] for p in places])
        loop = engine.scan(body, self.carrier(), slots)
        ys = (engine.jit(loop, self.carrier()) if jitted else loop)(handle, (), xs)[1]
        rows: list[Any] = []
        for i in range(steps):
            seen = [jnp.take(x, i, p[0]) if isinstance(p, tuple) else x for x, p in zip(now, places)]
            rows.append(_advance(seen[0], seen[1], xs[i]))
            now = [new if p == "carry" else old for old, new, p in zip(now, rows[-1], places)]
        want = [
            jnp.stack([row[n] for row in rows], p[1]) if isinstance(p, tuple) else now[n] for n, p in enumerate(places)
        ]
        _same((*self.read(handle), ys), (*want, jnp.stack([row[2] for row in rows])))

    @_FAST
    @given(_SEEDS, _STEPS)
    def test_while_loop_and_fori_loop(self, seed: int, steps: int) -> None:
        a, b, x = _arrays(seed, (_SIZE,), (_SIZE,), (_SIZE,))
        engine = self.engine()
        want_a, want_b = a, b
        for _ in range(steps):
            want_a, want_b, _ = _advance(want_a, want_b, x)

        def body(inner: Any, i: Any) -> Any:
            self.step(inner, x)
            return i + 1

        slots = self.slots([engine.CARRY, engine.CARRY])
        handle = self.make(a, b)
        end = engine.while_loop(lambda inner, i: i < steps, body, self.carrier(), slots)(handle, jnp.int32(0))
        _same((*self.read(handle), end), (want_a, want_b, jnp.int32(steps)))
        handle = self.make(a, b)
        loop = engine.fori_loop(lambda inner, i, c: body(inner, c), self.carrier(), slots)
        _same((loop(handle, 0, steps, jnp.int32(0)), *self.read(handle)), (jnp.int32(steps), want_a, want_b))

    def slots(self, slots: list[Any]) -> list[Any]:
        """Returns the slots of a and b, and of further groups that the carrier may have: shared ones."""
        groups = self.carrier().split(self.make(*_arrays(0, (_SIZE,), (_SIZE,))))[1]
        return [*slots, *[self.engine().SHARED] * (len(groups) - 2)]

    def stacked(self, rows: list[Any], a_axis: int, b_axis: int) -> tuple[Any, Any, Any]:
        """Returns what the steps made, stacked along axes."""
        a, b, y = zip(*rows)
        return jnp.stack(a, a_axis), jnp.stack(b, b_axis), jnp.stack(y)

    # Nesting

    @_FAST
    @given(_SEEDS, st.lists(st.sampled_from(["jit", "remat", "cond", "vmap"]), min_size=2, max_size=3))
    def test_nested_in_any_order(self, seed: int, names: list[str]) -> None:
        engine = self.engine()
        lifted: Any = self.step
        for name in names:
            lifted = self._lift(engine, name, lifted)
        self.check(lifted, seed)

    def _lift(self, engine: Any, name: str, fn: Any) -> Any:
        if name == "cond":
            chosen = engine.cond(fn, lambda inner, x: 0 * fn(inner, x), self.carrier())
            return lambda handle, x: chosen(handle, True, x)
        if name == "vmap":  # over one example, with the axis put in and taken out around it
            mapped = engine.vmap(fn, self.carrier(), self.slots([engine.axis(0), engine.axis(0)]))

            def alone(handle: Any, x: Any) -> Any:
                a, b = self.read(handle)
                self.write(handle, a[None], b[None])
                y = mapped(handle, x[None])
                a, b = self.read(handle)
                self.write(handle, a[0], b[0])
                return y[0]

            return alone
        return getattr(engine, name)(fn, self.carrier())
