"""What is saved comes back: values, bits, containers, keys and kinds, with a target and without."""

import collections
import dataclasses
import math

import fx_ckpt
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fx_ckpt.tree.apart import take_apart
from fx_ckpt.tree.structure import Leaf
from fx_core import struct
from fx_core.frozen_dict import FrozenDict
from fx_core.stored_dtypes import NUMBERS
from hypothesis import given, settings
from hypothesis import strategies as st

BACKENDS = ["msgpack", "safetensors", "orbax"]
Pair = collections.namedtuple("Pair", "first second")
Empty = collections.namedtuple("Empty", "")


@struct.dataclass
class State:
    step: int
    params: dict
    key: jax.Array
    apply_fn: object = struct.field(pytree_node=False)


def same(a, b):
    """Equal in kind, dtype, shape, weak type and bits."""
    if type(a) in (dict, list, tuple) or isinstance(a, (Pair, FrozenDict)):
        assert type(a) is type(b)
        if isinstance(a, FrozenDict):
            # JAX sees its keys in order, whatever theirs was; so do we, who see it through JAX.
            a, b = ({key: x[key] for key in sorted(x)} for x in (a, b))
        if hasattr(a, "keys"):
            assert [(type(k), k) for k in a] == [(type(k), k) for k in b]
            a, b = list(a.values()), list(b.values())
        assert len(a) == len(b)
        for x, y in zip(a, b):
            same(x, y)
        return True
    assert isinstance(b, jax.Array) if isinstance(a, jax.Array) else type(a) is type(b)
    if isinstance(a, jax.Array):
        assert a.dtype == b.dtype
        if jnp.issubdtype(a.dtype, jax.dtypes.prng_key):
            a, b = jax.random.key_data(a), jax.random.key_data(b)
        assert a.weak_type == b.weak_type
    if isinstance(a, (jax.Array, np.ndarray, np.generic)):
        a, b = np.asarray(a), np.asarray(b)
        assert (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes())
    elif isinstance(a, (float, complex)):
        assert repr(a) == repr(b)
    else:
        assert a == b
    return True


def zoo():
    return {
        "dict": {"b": 1, "a": 2, 1: "int key", "1": "str key", False: 0, None: 0, (1, "x"): 0, 2.5: 0},
        "empty": [{}, [], (), None],
        "names": {"": 1, "a/b": np.arange(2), "a.b": np.arange(3), "..": np.arange(4), "%2E": 5, "ü €": np.arange(5)},
        "sequence": ([1, (2, [3])], (4,)),
        "scalars": [True, -(2**63), 10**40, -(10**40), 1.5, math.nan, -math.inf, -0.0, 1 - 2j, "text", b"\0bytes", ""],
        "numpy": [np.float32(1.5), np.float64(2), np.bool_(True), np.arange(6).reshape(2, 3).T, np.zeros((0, 3))],
        "strings": [
            np.array(["ab", "c"]),
            np.array([b"x"]),
            np.array("2020", "datetime64[Y]"),
            np.arange(3, dtype=">i4"),
        ],
        "scalar string": np.str_("hello"),
        "jax": [jnp.ones((2, 3)), jnp.asarray(3), jnp.float32(2), jnp.zeros((0,)), jnp.full((2,), 1.0)],
        "keys": [jax.random.key(1, impl=impl) for impl in ("threefry2x32", "rbg", "unsafe_rbg")],
        "key array": jax.random.split(jax.random.key(0), 3),
        "small": [np.array([0, 1]).astype(dtype) for dtype in NUMBERS.values()],
        "small jax": [jnp.zeros((2, 2), d) for d in (jnp.bfloat16, jnp.float8_e4m3fn, jnp.int4, jnp.uint4)],
    }


@pytest.mark.parametrize("backend", BACKENDS)
def test_everything_comes_back_with_and_without_a_target(tmp_path, backend):
    tree = zoo()
    path = fx_ckpt.save(tmp_path / "x", tree, backend=backend)
    assert same(tree, fx_ckpt.restore(path))
    assert same(tree, fx_ckpt.restore(path, tree))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("tree", [jnp.ones(3), 5, None, jax.random.key(2), {}, [], (), np.float32(1)])
def test_a_tree_may_be_one_leaf_or_nothing(tmp_path, backend, tree):
    path = fx_ckpt.save(tmp_path / "x", tree, backend=backend)
    assert same(tree, fx_ckpt.restore(path))


@pytest.mark.parametrize("backend", BACKENDS)
def test_classes_come_back_with_a_target_and_as_dictionaries_without(tmp_path, backend):
    fn = object()
    tree = State(3, FrozenDict({"w": jnp.ones(2)}), jax.random.key(1), fn)
    tree = {"state": tree, "pair": Pair(jnp.zeros(1), Empty()), "ordered": collections.OrderedDict(b=1, a=2)}
    path = fx_ckpt.save(tmp_path / "x", tree, backend=backend)
    back = fx_ckpt.restore(path, jax.tree.map(lambda x: x, tree))
    assert isinstance(back["state"], State)
    assert back["state"].apply_fn is fn
    assert isinstance(back["state"].params, FrozenDict)
    assert isinstance(back["pair"].second, Empty)
    assert list(back["ordered"]) == ["b", "a"]
    assert same([tree["state"].key, tree["state"].params], [back["state"].key, back["state"].params])
    plain = fx_ckpt.restore(path)
    assert plain["pair"] == {"first": plain["pair"]["first"], "second": {}}
    assert set(plain["state"]) == {"step", "params", "key"}


def test_a_target_may_be_abstract(tmp_path):
    def make():
        return [jnp.ones((2, 3), jnp.bfloat16), jax.random.key(0, impl="rbg"), jnp.arange(2)]

    path = fx_ckpt.save(tmp_path / "x", make(), backend="msgpack")
    assert same(make(), fx_ckpt.restore(path, jax.eval_shape(make)))


@pytest.mark.parametrize("backend", BACKENDS)
def test_arrays_go_where_the_target_is(tmp_path, backend):
    mesh = jax.make_mesh((1,), ("x",), axis_types=(jax.sharding.AxisType.Auto,))
    sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("x"))
    path = fx_ckpt.save(tmp_path / "x", {"w": jnp.arange(4.0), "i": jnp.zeros(4, jnp.int4)}, backend=backend)
    abstract = jax.ShapeDtypeStruct((4,), jnp.float32, sharding=sharding)
    placed = jax.device_put(jnp.zeros(4, jnp.int4), sharding)
    back = fx_ckpt.restore(path, {"w": abstract, "i": placed})
    assert back["w"].sharding == back["i"].sharding == sharding
    np.testing.assert_array_equal(back["w"], np.arange(4.0))
    free = fx_ckpt.restore(path, {"w": jnp.zeros(4), "i": jnp.zeros(4, jnp.int4)})
    assert not free["w"].committed


def test_the_target_decides_between_jax_and_numpy_and_numpy_arrays_are_writable(tmp_path):
    path = fx_ckpt.save(tmp_path / "x", {"a": np.ones(2, np.float32), "b": jnp.ones(2)}, backend="msgpack")
    back = fx_ckpt.restore(path, {"a": jnp.zeros(2), "b": np.zeros(2, np.float32)})
    assert isinstance(back["a"], jax.Array)
    assert type(back["b"]) is np.ndarray
    back["b"][0] = 7
    fx_ckpt.restore(path)["a"][0] = 7


def test_counters_may_start_as_python_numbers(tmp_path):
    path = fx_ckpt.save(tmp_path / "x", {"step": jnp.asarray(7), "loss": 1.5}, backend="msgpack")
    back = fx_ckpt.restore(path, {"step": 0, "loss": jnp.float32(0)})
    assert same({"step": jnp.asarray(7), "loss": 1.5}, back)


def test_64_bit_arrays_of_an_x64_program(tmp_path):
    with jax.enable_x64(True):
        tree = {"w": jnp.arange(3, dtype=jnp.float64), "n": jnp.int64(2**40)}
        path = fx_ckpt.save(tmp_path / "x", tree, backend="msgpack")
        assert same(tree, fx_ckpt.restore(path, tree))
    plain = fx_ckpt.restore(path)
    assert plain["w"].dtype == np.float64
    assert plain["n"] == 2**40
    with pytest.raises(fx_ckpt.errors.CastError, match=r"cast this array silently(.|\n)*jax_enable_x64"):
        fx_ckpt.restore(path, {"w": jax.ShapeDtypeStruct((3,), np.float64), "n": np.int64(0)})


leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.binary(max_size=4) | st.complex_numbers()
leaves = leaves | st.text(st.characters(exclude_categories=["Cs"]), max_size=4)
leaves = leaves | st.sampled_from([jnp.arange(3), np.zeros((2, 0)), np.float32(1), jnp.bfloat16(1)])
keys = st.integers() | st.booleans() | st.text(st.characters(exclude_categories=["Cs"]), max_size=3)
trees = st.recursive(
    leaves,
    lambda t: st.dictionaries(keys, t, max_size=3) | st.lists(t, max_size=3) | st.lists(t, max_size=3).map(tuple),
    max_leaves=8,
)


@settings(deadline=None, max_examples=50)
@given(trees)
def test_any_tree_comes_back(tree):
    from fx_ckpt.tree.apart import put_together
    from fx_ckpt.tree.fit import compare, fill
    from fx_ckpt.tree.structure import from_json, to_json

    node, state = take_apart(tree)
    node = from_json(to_json(node))
    assert same(tree, put_together(node, state))
    compare(node, tree, "here")
    assert same(tree, fill(node, state, tree))


ALL = [np.array([[0, 1]]).astype(dtype) for dtype in NUMBERS.values()]
ALL += [jnp.full((2,), 1.0), jnp.float32(3), jnp.zeros((0, 2), jnp.bfloat16), jnp.ones((1, 2), jnp.int4), np.float64(2)]
ALL += [jax.random.key(7, impl=impl) for impl in ("threefry2x32", "rbg", "unsafe_rbg")]
ALL += [jax.random.split(jax.random.key(1), (2, 1)), np.array(["a", "bc"]), np.complex64(1j), np.array(5, "m8[s]")]
named = st.tuples(leaves, leaves).map(lambda both: Pair(*both))
frozen = st.dictionaries(st.text("abc", min_size=1, max_size=2), leaves, max_size=2).map(FrozenDict)
any_leaf = leaves | st.sampled_from(ALL) | named | frozen | st.just(Empty())
any_tree = st.recursive(
    any_leaf,
    lambda t: st.dictionaries(keys, t, max_size=3) | st.lists(t, max_size=3) | st.lists(t, max_size=3).map(tuple),
    max_leaves=8,
)


@pytest.mark.parametrize("backend", BACKENDS)
@settings(deadline=None, max_examples=40)
@given(tree=any_tree, mapped=st.booleans())
def test_any_tree_comes_back_from_the_disk(tmp_path_factory, backend, tree, mapped):
    path = fx_ckpt.save(tmp_path_factory.mktemp("any") / "x", tree, backend=backend)
    assert same(tree, fx_ckpt.restore(path, tree, mapped=mapped))
    plain = fx_ckpt.restore(path, mapped=mapped)
    assert describe(take_apart(plain)[0]) == describe(take_apart(tree)[0])


def describe(node):
    """The structure without the names of classes, which a restore without target does not bring back."""
    if isinstance(node, Leaf):
        return node
    names = node.kind != "fields" and node.type in ("dict", "list", "tuple")
    kind = node.kind if node.kind == "sequence" else "mapping"
    return kind, node.type if names else "dict", node.keys, tuple(map(describe, node.children))


def test_inspect_tells_without_reading_arrays(tmp_path):
    tree = {"w": jnp.ones((2, 3)), "l": [1, jax.random.key(0)], 7: None}
    path = fx_ckpt.save(tmp_path / "x", tree, backend="msgpack", metadata={"note": "first"})
    info = fx_ckpt.inspect(path)
    assert {name: str(leaf) for name, leaf in info.leaves().items()} == {
        "w": "float32[2, 3]",
        "l[0]": "Python int",
        "l[1]": "PRNG key threefry2x32[]",
        "{7}": "None",
    }
    assert info.backend == "msgpack"
    assert info.metadata == {"note": "first"}
    assert info.size == sum(info.files.values()) > 24
    assert info.step is None
    assert dataclasses.is_dataclass(info)
