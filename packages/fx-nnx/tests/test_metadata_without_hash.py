"""Metadata that has no hash, or may change in place: every transform takes it, and none computes from an old one."""

import pickle
import types

import fx_nnx as nnx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fx_nnx.variables.metadata import make_metadata

KINDS = {
    "list": lambda: [1.0, 2.0],
    "dict": lambda: {"a": [1.0]},
    "set": lambda: {1.0},
    "numpy": lambda: np.array([1.0, 2.0]),
    "jax": lambda: jnp.array([1.0, 2.0]),
    "namespace": lambda: types.SimpleNamespace(a=[1.0]),
    "tuple": lambda: ([1.0], 2.0),
}

X = jnp.ones((1, 2))

USES = {
    "jit": lambda m: nnx.jit(lambda m: m(X))(m),
    "tree": lambda m: nnx.jit(lambda m: m(X), graph=False)(m),
    "grad": lambda m: nnx.grad(lambda m: m(X).sum())(m),
    "vmap": lambda m: nnx.vmap(lambda m, x: m(x), in_axes=(None, 0))(m, X),
    "scan": lambda m: nnx.scan(lambda c, m: (m(c), None), in_axes=(nnx.Carry, None), length=2)(X, m),
    "cond": lambda m: nnx.cond(True, lambda m: m(X), lambda m: -m(X), m),
    "while": lambda m: nnx.fori_loop(0, 2, lambda i, c: c, (m, X)),
    "remat": lambda m: nnx.remat(lambda m: m(X))(m),
    "state": lambda m: nnx.jit(lambda s: s)(nnx.state(m)),
    "plain": lambda m: jax.jit(lambda s: s)(nnx.state(m)),
    "clone": nnx.clone,
    "shape": lambda m: nnx.eval_shape(lambda m: m(X), m),
    "made": lambda m: nnx.jit(lambda: nnx.clone(m))(),
}


def model(kind):
    return nnx.Linear(2, 2, rngs=nnx.Rngs(0), kernel_metadata={"note": KINDS[kind]()})


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("use", USES)
def test_it_goes_through_everything(kind, use):
    USES[use](model(kind))


CHANGES = {
    "list": lambda note: note.append(4.0),
    "dict": lambda note: note["a"].append(4.0),
    "numpy": lambda note: note.__setitem__(0, 5.0),
    "namespace": lambda note: note.a.append(4.0),
    "tuple": lambda note: note[0].append(4.0),
}


def total(m):
    note = m.kernel.note
    return jnp.asarray(sum(map(float, jax.tree.leaves(vars(note) if hasattr(note, "__dict__") else note))))


@pytest.mark.parametrize("kind", [kind for kind in CHANGES if kind != "numpy"])
@pytest.mark.parametrize(
    "wrap",
    [
        lambda f: nnx.jit(f),
        lambda f: nnx.jit(f, graph=False),
        lambda f: (
            lambda m: nnx.scan(lambda c, m: (f(m), None), in_axes=(nnx.Carry, None), length=1)(jnp.array(0.0), m)[0]
        ),
        lambda f: lambda m: nnx.cond(jnp.array(True), f, lambda m: jnp.array(0.0), m),
        lambda f: lambda m: nnx.vmap(lambda m, x: f(m) * x, in_axes=(None, 0))(m, jnp.ones(1))[0],
    ],
)
def test_a_change_in_place_is_seen(wrap, kind):
    f, m = wrap(total), model(kind)
    before = float(f(m))
    assert float(f(m)) == before
    CHANGES[kind](m.kernel.note)
    assert float(f(m)) == before + 4


def test_arrays_are_compared_by_content():
    traces = []

    @nnx.jit
    def f(m):
        traces.append(m)
        return jnp.asarray(float(np.sum(m.kernel.note)))

    assert f(model("numpy")) == 3
    assert f(model("numpy")) == 3
    assert len(traces) == 1
    changed = model("numpy")
    CHANGES["numpy"](changed.kernel.note)
    assert f(changed) == 7
    assert len(traces) == 2


def test_variables_do_not_share_what_may_change():
    first, second = nnx.Param(1, note=[1]), nnx.Param(1, note=[1])
    first.note.append(2)
    assert second.note == [1]
    assert make_metadata({"note": [1]}) == make_metadata({"note": [1]})
    assert make_metadata({"note": [1]}) != make_metadata({"note": [1.0]})
    assert make_metadata({"note": np.ones(2)}) != make_metadata({"note": np.zeros(2)})
    assert make_metadata({"note": [1]}) != make_metadata({"note": (1,)})
    again = pickle.loads(pickle.dumps(first))
    assert again.note == [1, 2]
