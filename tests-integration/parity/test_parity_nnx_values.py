"""Variables, objects and graph functions of fx_nnx at their edges, against those of Flax: the same outcome."""

import flax.nnx as flax_nnx
import fx_nnx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:scatter inputs:FutureWarning"),
    pytest.mark.filterwarnings("ignore:Casting complex"),
    pytest.mark.filterwarnings("ignore:Explicitly requested dtype"),
]
BOTH = (flax_nnx, fx_nnx)
A = jnp.ones((2, 3))


def outcome(f, *args):
    """What a function gives, or that it refuses."""
    try:
        return f(*args)
    except Exception:
        return "refused"


def described(x):
    if isinstance(x, jax.Array | np.ndarray):
        return type(x) is np.ndarray, str(x.dtype), x.shape, np.asarray(x, np.complex64).tolist()
    return x


WRITES = {
    "a number": (A, 0.0, ...),
    "a truth value": (A, True, ...),
    "an integer for integers": (A.astype(int), 3, ...),
    "a float for integers": (A.astype(int), 1.7, ...),
    "a number for truth values": (A > 0, 2, ...),
    "float32 for bfloat16": (A.astype(jnp.bfloat16), A * 2, ...),
    "bfloat16 for float32": (A, A.astype(jnp.bfloat16), ...),
    "a row": (A, jnp.arange(3.0), ...),
    "a column": (A, jnp.arange(2.0)[:, None], ...),
    "a list": (A, [1, 2, 3], ...),
    "NumPy float64": (A, np.ones((2, 3)), ...),
    "a NumPy number": (A, np.float32(3), ...),
    "another shape": (A, jnp.ones(5), ...),
    "more dimensions": (A, A[None], ...),
    "None": (A, None, ...),
    "text": (A, "abc", ...),
    "a dictionary": (A, {"a": 1}, ...),
    "a number into NumPy": (np.ones((2, 3)), 0.0, ...),
    "an array into NumPy": (np.ones((2, 3)), A, ...),
    "another shape into NumPy": (np.ones((2, 3)), jnp.ones(5), ...),
    "an item of an array": (A, 3, (0, 0)),
    "a row of an array": (A, [7, 8, 9], 0),
    "an item of NumPy": (np.ones((2, 3)), 3, (0, 0)),
    "an item of a dictionary": ({"a": 1}, 3, "a"),
    "a new item": ({"a": 1}, 3, "b"),
    "an item of a list": ([1, 2], 3, 0),
    "an item of a tuple": ((1, 2), 3, 0),
}


@pytest.mark.parametrize("name", WRITES)
def test_writing_into_variables(name):
    first, value, index = WRITES[name]

    def write(nnx):
        v = nnx.Param(first.copy() if isinstance(first, np.ndarray | dict | list) else first)
        v[index] = value
        return described(v.get_value())

    assert outcome(write, fx_nnx) == outcome(write, flax_nnx)


@pytest.mark.parametrize("value", [0.0, np.ones(2), jnp.ones(5, jnp.int32), None, "text"], ids=str)
def test_replacing_values(value):
    def replace(nnx):
        v = nnx.Param(A)
        v.set_value(value)
        return described(v.get_value())

    assert outcome(replace, fx_nnx) == outcome(replace, flax_nnx)


FIRST = {"none": None, "number": 0, "text": "s", "tuple": (), "list": [], "dict": {}, "array": jnp.ones(2), "f": len}
LATER = {
    "variable": lambda n: n.Param(A),
    "module": lambda n: n.Linear(2, 2, rngs=n.Rngs(0)),
    "List": lambda n: n.List([n.Param(A)]),
    "list": lambda n: [1, "b", n.Param(A), {"c": jnp.ones(1)}],
    "array": lambda n: jnp.ones(3),
}


@pytest.mark.parametrize("first", FIRST)
@pytest.mark.parametrize("later", LATER)
def test_attributes_without_pytrees(first, later):
    def paths(nnx):
        class Holder(nnx.Module, pytree=False):
            def __init__(self):
                self.a = FIRST[first]

        holder = Holder()
        holder.a = LATER[later](nnx)
        copy = nnx.merge(*nnx.split(holder))
        return list(nnx.to_flat_state(nnx.state(copy)).paths), nnx.jit(lambda m: len(jax.tree.leaves(nnx.state(m))))(
            copy
        )

    assert paths(fx_nnx) == paths(flax_nnx)


def test_bare_arrays_are_differentiated_where_a_filter_chooses_them():
    def grads(nnx, wanted):
        layer = nnx.Linear(3, 2, rngs=nnx.Rngs(0))
        layer.kernel = jnp.ones((3, 2))
        found = nnx.grad(lambda m: m(jnp.ones((1, 3))).sum(), argnums=nnx.DiffState(0, wanted))(layer)
        return jax.tree.map(np.asarray, nnx.to_pure_dict(found))

    for wanted in (lambda n: ..., lambda n: n.Param, lambda n: n.Not(n.Param)):
        ours, theirs = grads(fx_nnx, wanted(fx_nnx)), grads(flax_nnx, wanted(flax_nnx))
        assert jax.tree.structure(ours) == jax.tree.structure(theirs)
        jax.tree.map(np.testing.assert_array_equal, ours, theirs)


HIDDEN = {
    "array": lambda n: jnp.ones(1),
    "numpy": lambda n: np.ones(1),
    "variable": lambda n: n.Param(1),
    "module": lambda n: n.Linear(1, 1, rngs=n.Rngs(0)),
    "list": lambda n: [np.ones(1)],
    "tuple": lambda n: (jnp.ones(1),),
    "dict": lambda n: {"a": [np.ones(1)]},
    "numbers": lambda n: [1, 2.0],
    "NumPy number": lambda n: [np.float32(1)],
    "none": lambda n: [None],
}
DECLARATIONS = {
    "none": lambda n, v: v,
    "static": lambda n, v: n.static(v),
    "data": lambda n, v: n.data(v),
}


@pytest.mark.parametrize("how", DECLARATIONS)
@pytest.mark.parametrize("name", HIDDEN)
@pytest.mark.parametrize("first", [False, True])
def test_where_data_may_be(name, how, first):
    def leaves(nnx):
        class Holder(nnx.Pytree):
            def __init__(self):
                if first:
                    self.a = 1
                self.a = DECLARATIONS[how](nnx, HIDDEN[name](nnx))

        return len(jax.tree.leaves(Holder()))

    assert outcome(leaves, fx_nnx) == outcome(leaves, flax_nnx)


TREES = {
    "array": lambda n: jnp.ones(2),
    "variable": lambda n: n.Param(A),
    "dict": lambda n: {"a": jnp.ones(2), "b": n.Param(A)},
    "module": lambda n: n.Dict(x=n.data({"a": n.Param(A), "c": jnp.ones(1)}), y=n.BatchStat(A)),
    "list": lambda n: n.Dict(x=n.data([n.Param(A)])),
}


@pytest.mark.parametrize("name", TREES)
def test_split_and_merge(name):
    def parts(nnx):
        tree = TREES[name](nnx)
        graphdef, state = nnx.split(tree)
        return type(state).__name__.replace("Impl", ""), jax.tree.structure(
            nnx.merge(graphdef, state)
        ) == jax.tree.structure(tree)

    assert parts(fx_nnx) == parts(flax_nnx)


@pytest.mark.parametrize("name", ["dict", "module", "list"])
@pytest.mark.parametrize("wanted", [lambda n: n.Param, lambda n: ...])
def test_pop(name, wanted):
    def popped(nnx):
        tree = TREES[name](nnx)
        return sorted(nnx.to_flat_state(nnx.pop(tree, wanted(nnx))).paths), len(nnx.to_flat_state(nnx.state(tree)))

    assert outcome(popped, fx_nnx) == outcome(popped, flax_nnx)


def test_attributes_of_variables_of_programs():
    class Foreign:
        def __init__(self, value):
            self._value, self.name = value, "n"

    def made(nnx):
        class Both(Foreign, nnx.Variable):
            def __init__(self, value):
                nnx.Variable.__init__(self, value)
                Foreign.__init__(self, value * 2)

            @property
            def _value(self):
                return self._raw_value

            @_value.setter
            def _value(self, value):
                object.__setattr__(self, "_raw_value", value)

        v = Both(A)
        state = sorted(nnx.Param(1).__getstate__())
        v._var_metadata["level"] = 3
        return v.name, described(v.get_value()), v.level, state, v._trace_state.is_valid()

    assert made(fx_nnx) == made(flax_nnx)
