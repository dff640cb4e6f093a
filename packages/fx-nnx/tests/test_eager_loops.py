"""Loops and conditionals outside of a trace are compiled once, and never stale."""

import copy
import gc
import pickle
import weakref

import fx_nnx as nnx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fx_core.errors import ArgumentError
from fx_transforms.errors import CarryChangedError

count = []


class Cell(nnx.Module):
    def __init__(self):
        self.w = nnx.Param(jnp.full((), 2.0, jnp.float32))
        self.calls = nnx.Variable(jnp.array(0))
        self.sign = 1

    def advance(self, x):
        count.append(1)
        return self.sign * self.w * x

    def __call__(self, x):
        return self.advance(x)


def body(cell, c, x):
    cell.calls[...] += 1
    return cell.advance(c) + 0 * x, c


AXES = nnx.StateAxes({nnx.Param: None, ...: nnx.Carry})


def scanned(cell, x):
    return nnx.scan(body, in_axes=(AXES, nnx.Carry, 0), out_axes=(nnx.Carry, 0))(cell, x, jnp.zeros(1))[0]


def identity(cell, x):
    return x


def double(cell, x):
    return cell.advance(x)


def until(state):
    return state[0] < 1


def step(state):
    return state[0] + 1, state[1], state[1].advance(state[2])


def step_of(i, state):
    return state[0], state[0].advance(state[1])


LOOPS = {
    "scan": scanned,
    "cond": lambda cell, x: nnx.cond(True, double, identity, cell, x),
    "cond of methods": lambda cell, x: nnx.cond(x.sum() > -1, cell.advance, cell.advance, x),
    "cond of modules": lambda cell, x: nnx.cond(True, cell, cell, x),
    "switch": lambda cell, x: nnx.switch(1, [identity, double], cell, x),
    "while_loop": lambda cell, x: nnx.while_loop(until, step, (jnp.array(0), cell, x))[2],
    "fori_loop": lambda cell, x: nnx.fori_loop(0, 1, step_of, (cell, x))[1],
    "fori_loop of arrays": lambda cell, x: nnx.fori_loop(jnp.array(0), jnp.array(1), step_of, (cell, x))[1],
    "scan of a method": lambda cell, x: nnx.scan(cell.advance, in_axes=nnx.Carry, out_axes=nnx.Carry, length=1)(x),
}


@pytest.mark.parametrize("loop", LOOPS)
def test_the_body_is_traced_once(loop):
    cell, x = Cell(), jnp.full((), 3.0, jnp.float32)
    call = LOOPS[loop]
    assert float(call(cell, x)) == 6.0
    count.clear()
    for value in (5.0, 7.0):
        cell.w[...] = value
        assert float(call(cell, x)) == 3 * value
    assert float(call(Cell(), x)) == 6.0, "another module"
    assert not count
    cell.sign = -1
    assert float(call(cell, x)) == -21.0
    assert float(call(cell, jnp.ones(2))[1]) == -7.0
    jax.jit(lambda x: call(nnx.clone(cell), x))(x)
    if loop != "while_loop":  # which has no reverse mode
        assert float(nnx.grad(lambda cell, x: call(cell, x))(cell, x).w[...]) == -3.0


def test_changes_and_results_are_the_callers():
    cell = Cell()
    for n in range(1, 4):
        scanned(cell, jnp.array(1.0))
        assert int(cell.calls[...]) == n
    state = nnx.while_loop(until, step, (jnp.array(0), cell, jnp.array(1.0)))
    assert state[1] is cell
    assert nnx.fori_loop(0, 2, step_of, (cell, jnp.array(1.0)))[0] is cell


def test_variables_from_outside_are_never_stale():
    cell = Cell()

    def outside(c):
        return cell.w * c

    def run():
        return nnx.scan(outside, in_axes=nnx.Carry, out_axes=nnx.Carry, length=2)(jnp.array(1.0))

    assert float(run()) == 4.0
    cell.w[...] = 3.0
    assert float(run()) == 9.0


def test_options_modes_and_bounds_count():
    def add(i, x):
        return x + i

    assert int(nnx.fori_loop(0, 3, add, jnp.array(0))) == 3
    assert int(nnx.fori_loop(1, 3, add, jnp.array(0))) == 3
    assert int(nnx.fori_loop(1, 4, add, jnp.array(0))) == 6

    def total(c, x):
        return c + x, c

    xs = jnp.arange(3)
    for reverse in (False, True):
        loop = nnx.scan(total, reverse=reverse)
        np.testing.assert_array_equal(loop(jnp.array(0), xs)[1], jax.lax.scan(total, 0, xs, reverse=reverse)[1])
    functional = nnx.scan(total, graph=False)(jnp.array(0), xs)
    assert int(functional[0]) == 3


def test_what_is_not_traced_stays_so():
    def reshaped(c, n):
        return c.reshape(n, -1).reshape(-1) * 1.0

    loop = nnx.scan(reshaped, in_axes=(nnx.Carry, None), out_axes=nnx.Carry, length=2)
    for n in (2, 3):
        assert loop(jnp.ones(6), n).shape == (6,)
        assert loop(jnp.ones(6), np.array(n)).shape == (6,)
    text = nnx.scan(lambda c, name: c * len(name), in_axes=(nnx.Carry, None), out_axes=nnx.Carry, length=1)
    assert float(text(jnp.array(1.0), "abc")) == 3.0


def test_errors_come_each_time():
    def grow(c):
        return jnp.concatenate([c, c])

    for _ in range(2):
        with pytest.raises(CarryChangedError):
            nnx.scan(grow, in_axes=nnx.Carry, out_axes=nnx.Carry, length=2)(jnp.ones(1))


def test_what_is_compiled_goes_with_its_function():
    def run():
        f = lambda c: c * 2  # noqa: E731
        nnx.scan(f, in_axes=nnx.Carry, out_axes=nnx.Carry, length=2)(jnp.ones(1))
        return weakref.ref(f)

    gone = run()
    gc.collect()
    assert gone() is None
    scanned(Cell(), jnp.array(1.0))
    assert pickle.loads(pickle.dumps(copy.copy(body.__dict__))) is not None


def test_without_compilation():
    with jax.disable_jit():
        assert float(scanned(Cell(), jnp.array(3.0))) == 6.0


def test_switch_without_branches():
    with pytest.raises(ArgumentError, match="at least one branch"):
        nnx.switch(0, [], jnp.ones(()))


@pytest.mark.parametrize("jit", [False, True])
def test_a_carried_list_that_a_step_changes_in_place(jit):
    def exchange(pair):
        pair[0], pair[1] = pair[1], pair[0]
        return pair

    def run(pair):
        return nnx.scan(exchange, in_axes=nnx.Carry, out_axes=nnx.Carry, length=3)(pair)

    first, second = nnx.Param(jnp.array(1.0)), nnx.Param(jnp.array(2.0))
    pair = (nnx.jit(run) if jit else run)([first, second])
    assert pair[0] is first
    assert pair[1] is second
    assert (float(first[...]), float(second[...])) == (2.0, 1.0)
    with pytest.raises(CarryChangedError, match="structure"):
        nnx.scan(lambda pair: pair.append(1.0) or pair, in_axes=nnx.Carry, out_axes=nnx.Carry, length=3)([first])


def test_what_no_step_has_written_stays_where_it_is():
    cell = Cell()
    before = cell.w.get_raw_value()
    nnx.fori_loop(0, 2, step_of, (cell, jnp.array(1.0)))
    nnx.scan(lambda cell: cell, in_axes=nnx.Carry, out_axes=nnx.Carry, length=2)(cell)
    assert cell.w.get_raw_value() is before


@pytest.mark.parametrize("loop", ["cond", "switch", "while_loop", "fori_loop"])
def test_what_branches_and_bodies_read_from_outside_is_never_stale(loop):
    cell, one = Cell(), jnp.array(1.0)

    def times(*args):
        return args[-1] * cell.w * cell.sign

    def advance(state):
        return state[0] + 1, times(state[1])

    def unchanged(x):
        return x

    runs = {
        "cond": lambda: nnx.cond(True, times, unchanged, one),
        "switch": lambda: nnx.switch(1, [unchanged, times], one),
        "while_loop": lambda: nnx.while_loop(until, advance, (jnp.array(0), one))[1],
        "fori_loop": lambda: nnx.fori_loop(0, 1, times, one),
    }
    for value, sign in ((2.0, 1), (3.0, 1), (3.0, -1)):
        cell.w[...], cell.sign = value, sign
        for _ in range(2):
            assert float(runs[loop]()) == value * sign
