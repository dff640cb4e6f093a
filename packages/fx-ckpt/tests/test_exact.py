"""Values and names that come back as they were where others are nearly the same."""

import struct

import fx_ckpt
import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from fx_ckpt.errors import ArgumentError, CastError, RestoreMismatchError
from jax.sharding import PartitionSpec as P

BACKENDS = ["msgpack", "safetensors", "orbax"]


def bits(number):
    return struct.pack(">d", number).hex()


@pytest.mark.parametrize("backend", BACKENDS)
def test_memory_maps_are_arrays(tmp_path, backend):
    mapped = np.memmap(tmp_path / "numbers", np.float32, "w+", shape=(2, 3))
    mapped[:] = np.arange(6).reshape(2, 3)
    back = fx_ckpt.restore(fx_ckpt.save(tmp_path / "saved", {"a": mapped}, backend=backend))["a"]
    assert type(back) is np.ndarray
    np.testing.assert_array_equal(back, mapped)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    "pattern", ["7ff8000000000000", "fff8000000000000", "7ff8000000000123", "fff80000deadbeef", "8000000000000000"]
)
def test_python_numbers_keep_their_bits(tmp_path, backend, pattern):
    number = struct.unpack(">d", bytes.fromhex(pattern))[0]
    path = fx_ckpt.save(
        tmp_path / "x", {"f": number, "c": complex(number, 1.0), "d": complex(0.0, number)}, backend=backend
    )
    for back in (fx_ckpt.restore(path), fx_ckpt.restore(path, {"f": 0.0, "c": 0j, "d": 0j})):
        assert [bits(back["f"]), bits(back["c"].real), bits(back["d"].imag)] == [pattern] * 3


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    "text", [np.bytes_(b"a\0"), np.bytes_(b""), np.bytes_(b"\0"), np.str_("a\0"), np.str_(""), np.str_("ü\0\0")]
)
def test_zeros_at_the_end_of_texts_stay(tmp_path, backend, text):
    path = fx_ckpt.save(tmp_path / "x", {"t": text}, backend=backend)
    for back in (fx_ckpt.restore(path), fx_ckpt.restore(path, {"t": text})):
        assert type(back["t"]) is type(text)
        assert len(back["t"]) == len(text)
        assert back["t"] == text


def test_equal_keys_of_other_types_are_other_keys(tmp_path):
    keys = [1, 1.0, True, (1, 0.0), (1.0, 0), (True, -0.0), 0.0, -0.0]
    for number, key in enumerate(keys):
        path = fx_ckpt.save(tmp_path / str(number), {key: 5})
        (back,) = fx_ckpt.restore(path)
        assert repr(back) == repr(key)
        assert fx_ckpt.restore(path, {key: 0}) == {key: 5}
        for other in keys:
            if other == key and repr(other) != repr(key):
                with pytest.raises(RestoreMismatchError, match=r"1 place|2 places"):
                    fx_ckpt.restore(path, {other: 0})


AMBIGUOUS = {"a/b": 1, "a": {"b": 2, "c": {"d": 3}}, "a/c": {"d": 4}, "x/y": 5}


def test_each_leaf_has_a_name_of_its_own(tmp_path):
    leaves = fx_ckpt.inspect(fx_ckpt.save(tmp_path / "x", AMBIGUOUS)).leaves()
    assert set(leaves) == {"{'a/b'}", "a/b", "a/c/d", "{'a/c'}/d", "x/y"}


@pytest.mark.parametrize(
    ("only", "chosen"),
    [
        ("a/b", {"a": {"b": 2}}),
        ("{'a/b'}", {"a/b": 1}),
        ("a/c", {"a": {"c": {"d": 3}}}),
        ("a", {"a": AMBIGUOUS["a"]}),
        ("{'a/c'}", {"a/c": {"d": 4}}),
        ("x/y", {"x/y": 5}),
        ("*", AMBIGUOUS),
        (["a/b", "x/y"], {"a": {"b": 2}, "x/y": 5}),
    ],
)
def test_a_filter_chooses_one_of_them(tmp_path, only, chosen):
    path = fx_ckpt.save(tmp_path / "x", AMBIGUOUS)
    assert fx_ckpt.restore(path, only=only) == chosen
    zeros = jax.tree.map(lambda _: 0, AMBIGUOUS)
    back = fx_ckpt.restore(path, zeros, only=only)
    assert {k for k, v in fx_ckpt.inspect(fx_ckpt.save(tmp_path / "y", back)).leaves().items() if v} == set(
        fx_ckpt.inspect(path).leaves()
    )
    assert sum(jax.tree.leaves(back)) == sum(jax.tree.leaves(chosen))


@pytest.mark.parametrize(
    ("saved", "dtype"),
    [
        (np.array([1e39, 1.0]), np.float32),
        (np.array([-7e4], np.float32), np.float16),
        (jnp.array([1e5]), jnp.float16),
        (np.array([500.0], np.float32), ml_dtypes.float8_e4m3fn),
        (np.array([1e39], np.float64), ml_dtypes.bfloat16),
        (np.array(1e39 + 0j), np.complex64),
        (np.array([300]), np.uint8),
        (np.array([-1], np.int8), np.uint32),
    ],
)
def test_a_cast_beyond_the_range_is_an_error(tmp_path, saved, dtype):
    path = fx_ckpt.save(tmp_path / "x", {"w": saved})
    with pytest.raises(CastError, match=rf"do not fit into {np.dtype(dtype).name}(.|\n)*where: w"):
        fx_ckpt.restore(path, {"w": np.zeros(np.shape(saved), dtype)}, cast=True)
    if np.dtype(dtype).kind in "fV":
        with pytest.raises(CastError, match="finite numbers beyond its range"):
            fx_ckpt.restore(path, cast=dtype)


def test_a_cast_keeps_infinities_and_rounds(tmp_path):
    path = fx_ckpt.save(tmp_path / "x", {"w": np.array([np.inf, -np.inf, np.nan, 65504.0, 1e-30, 0.1])})
    back = fx_ckpt.restore(path, cast=np.float16)["w"]
    np.testing.assert_array_equal(back, np.array([np.inf, -np.inf, np.nan, 65504.0, 0.0, 0.1], np.float16))


@pytest.mark.parametrize("backend", BACKENDS)
def test_keys_go_where_the_target_says(tmp_path, backend):
    mesh = jax.make_mesh((1,), ("x",), axis_types=(jax.sharding.AxisType.Auto,))
    split = jax.sharding.NamedSharding(mesh, P("x"))
    state = {"keys": jax.device_put(jax.random.split(jax.random.key(1), 4), split)}
    path = fx_ckpt.save(tmp_path / "x", state, backend=backend)
    abstract = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state)
    for target in (state, abstract):
        back = fx_ckpt.restore(path, target)["keys"]
        assert back.sharding == split
        np.testing.assert_array_equal(jax.random.key_data(back), jax.random.key_data(state["keys"]))


@pytest.mark.parametrize("step", [np.int64(3), np.uint8(3), np.array(3), jnp.int32(3)])
def test_steps_are_integers_however_they_are_held(tmp_path, step):
    manager = fx_ckpt.CheckpointManager(tmp_path)
    manager.save(step, {"w": 1})
    assert manager.all_steps() == [3]
    assert manager.restore(step) == manager.restore(3) == {"w": 1}
    assert manager.inspect(step).step == 3
    assert manager.path(step).name == "step_00000003"


@pytest.mark.parametrize("step", [np.float32(3), 3.0, "3", True, np.True_, -1, np.array([1, 2]), None])
def test_what_is_no_step_is_refused_with_help(tmp_path, step):
    with pytest.raises(ArgumentError, match=r"an integer, not negative(.|\n)*int\(step\)"):
        fx_ckpt.CheckpointManager(tmp_path).save(step, {})


@pytest.mark.parametrize("step", [10**18, 1_790_000_000_123_456_789, 10**40])
def test_large_steps_are_seen_and_retired(tmp_path, step):
    manager = fx_ckpt.CheckpointManager(tmp_path, keep=1, async_=False)
    for number in (step, step + 1):
        assert manager.save(number, {"step": 1})
    assert manager.all_steps() == [step + 1]
    assert manager.inspect().step == step + 1
