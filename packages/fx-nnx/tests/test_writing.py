"""``variable[...] = value`` writes into what the variable holds; ``set_value`` and ``.value =`` replace it."""

import os
import subprocess
import sys

import fx_nnx as nnx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fx_nnx.errors import NnxError, TraceLevelError


def written(first, value, index=..., **options):
    v = nnx.Param(first, **options)
    v[index] = value
    return v.get_value()


@pytest.mark.parametrize(
    "value",
    [
        0.0,
        0,
        True,
        np.float32(2),
        np.ones((2, 3)),
        np.arange(3),
        [1, 2, 3],
        jnp.ones(3),
        jnp.ones((2, 1), jnp.bfloat16),
    ],
    ids=str,
)
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.complex64])
def test_the_whole_is_broadcast_and_cast(value, dtype):
    got = written(jnp.full((2, 3), 9, dtype), value)
    assert isinstance(got, jax.Array)
    assert got.dtype == dtype
    assert got.shape == (2, 3)
    assert not got.weak_type
    np.testing.assert_array_equal(got.astype(jnp.complex64), np.broadcast_to(np.asarray(value, np.complex64), (2, 3)))


@pytest.mark.parametrize(
    "value", [jnp.ones(5), jnp.ones((1, 2, 3)), None, "abc", {"a": 1}, jax.ShapeDtypeStruct((2, 3), jnp.float32)]
)
def test_what_does_not_fit_is_refused_and_nothing_changes(value):
    model = nnx.Dict(w=nnx.Param(jnp.ones((2, 3))))
    with pytest.raises(NnxError, match=r"Dict/w\n  expected: what broadcasts to float32 of shape \(2, 3\)"):
        model.w[...] = value
    np.testing.assert_array_equal(model.w.get_value(), jnp.ones((2, 3)))


def test_a_cast_that_loses_something_warns():
    v = nnx.Variable(jnp.zeros(2, jnp.int32))
    with pytest.warns(FutureWarning, match="cannot safely cast"):
        v[...] = 1.7
    np.testing.assert_array_equal(v.get_value(), [1, 1])
    assert v.get_value().dtype == jnp.int32


def test_an_array_of_the_same_type_is_taken_as_it_is():
    x = jnp.ones(3)
    assert written(jnp.zeros(3), x) is x
    key = jax.random.key(1)
    assert written(jax.random.key(0), key) is key
    with pytest.raises(NnxError, match="float32"):
        written(jax.random.key(0), jnp.ones(()))


def test_replacing_takes_anything():
    v = nnx.Param(jnp.ones((2, 3)))
    v.set_value(0.0)
    assert v.get_value() == 0.0
    assert isinstance(v.get_value(), float)
    v.value = jnp.ones(5, jnp.int32)
    assert v.shape == (5,)
    assert v.dtype == jnp.int32


def test_numpy_arrays_stay_and_are_not_shared():
    first = np.zeros((2, 2))
    v = nnx.Variable(first)
    v[...] = jnp.ones(2)
    v[0, 0] = 5
    assert type(v.get_value()) is np.ndarray
    assert v.dtype == np.float64
    np.testing.assert_array_equal(v.get_value(), [[5, 1], [1, 1]])
    np.testing.assert_array_equal(first, np.zeros((2, 2)))
    assert jax.jit(lambda x: written(first, x))(1.0).shape == (2, 2)
    with pytest.raises(NnxError, match=r"float64 of shape \(2, 2\)"):
        v[...] = np.ones(3)


def test_numbers_and_missing_values_are_replaced():
    assert written(1, 2.5) == 2.5
    assert written(None, 3) == 3
    assert written({"a": 1}, {"b": 2}) == {"b": 2}


def test_dictionaries_and_lists_take_items():
    first = {"a": 1}
    v = nnx.Variable(first)
    other = v.copy()
    v["a"] = 3
    v["b"] = jnp.ones(2)
    assert v["a"] == 3
    assert v["b"].shape == (2,)
    assert len(v) == 2
    assert "b" in v
    assert list(v) == ["a", "b"]
    assert first == other.get_value() == {"a": 1}
    del v["a"]
    assert list(v.get_value()) == ["b"]
    assert first == {"a": 1}
    assert written([1, 2], 3, 0) == [3, 2]
    with pytest.raises(TypeError, match="item assignment"):
        written((1, 2), 3, 0)
    with pytest.raises(IndexError):
        written([1], 3, 4)


def test_items_pass_the_hooks():
    seen = []
    v = nnx.Variable({"a": 1}, on_set_value=lambda _, x: seen.append(x) or x + 1)
    v["a"] = 2
    assert seen == [2]
    assert v["a"] == 3


def test_an_abstract_variable_takes_what_fits():
    abstract = jax.ShapeDtypeStruct((2, 3), jnp.bfloat16)
    got = written(abstract, np.ones((2, 3)))
    assert got.dtype == jnp.bfloat16
    assert isinstance(got, jax.Array)
    with pytest.raises(NnxError, match=r"bfloat16 of shape \(2, 3\)"):
        written(abstract, jnp.ones(7))


def test_writing_in_traces():
    model = nnx.Linear(2, 2, rngs=nnx.Rngs(0), param_dtype=jnp.bfloat16)

    @nnx.jit
    def clear(m, x):
        m.kernel[...] = 0
        m.bias[...] = x

    clear(model, jnp.float32(2))
    assert model.kernel.dtype == model.bias.dtype == jnp.bfloat16
    assert model.kernel.shape == (2, 2)
    np.testing.assert_array_equal(model.bias.get_value(), [2, 2])

    @jax.jit
    def outside(x):
        model.bias[...] = x

    with pytest.raises(TraceLevelError, match="Linear/bias"):
        outside(1.0)


PROGRAM = """
import fx_nnx as nnx, jax, jax.numpy as jnp, numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P
for kind in AxisType.Auto, AxisType.Explicit:
    mesh = jax.make_mesh((2,), ("x",), axis_types=(kind,))
    place = NamedSharding(mesh, P("x"))
    places = jax.devices()[1], NamedSharding(mesh, P(None, "x"))
    elsewhere = [jax.device_put(jnp.ones((2, 2)), where) for where in places]
    for value in [0.0, np.ones((2, 2)), jnp.ones(2), *elsewhere]:
        v = nnx.Param(jax.device_put(jnp.ones((2, 2)), place))
        v[...] = value
        assert v.sharding.is_equivalent_to(place, 2), (kind, value, v.sharding)
    v = nnx.Param(jnp.ones((2, 2)))
    v[...] = jax.device_put(jnp.ones((2, 2)), place)
    assert v.sharding == place, v.sharding
    with jax.set_mesh(mesh):
        v = nnx.Dict(w=nnx.Param(jax.device_put(jnp.ones((2, 2)), place)))
        nnx.jit(lambda v, x: v.w.__setitem__(..., x))(v, elsewhere[1])
        assert v.w.sharding.is_equivalent_to(place, 2) or kind is AxisType.Auto, v.w.sharding
    abstract = nnx.Param(jax.ShapeDtypeStruct((2, 2), jnp.float32, sharding=place))
    abstract[...] = np.ones((2, 2))
    assert abstract.sharding == place
"""


def test_the_place_of_an_array_stays():
    flags = {"XLA_FLAGS": "--xla_force_host_platform_device_count=2", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run([sys.executable, "-c", PROGRAM], env={**os.environ, **flags}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_array_protocols():
    v = nnx.Param(jnp.arange(4.0))
    if np.lib.NumpyVersion(np.__version__) >= "2.1.0":  # before, NumPy asked the type
        np.testing.assert_array_equal(np.from_dlpack(v), v.get_value())
    np.testing.assert_array_equal(jnp.from_dlpack(v), v.get_value())
    assert v.__array_namespace__() is jnp
    assert not hasattr(nnx.Variable({"a": 1}), "__dlpack__")


class Foreign:
    """A variable of another library: it has a value and metadata, and stands for an array."""

    shape, dtype = (3,), jnp.dtype("float32")

    def get_value(self):
        return jnp.ones(3)

    def get_metadata(self):
        return {}

    def __jax_array__(self):
        return self.get_value()


@pytest.mark.parametrize(
    "put",
    [
        lambda model, value: nnx.Param(value),
        lambda model, value: nnx.Param.from_metadata(value, {}),
        lambda model, value: model.w.set_value(value),
        lambda model, value: model.w.replace(value),
        lambda model, value: model.w.update_from_state(value),
        lambda model, value: nnx.update(model, {"w": value}),
        lambda model, value: nnx.update(model.w, value),
        lambda model, value: nnx.merge(nnx.graphdef(model), {"w": value}),
        lambda model, value: nnx.merge(nnx.graphdef(model), nnx.State({"w": value}), copy=True),
        lambda model, value: nnx.replace_by_pure_dict(nnx.state(model), {"w": value}),
    ],
    ids=["Param", "from_metadata", "set_value", "replace", "from_state", "update", "single", "merge", "copy", "pure"],
)
def test_a_variable_of_another_library_is_no_value(put):
    model = nnx.Dict(w=nnx.Param(jnp.zeros(3)))
    with pytest.raises(NnxError, match=r"Param: a variable of another library[\s\S]*Foreign[\s\S]*get_value"):
        put(model, Foreign())
    np.testing.assert_array_equal(model.w, jnp.zeros(3))


def test_what_a_variable_of_another_library_holds_is_written():
    model = nnx.Dict(w=nnx.Param(jnp.zeros(3)))
    model.w[...] = Foreign()
    assert isinstance(model.w.get_raw_value(), jax.Array)
    np.testing.assert_array_equal(model.w, jnp.ones(3))
