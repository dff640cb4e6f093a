"""What vmap and scan keep about their arguments from call to call: true for other axes, structures and values."""

import fx_nnx as nnx
import jax.numpy as jnp
import numpy as np
import pytest
from fx_transforms.errors import TransformError


def model():
    return nnx.Dict(w=nnx.Param(jnp.arange(9.0).reshape(3, 3)))


def expected(w, axis, x):
    w = np.asarray(w)
    return [float(np.sum(w if axis is None else np.take(w, i, axis)) * x[i]) for i in range(3)]


@pytest.mark.parametrize("transform", ["vmap", "scan"])
def test_axes_are_told_apart(transform):
    m, x = model(), jnp.arange(1.0, 4.0)
    calls = {}
    for axis in (None, 0, 1, -1):
        if transform == "vmap":
            f = nnx.vmap(lambda m, x: m.w.sum() * x, in_axes=(axis, 0))
            calls[axis] = lambda m, x, f=f: f(m, x)
        else:
            g = nnx.scan(
                lambda c, m, x: (c, m.w.sum() * x), in_axes=(nnx.Carry, axis, 0), out_axes=(nnx.Carry, 0), graph=True
            )
            calls[axis] = lambda m, x, g=g: g(jnp.zeros(()), m, x)[1]
    for _ in range(2):
        for axis, call in calls.items():
            assert call(m, x).tolist() == expected(m.w[...], axis, x)
        m.w[...] = m.w + 1
        m.extra = nnx.Param(jnp.zeros((3, 3)))


def test_results_have_axes_of_their_own():
    m = model()
    for axis in (0, 1, 0, 1):
        out = nnx.vmap(lambda m: m.w * 1, in_axes=0, out_axes=axis)(m)
        assert out.tolist() == (m.w[...] if axis == 0 else m.w[...].T).tolist()


def test_variables_that_become_shared_are_noticed():
    a, b, x = model(), model(), jnp.ones(3)
    f = nnx.vmap(lambda a, b, x: (a.w.sum() + b.w.sum()) * x, in_axes=(0, None, 0))
    assert f(a, b, x).tolist() == f(a, b, x).tolist() == [3 + 36, 12 + 36, 21 + 36]
    with pytest.raises(TransformError):
        f(a, a, x)
    b.w = a.w
    with pytest.raises(TransformError):
        f(a, b, x)
    b.w = nnx.Param(jnp.zeros((3, 3)))
    assert f(a, b, x).tolist() == [3, 12, 21]


def test_writes_come_back():
    @nnx.vmap(in_axes=(0, None))
    def step(m, x):
        m.w[...] += x

    m = model()
    for count in (1, 2, 3):
        step(m, 1.0)
        assert m.w[...].tolist() == (np.arange(9.0).reshape(3, 3) + count).tolist()


@pytest.mark.parametrize("transform", ["vmap", "scan"])
def test_axes_by_filter_are_told_apart(transform):
    m, x = nnx.Dict(w=nnx.Param(jnp.arange(9.0).reshape(3, 3)), n=nnx.BatchStat(jnp.zeros(3))), jnp.arange(1.0, 4.0)
    calls = {}
    for axis in (None, 0, 1):
        axes = nnx.StateAxes({nnx.All(nnx.Param, nnx.PathContains("w")): axis, ...: 0})
        if transform == "vmap":
            calls[axis] = nnx.vmap(lambda m, x: m.w.sum() * x, in_axes=(axes, 0))
        else:
            loop = nnx.scan(lambda c, m, x: (c, m.w.sum() * x), in_axes=(nnx.Carry, axes, 0), out_axes=(nnx.Carry, 0))
            calls[axis] = lambda m, x, loop=loop: loop(jnp.zeros(()), m, x)[1]
    for _ in range(2):
        for axis, call in calls.items():
            assert call(m, x).tolist() == expected(m.w[...], axis, x)
        m.w[...] = m.w + 1


def test_filters_that_look_at_values_are_asked_each_time():
    axes = nnx.StateAxes({lambda path, value: value.shape[0] == 2: 1, ...: 0})
    f = nnx.vmap(lambda m: m.w.sum(), in_axes=(axes,))
    m = nnx.Dict(w=nnx.Variable(jnp.arange(6.0).reshape(2, 3)))
    assert f(m).tolist() == [3, 5, 7]
    m.w.set_value(jnp.arange(6.0).reshape(3, 2))
    assert f(m).tolist() == [1, 5, 9]


def test_filters_by_the_type_of_an_array_are_asked_each_time():
    axes = nnx.StateAxes({np.ndarray: 1, ...: 0})
    f = nnx.vmap(lambda m, x: m.sum() * x, in_axes=(axes, 0))
    w, x = np.arange(9.0, dtype=np.float32).reshape(3, 3), jnp.ones(3)
    for _ in range(2):
        assert f(w, x).tolist() == [9, 12, 15]
        assert f(jnp.asarray(w), x).tolist() == [3, 12, 21]


def test_functions_of_arrays_alone():
    f, g = nnx.vmap(lambda x, y: x + y), nnx.vmap(lambda x, y: x + y, in_axes=(0, 1))
    x, y = jnp.zeros((2, 2)), jnp.arange(4.0).reshape(2, 2)
    for _ in range(2):
        assert f(x, y).tolist() == y.tolist()
        assert g(x, y).tolist() == y.T.tolist()
        named = nnx.jit(lambda tree: {key: value * 2 for key, value in tree.items()})
        assert type(next(iter(named({1: 1.0})))) is int
        assert type(next(iter(named({True: 1.0})))) is bool
