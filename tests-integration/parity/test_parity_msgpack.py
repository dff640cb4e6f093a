"""State dictionaries as bytes: the same bytes as Flax, read in both directions."""

import collections

import flax
import flax.serialization as flax_bytes
import fx_ckpt
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
from flax.training import checkpoints as flax_checkpoints
from fx_ckpt import checkpoints
from fx_ckpt.formats import msgpack as msgpack_format
from fx_core.stored_dtypes import NUMBERS
from hypothesis import given, settings
from hypothesis import strategies as st

# What Flax and Orbax warn of in their own old functions.
pytestmark = [
    pytest.mark.filterwarnings("ignore:Flax Checkpointing will soon be deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Sharding info not provided:UserWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]

Pair = collections.namedtuple("Pair", "first second")

TREES = {
    "scalars": {"a": 1, "b": 2.5, "c": True, "d": None, "e": "text", "f": b"bytes", "g": 1 - 2j, "h": -(2**63)},
    "numpy scalars": {"a": np.float32(1), "b": np.int8(-1), "c": np.bool_(True), "d": np.float64(2)},
    "arrays": {"a": np.arange(6).reshape(2, 3), "b": jnp.ones((2, 2), jnp.bfloat16), "c": np.zeros((0, 3))},
    "turned": {"a": np.arange(6).reshape(2, 3).T, "b": np.array("2020", "datetime64[Y]")},
    "containers": {"a": [1, (2, {})], "b": Pair(1, [None]), "c": {}, "d": {3: 4}},
    "optimizer": optax.adam(1e-3).init({"w": jnp.ones((2, 3))}),
    "dtypes": {name: np.array([0, 1]).astype(dtype) for name, dtype in NUMBERS.items()},
}


def assert_same(a, b):
    if isinstance(a, dict):
        assert list(a) == list(b)
        for key in a:
            assert_same(a[key], b[key])
    elif hasattr(a, "dtype"):
        assert (type(a), a.dtype, a.shape, a.tobytes()) == (type(b), b.dtype, b.shape, b.tobytes())
    else:
        assert (type(a), a) == (type(b), b)


@pytest.mark.parametrize("name", TREES)
def test_the_bytes_are_the_same_and_are_read_in_both_directions(name):
    tree = TREES[name]
    ours, theirs = fx_ckpt.to_bytes(tree), flax_bytes.to_bytes(tree)
    assert ours == theirs
    assert_same(fx_ckpt.msgpack_restore(theirs), flax_bytes.msgpack_restore(ours))
    assert_same(flax_bytes.to_state_dict(fx_ckpt.from_bytes(tree, theirs)), fx_ckpt.msgpack_restore(ours))


@pytest.mark.parametrize("limit", [8, 16, 40])
def test_arrays_in_pieces(monkeypatch, limit):
    monkeypatch.setattr(flax_bytes, "MAX_CHUNK_SIZE", limit)
    monkeypatch.setattr(msgpack_format, "MAX_CHUNK_SIZE", limit)
    tree = {"a": np.arange(24, dtype=np.int32).reshape(2, 3, 4), "b": {"c": jnp.arange(9.0)}, "d": np.arange(2)}
    ours, theirs = fx_ckpt.msgpack_serialize(tree), flax_bytes.msgpack_serialize(tree)
    assert ours == theirs
    assert b"__msgpack_chunked_array__" in ours
    for name, back in fx_ckpt.msgpack_restore(theirs).items():
        np.testing.assert_array_equal(back["c"] if name == "b" else back, tree["b"]["c"] if name == "b" else tree[name])


def test_the_limit_is_the_same():
    assert fx_ckpt.MAX_CHUNK_SIZE == flax_bytes.MAX_CHUNK_SIZE


scalars = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text() | st.binary()
trees = st.recursive(
    scalars | st.complex_numbers(), lambda t: st.dictionaries(st.text(max_size=3), t, max_size=3), max_leaves=8
)


@settings(deadline=None, max_examples=50)
@given(trees)
def test_any_state_dictionary_has_the_same_bytes(tree):
    assert fx_ckpt.msgpack_serialize(tree) == flax_bytes.msgpack_serialize(tree)


def test_flax_reads_the_file_of_the_msgpack_backend(tmp_path):
    tree = {"params": {"w": jnp.ones((2, 3))}, "step": 3}
    path = fx_ckpt.save(tmp_path / "x", tree, backend="msgpack")
    back = flax_bytes.from_bytes(tree, (path / "data/state.msgpack").read_bytes())
    assert back["step"] == 3
    np.testing.assert_array_equal(back["params"]["w"], np.ones((2, 3)))


@pytest.mark.parametrize("step", [3, 0.5])
def test_files_of_the_old_functions_go_both_ways(tmp_path, step):
    tree = {"params": {"w": jnp.ones((2, 3))}, "l": [1, 2.5]}
    flax.config.update("flax_use_orbax_checkpointing", False)
    try:
        flax_checkpoints.save_checkpoint(tmp_path / "theirs", tree, step)
        checkpoints.save_checkpoint(tmp_path / "ours", tree, step)
        name = f"checkpoint_{step}"
        assert (tmp_path / "ours" / name).read_bytes() == (tmp_path / "theirs" / name).read_bytes()
        theirs = checkpoints.restore_checkpoint(tmp_path / "theirs", tree)
        ours = flax_checkpoints.restore_checkpoint(tmp_path / "ours", tree)
        assert theirs["l"] == ours["l"] == [1, 2.5]
    finally:
        flax.config.update("flax_use_orbax_checkpointing", True)


def test_orbax_directories_of_flax_are_read(tmp_path):
    tree = {"params": {"w": jnp.ones((2, 3))}, "l": [1, 2.5]}
    flax_checkpoints.save_checkpoint(tmp_path, tree, 7)
    back = checkpoints.restore_checkpoint(tmp_path, tree)
    np.testing.assert_array_equal(back["params"]["w"], np.ones((2, 3)))
    assert [float(x) for x in back["l"]] == [1, 2.5]


def test_orbax_directories_of_ours_are_read_by_flax(tmp_path):
    tree = {"params": {"w": jnp.ones((2, 3))}}
    checkpoints.save_checkpoint(tmp_path, tree, 7, orbax_checkpointer=ocp.PyTreeCheckpointer())
    back = flax_checkpoints.restore_checkpoint(tmp_path, tree)
    np.testing.assert_array_equal(back["params"]["w"], np.ones((2, 3)))


@pytest.mark.parametrize("options", [{"keep": 2}, {"keep": 1, "keep_every_n_steps": 3}])
def test_the_same_steps_stay(tmp_path, options):
    flax.config.update("flax_use_orbax_checkpointing", False)
    try:
        for step in range(9):
            flax_checkpoints.save_checkpoint(tmp_path / "theirs", {"a": 1}, step, **options)
            checkpoints.save_checkpoint(tmp_path / "ours", {"a": 1}, step, **options)
    finally:
        flax.config.update("flax_use_orbax_checkpointing", True)
    steps = checkpoints.available_steps(tmp_path / "ours")
    assert steps == flax_checkpoints.available_steps(tmp_path / "theirs")


def test_natural_order():
    names = ["a_10", "a_9", "a_-1", "a_1e-3", "a_2.5", "b", "a_+3"]
    assert checkpoints.natural_sort(names) == flax_checkpoints.natural_sort(names)
    assert checkpoints.natural_sort(names, signed=False) == flax_checkpoints.natural_sort(names, signed=False)
