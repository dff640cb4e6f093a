"""Lifted scan and vmap over whatever collections go wherever, against loops of Python."""

import jax
import jax.numpy as jnp
import numpy as np
from fx_core.scope import DenyList, apply
from fx_transforms import lift
from hypothesis import given, settings
from hypothesis import strategies as st

COLLECTIONS = ("p", "q", "r")
SIZE = 2


def filter_of(names, kind):
    """One of the ways to say which collections are meant."""
    others = tuple(col for col in COLLECTIONS if col not in names)
    if kind == "deny":
        return DenyList(others)
    return names[0] if kind == "name" and len(names) == 1 else tuple(names)


def draw_state(seed, places, steps):
    rng = np.random.default_rng(seed)
    shapes = {0: (steps, SIZE), 1: (SIZE, steps)}
    return {
        col: {"in": {"v": jnp.asarray(rng.integers(-3, 4, shapes.get(place, (SIZE,))), jnp.float32)}}
        for col, place in places.items()
    }


def body(places, scope, x):
    inner = scope.push("in", reuse=True)
    values = {col: inner.get_variable(col, "v") for col in COLLECTIONS}
    for col, value in values.items():
        if places[col] != "shared":
            inner.put_variable(col, "v", 2 * value + x)
    return sum(values.values()) * x


def plain_loop(places, state, xs, order):
    now = {col: state[col]["in"]["v"] for col in COLLECTIONS}
    rows = {}
    for i in order:
        seen = {c: jnp.take(now[c], i, places[c]) if isinstance(places[c], int) else now[c] for c in COLLECTIONS}
        new = {c: seen[c] if places[c] == "shared" else 2 * seen[c] + xs[i] for c in COLLECTIONS}
        rows[i] = new, sum(seen.values()) * xs[i]
        now |= {c: new[c] for c in COLLECTIONS if places[c] == "carried"}
    stacked = {
        c: jnp.stack([rows[i][0][c] for i in range(len(xs))], places[c]) if isinstance(places[c], int) else now[c]
        for c in COLLECTIONS
    }
    return jnp.stack([rows[i][1] for i in range(len(xs))]), stacked


def groups_of(places, kinds):
    """Filters by place, for the places that have any collection."""
    found = {}
    for place in dict.fromkeys(places.values()):
        names = [col for col in COLLECTIONS if places[col] == place]
        found[place] = filter_of(names, kinds[place])
    return found


def same(got, want):
    y, state = got
    np.testing.assert_allclose(y, want[0], rtol=1e-6)
    for col, value in want[1].items():
        np.testing.assert_allclose(state[col]["in"]["v"], value, rtol=1e-6)


KINDS = st.fixed_dictionaries({p: st.sampled_from(["name", "names", "deny"]) for p in (0, 1, "shared", "carried")})


def places_from(*choices):
    return st.fixed_dictionaries({col: st.sampled_from(choices) for col in COLLECTIONS})


@settings(deadline=None, max_examples=25)
@given(places_from(0, 1, "shared", "carried"), KINDS, st.integers(0, 99), st.integers(1, 3), st.booleans())
def test_scan(places, kinds, seed, steps, reverse):
    state, groups = draw_state(seed, places, steps), groups_of(places, kinds)
    xs = jnp.arange(1.0, 1 + steps)

    def fn(scope, xs):
        loop = lift.scan(
            lambda scope, c, x: (c, body(places, scope, x)),
            variable_axes={groups[axis]: axis for axis in (0, 1) if axis in groups},
            variable_broadcast=groups.get("shared", False),
            variable_carry=groups.get("carried", False),
            reverse=reverse,
        )
        return loop(scope, 0.0, xs)[1]

    order = range(steps)[::-1] if reverse else range(steps)
    same(jax.jit(apply(fn, mutable=True))(state, xs), plain_loop(places, state, xs, order))


@settings(deadline=None, max_examples=25)
@given(places_from(0, 1, "shared"), KINDS, st.integers(0, 99), st.integers(1, 3))
def test_vmap(places, kinds, seed, steps):
    state, groups = draw_state(seed, places, steps), groups_of(places, kinds)
    xs = jnp.arange(1.0, 1 + steps)

    def fn(scope, xs):
        axes = {groups[place]: place if isinstance(place, int) else None for place in groups}
        return lift.vmap(lambda scope, x: body(places, scope, x), axes, {})(scope, xs)

    same(jax.jit(apply(fn, mutable=True))(state, xs), plain_loop(places, state, xs, range(steps)))
