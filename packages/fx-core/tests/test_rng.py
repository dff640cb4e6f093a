import hashlib

import jax
import numpy as np
import pytest
from fx_core import config
from fx_core.errors import InvalidRngError
from fx_core.scope import LazyRng, RngCounters, Scope, apply, bind, fold_in_static, init
from hypothesis import given, settings
from hypothesis import strategies as st

KEY = jax.random.key(0)
items = st.one_of(st.text(max_size=3), st.integers(min_value=0, max_value=2**70))


def same(a, b):
    return bool((jax.random.key_data(a) == jax.random.key_data(b)).all())


def reference(key, data, separator=b""):
    sha = hashlib.sha1()
    for item in data:
        sha.update(separator)
        sha.update(item.encode() if isinstance(item, str) else item.to_bytes((item.bit_length() + 7) // 8, "big"))
    return jax.random.fold_in(key, np.frombuffer(sha.digest()[:4], ">u4")[0].astype(np.uint32))


def test_no_suffix_leaves_the_key_alone():
    assert LazyRng.create(KEY).as_jax_rng() is KEY
    assert LazyRng.create(KEY, "a").clear_suffix().as_jax_rng() is KEY


@settings(max_examples=30, deadline=None)
@given(st.lists(items, min_size=1, max_size=4))
def test_suffixes_fold_by_sha1(data):
    assert same(fold_in_static(KEY, tuple(data)), reference(KEY, data))
    with config.override(fix_rng_separator=True):
        assert same(fold_in_static(KEY, tuple(data)), reference(KEY, data, b"\0"))


@pytest.mark.parametrize(
    "make_key",
    [jax.random.key, jax.random.PRNGKey, lambda seed: jax.random.key(seed, impl="rbg")],
    ids=["typed", "raw", "of another kind"],
)
def test_folding_on_the_host_and_in_a_program_give_the_same(make_key):
    for seed in range(5):
        key = make_key(seed)
        here, traced = fold_in_static(key, ("a", seed)), jax.jit(lambda key, s=seed: fold_in_static(key, ("a", s)))(key)
        assert same(here, traced)
        assert here.dtype == traced.dtype == key.dtype


def test_known_bits():
    # Seeds must keep their meaning for ever.
    assert jax.random.key_data(LazyRng.create(KEY, "a", 1).as_jax_rng()).tolist() == [4125457573, 1401183132]


def test_the_separator_tells_paths_apart():
    a, b = LazyRng.create(KEY, "ab", "c"), LazyRng.create(KEY, "a", "bc")
    assert same(a.as_jax_rng(), b.as_jax_rng())
    with config.override(fix_rng_separator=True):
        assert not same(a.as_jax_rng(), b.as_jax_rng())


@pytest.mark.parametrize("item", [-1, 1.5, b"ab", None])
def test_other_suffixes_raise(item):
    with pytest.raises(InvalidRngError, match="cannot be folded into a key") as info:
        LazyRng.create(KEY, item).as_jax_rng()
    assert info.value.got == repr(item)


def test_lazy_rng_is_a_pytree_with_one_key():
    stream = LazyRng.create(LazyRng.create(KEY, "a"), 2)
    ((path, leaf),) = jax.tree_util.tree_flatten_with_path(stream)[0]
    assert leaf is KEY
    assert str(path[0]) == ".rng"
    assert jax.tree.map(lambda x: x, stream).suffix == ("a", 2)
    assert stream.replace(suffix=()).suffix == ()


def test_draws_fold_path_and_count():
    scope = bind({}, {"params": KEY})
    inner = scope.push("enc").push("dense")
    assert same(scope.make_rng("params"), reference(KEY, (1,)))
    assert same(scope.make_rng(), reference(KEY, (2,)))
    assert same(inner.make_rng("params"), reference(KEY, ("enc", "dense", 1)))
    assert inner.rngs["params"].suffix == ("enc", "dense")
    assert scope.rng_counters == {"params": 2}


def test_a_missing_stream_is_served_by_params():
    scope = bind({}, {"params": KEY})
    assert not scope.has_rng("dropout")
    assert same(scope.make_rng("dropout"), reference(KEY, (1,)))
    assert same(scope.make_rng("params"), reference(KEY, (2,)))


def test_streams_count_by_themselves():
    scope = bind({}, {"params": KEY, "dropout": jax.random.key(1)})
    scope.make_rng("params")
    assert same(scope.make_rng("dropout"), reference(jax.random.key(1), (1,)))


def test_no_stream_at_all_raises_with_the_path():
    scope = bind({}, {"dropout": KEY}).push("a")
    with pytest.raises(InvalidRngError, match="A key of the stream 'noise' is needed") as info:
        scope.make_rng("noise")
    assert info.value.path == "/a"
    assert "dropout" in info.value.got


def test_pushing_again_goes_on_counting():
    scope = bind({}, {"params": KEY})
    first = scope.push("x")
    first.make_rng()
    again = scope.push("x", reuse=True)
    assert same(again.make_rng(), reference(KEY, ("x", 2)))
    assert same(first.rewound().make_rng(), reference(KEY, ("x", 3)))
    assert same(first.rewound(rewind_rngs=True).make_rng(), reference(KEY, ("x", 1)))
    assert same(first.make_rng(), reference(KEY, ("x", 4)))


def test_rewinding_the_outermost_scope_rewinds_the_inner_ones():
    scope = bind({}, {"params": KEY})
    scope.push("x").make_rng()
    assert same(scope.rewound().push("x").make_rng(), reference(KEY, ("x", 2)))
    assert same(scope.rewound(rewind_rngs=True).push("x").make_rng(), reference(KEY, ("x", 1)))


def test_streams_with_suffixes_go_on_in_a_new_scope():
    scope = Scope({}, {"params": LazyRng.create(KEY, "outer")}, path=("outer",))
    assert same(scope.push("in").make_rng(), reference(KEY, ("outer", "in", 1)))


def test_counters_can_be_handed_on():
    counters = RngCounters()
    assert [counters.next("a"), counters.next("a"), counters.child("x").next("a")] == [1, 2, 1]
    scope = Scope({}, {"a": KEY})
    scope.counters = counters
    assert same(scope.make_rng("a"), reference(KEY, (3,)))


def test_raw_keys_and_numpy_keys_are_keys():
    raw = jax.random.PRNGKey(0)
    draw = apply(lambda scope: scope.make_rng())
    typed = jax.random.key_data(draw({}, rngs=KEY))
    assert (draw({}, rngs=raw) == typed).all()
    assert (draw({}, rngs=np.asarray(raw)) == typed).all()


NO_KEYS = {
    "a number": (0, "RNG streams must be a key, or a dictionary of keys by stream name", "int: 0"),
    "nothing": (None, "RNG streams must be a key", "NoneType: None"),
    "an array": (np.zeros(3), "RNG streams must be a key", "ndarray: "),
    "several keys": (jax.random.split(KEY, 3), "RNG streams must be a key", "PRNGKeyArray"),
    "a list": ([KEY], "RNG streams must be a key", "list: "),
    "a name that is none": ({0: KEY}, "RNG streams have names", "0"),
    "a stream of a number": ({"params": 3}, "What the stream 'params' was given is no key", "int: 3"),
    "a stream of a text": ({"params": "seed"}, "What the stream 'params' was given is no key", "str: 'seed'"),
}


@pytest.mark.parametrize("case", NO_KEYS)
@pytest.mark.parametrize(
    "call", [lambda bad: init(lambda scope: None)(bad), lambda bad: apply(lambda s: None)({}, rngs=bad)]
)
def test_what_is_no_key_raises(call, case):
    bad, text, got = NO_KEYS[case]
    if bad is None:
        call = init(lambda scope: None)  # None is no stream at all to apply
    with pytest.raises(InvalidRngError, match=text) as info:
        call(bad)
    assert info.value.got.startswith(got)


def test_bind_wants_streams_by_name():
    with pytest.raises(InvalidRngError, match="must be a dictionary of keys by stream name"):
        bind({}, rngs=KEY)
