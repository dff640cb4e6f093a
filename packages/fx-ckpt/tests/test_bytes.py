"""State dictionaries as bytes: round trips are the identity, and hostile bytes are refused."""

import collections

import fx_ckpt
import jax
import jax.numpy as jnp
import msgpack
import numpy as np
import pytest
from fx_ckpt import from_bytes, msgpack_restore, msgpack_serialize, to_bytes
from fx_ckpt.errors import DamagedDataError, UnsupportedLeafError
from fx_ckpt.formats import msgpack as msgpack_format
from fx_core.errors.serialization import StateDictMismatchError
from fx_core.stored_dtypes import NUMBERS
from hypothesis import given, settings
from hypothesis import strategies as st

Pair = collections.namedtuple("Pair", "first second")

scalars = st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | st.text()
scalars = scalars | st.binary() | st.complex_numbers(allow_nan=False)
trees = st.recursive(scalars, lambda t: st.dictionaries(st.text(max_size=3), t, max_size=3), max_leaves=8)


@settings(deadline=None, max_examples=50)
@given(trees)
def test_state_dictionaries_come_back(tree):
    assert msgpack_restore(msgpack_serialize(tree)) == tree


@pytest.mark.parametrize("name", sorted(NUMBERS))
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 3)])
def test_each_dtype_comes_back_to_the_bit(name, shape):
    array = np.arange(np.prod(shape, dtype=int)).reshape(shape).astype(NUMBERS[name])
    back = msgpack_restore(msgpack_serialize({"x": array}))["x"]
    assert (back.dtype, back.shape, back.tobytes()) == (array.dtype, array.shape, array.tobytes())


def test_scalars_views_dates_and_foreign_byte_order():
    state = {
        "scalar": np.float32(1.5),
        "double": np.float64(2.5),
        "turned": np.arange(6).reshape(2, 3).T,
        "date": np.array("2020-01-01", "datetime64[D]"),
        "big": np.arange(3, dtype=">i4"),
    }
    back = msgpack_restore(msgpack_serialize(state))
    assert type(back["scalar"]) is np.float32
    assert type(back["double"]) is np.float64
    for name, value in state.items():
        np.testing.assert_array_equal(back[name], value)


def test_trees_come_back_into_a_target():
    tree = {"a": [jnp.ones(2), (1, None)], "p": Pair(jnp.arange(3), {}), 5: 2.5}
    target = {"a": [jnp.zeros(2), (0, None)], "p": Pair(jnp.zeros(3, jnp.int32), {}), 5: 0.0}
    back = from_bytes(target, to_bytes(tree))
    assert isinstance(back["p"], Pair)
    assert back[5] == 2.5
    assert back["a"][1] == (1, None)
    np.testing.assert_array_equal(back["p"].first, [0, 1, 2])
    with pytest.raises(StateDictMismatchError):
        from_bytes({"b": 1}, to_bytes(tree))


def test_large_arrays_go_in_pieces(monkeypatch):
    monkeypatch.setattr(msgpack_format, "MAX_CHUNK_SIZE", 16)
    tree = {"big": np.arange(30, dtype=np.int32).reshape(5, 6), "small": np.arange(2), "l": jnp.arange(9.0)}
    encoded = msgpack_serialize(tree)
    assert encoded.count(b"__msgpack_chunked_array__") == 2
    back = msgpack_restore(encoded)
    for name, array in tree.items():
        np.testing.assert_array_equal(back[name], array)


def test_the_limit_is_a_gibibyte():
    assert fx_ckpt.MAX_CHUNK_SIZE == 2**30


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (2**64, "an integer beyond 64 bits"),
        ((1, 2), "type tuple(.|\n)*to_state_dict"),
        (object(), "type object"),
        (np.array([None]), "dtype object"),
        (np.zeros(2, [("a", "i4")]), "dtype"),
        (np.array(["a"]), "dtype <U1"),
        (np.ma.array([1, 2], mask=[False, True]), "a masked array of dtype int64(.|\n)*value.mask"),
        (jax.random.key(0), "typed PRNG key(.|\n)*fx_ckpt.save"),
    ],
)
def test_what_cannot_be_encoded_says_why(value, text):
    with pytest.raises(UnsupportedLeafError, match=f"cannot be stored(.|\n)*{text}"):
        msgpack_serialize({"x": value})


def test_endless_nesting_is_refused():
    loop: dict = {}
    loop["x"] = loop
    with pytest.raises(UnsupportedLeafError, match="recursion"):
        msgpack_serialize(loop)


def array_ext(shape, name, content, code=1):
    return msgpack.packb(msgpack.ExtType(code, msgpack.packb((shape, name, content))))


def pieces(shape, chunks):
    return msgpack.packb({"__msgpack_chunked_array__": True, "shape": shape, "chunks": chunks})


PIECE = msgpack.ExtType(1, msgpack.packb(((2,), "int8", b"ab")))


@pytest.mark.parametrize(
    ("encoded", "text"),
    [
        (b"", ""),
        (b"\xc1", ""),
        (b"\xdb\xff\xff\xff\xff", ""),
        (b"\xdd\xff\xff\xff\xff", ""),
        (b"\x91" * 10_000 + b"\x00", ""),
        (b"\x01\x02", "ExtraData"),
        (b"\xa1\xff", ""),
        (b"\x82\xa1a\x01\xa1a\x02", "a key twice"),
        (b"\x81\x90\x01", ""),
        (msgpack.packb(msgpack.ExtType(9, b"")), "unknown kind of value"),
        (msgpack.packb(msgpack.ExtType(1, b"\x90")), "not a triple"),
        (msgpack.packb(msgpack.ExtType(1, b"")), ""),
        (msgpack.packb(msgpack.ExtType(2, b"\x91\x01")), "not a pair of floats"),
        (array_ext((2,), "int8", b"abc"), "another size than its shape says"),
        (array_ext((2**40, 2**40), "int8", b"abc"), "impossible shape"),
        (array_ext((-1,), "int8", b""), "impossible shape"),
        (array_ext((2**60,), "int8", b""), "impossible shape"),
        (array_ext((1.0,), "int8", b"a"), "impossible shape"),
        (array_ext((1,) * 65, "int8", b"a"), "impossible shape"),
        (array_ext((1,), "object", b"12345678"), "unknown dtype"),
        (array_ext((1,), "O", b"12345678"), "unknown dtype"),
        (array_ext((1,), "i4,O", b"12345678"), "unknown dtype"),
        (array_ext((1,), "datetime64[D]x", b"12345678"), "unknown dtype"),
        (array_ext((1,), "int8", b"a", code=3), "a scalar has a shape"),
        (pieces({"0": 4}, {"0": PIECE, "2": PIECE}), "lacks shape or pieces"),
        (pieces(3, {"0": PIECE}), ""),
        (pieces({"0": 5}, {"0": PIECE, "1": PIECE}), "do not make up its shape"),
        (pieces({"0": 2}, {"0": 7}), "no flat arrays"),
        (pieces({"0": 0}, {}), "no flat arrays"),
    ],
)
def test_hostile_bytes_are_refused(encoded, text):
    with pytest.raises(DamagedDataError, match=f"These bytes cannot be read(.|\n)*{text}"):
        msgpack_restore(encoded)


WHOLE = to_bytes({"a": jnp.arange(5), "b": {"c": 1.5, "d": "text", "e": np.float32(2)}})


def test_each_cut_is_noticed():
    for length in range(len(WHOLE)):
        with pytest.raises(DamagedDataError):
            msgpack_restore(WHOLE[:length])


@settings(deadline=None, max_examples=50)
@given(st.integers(0, len(WHOLE) - 1), st.binary(min_size=1, max_size=6))
def test_changed_bytes_give_a_tree_or_the_own_error(position, change):
    try:
        msgpack_restore(WHOLE[:position] + change + WHOLE[position + len(change) :])
    except DamagedDataError as error:
        assert "cannot be read" in str(error)  # noqa: PT017


@pytest.mark.parametrize("encode", [to_bytes, msgpack_serialize])
@pytest.mark.parametrize("leaf", [object(), np.array(["a"], object), {1, 2}, 2**70, jax.random.key(0), "\ud800"])
def test_errors_name_the_place_of_the_leaf(encode, leaf):
    with pytest.raises(UnsupportedLeafError, match="where: /layers/dense/extra") as caught:
        encode({"layers": {"dense": {"kernel": np.ones(1), "extra": leaf}}})
    assert "to_state_dict" not in str(caught.value)  # it is one already


def test_advice_on_containers():
    with pytest.raises(UnsupportedLeafError, match=r"(?s)where: /a/1.*Call to_state_dict"):
        msgpack_serialize({"a": [1, (2, 3)]})
    with pytest.raises(UnsupportedLeafError, match=r"(?s)where: the key of /a/\(1, 2\)"):
        msgpack_serialize({"a": {(1, 2): 3}})
    with pytest.raises(UnsupportedLeafError, match="the root of the tree"):
        msgpack_serialize({1, 2})


@pytest.mark.parametrize("kind", [np.longdouble, np.clongdouble])
def test_long_numbers(kind):
    value = np.asarray([1, 3], kind) / 7
    for tree in ({"x": value}, {"x": value[0]}):
        again = msgpack_restore(msgpack_serialize(tree))["x"]
        assert again.dtype == value.dtype
        np.testing.assert_array_equal(again, tree["x"])
