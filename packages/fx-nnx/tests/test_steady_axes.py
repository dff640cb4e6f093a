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
