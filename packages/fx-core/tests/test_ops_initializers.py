"""Initializers give the numbers of their namesakes in JAX, drawn in chunks or not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fx_core import threefry
from fx_core.ops import initializers
from fx_core.ops.initializers import chunked
from fx_core.ops.initializers.chunked import CHUNK
from fx_core.ops.initializers.fixed import draws_nothing
from hypothesis import given, settings
from hypothesis import strategies as st

theirs = jax.nn.initializers

NAMES = [f"{family}_{kind}" for family in ["glorot", "he", "lecun"] for kind in ["normal", "uniform"]]
DTYPES = ["float32", "bfloat16", "float16"]


def same(ours, other):
    assert isinstance(ours, jax.Array)
    assert (ours.shape, ours.dtype, ours.weak_type) == (other.shape, other.dtype, other.weak_type)
    assert (ours.sharding, ours.committed) == (other.sharding, other.committed)
    assert np.asarray(ours).tobytes() == np.asarray(other).tobytes()


@pytest.fixture
def chunks(monkeypatch):
    """How many chunks were drawn."""
    starts = []
    kernel = chunked._chunk

    def counted(*args):
        starts.append(args)
        return kernel(*args)

    monkeypatch.setattr(chunked, "_chunk", counted)
    return starts


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["normal", "truncated_normal", "uniform", "lecun_normal"])
def test_the_bits_of_jax(name, dtype, chunks):
    ours, other = getattr(initializers, name)(), getattr(theirs, name)()
    for seed, shape in enumerate([(CHUNK // 64, 64), (3, CHUNK - 8)]):
        key = jax.random.key(seed)
        same(ours(key, shape, dtype), other(key, shape, dtype))
    assert len(chunks) == 1 + 3


@pytest.mark.parametrize("name", NAMES)
def test_names(name, chunks):
    ours, other = getattr(initializers, name)(), getattr(theirs, name)()
    same(ours(jax.random.key(0), (3, 3, 2, 5)), other(jax.random.key(0), (3, 3, 2, 5)))
    assert chunks


def test_synonyms():
    for kind in ("normal", "uniform"):
        for name, synonym in (("glorot", "xavier"), ("he", "kaiming")):
            assert getattr(initializers, f"{name}_{kind}") is getattr(initializers, f"{synonym}_{kind}")


@settings(deadline=None, max_examples=15)
@given(
    st.sampled_from(["truncated_normal", "normal", "uniform"]),
    st.sampled_from(["fan_in", "fan_out", "fan_avg", "fan_geo_avg"]),
    st.floats(0.01, 10),
    st.lists(st.integers(1, 4), min_size=2, max_size=4),
    st.sampled_from([(-2, -1, ()), (-1, 0, ()), ((0, 1), -1, ()), (0, (-1,), 1)]),
    st.sampled_from(DTYPES),
    st.integers(0, 2**31 - 1),
)
def test_variance_scaling(distribution, mode, scale, shape, axes, dtype, seed):
    key = jax.random.key(seed)
    given_axes = dict(zip(("in_axis", "out_axis", "batch_axis"), axes))
    ours = initializers.variance_scaling(scale, mode, distribution, **given_axes)
    same(ours(key, shape, dtype), theirs.variance_scaling(scale, mode, distribution, **given_axes)(key, shape, dtype))


@settings(deadline=None, max_examples=20)
@given(st.floats(-3, 0), st.floats(0.1, 3), st.floats(1e-3, 100), st.sampled_from(DTYPES))
def test_bounds(lower, upper, stddev, dtype):
    key = jax.random.key(1)
    ours = initializers.truncated_normal(stddev, lower=lower, upper=upper)(key, (77,), dtype)
    same(ours, theirs.truncated_normal(stddev, lower=lower, upper=upper)(key, (77,), dtype))


def test_elements_beyond_32_bits_have_both_words_of_their_index():
    # Folding a number into a key is the same cipher, of a seed's two words (0, number): the high word alone differs.
    def bits(high, low):
        return jax.random.bits(threefry.key_from_counter(np.array([1, 2, high, low], np.uint32)), (4,))

    key = jax.random.wrap_key_data(np.array([1, 2], np.uint32))
    folded = [jax.random.key_data(jax.random.fold_in(key, np.uint32(2**32 - 4 + i))) for i in range(4)]
    np.testing.assert_array_equal(bits(0, 2**32 - 4), [first ^ second for first, second in folded])
    assert not np.isin(bits(1, 2**32 - 4), bits(0, 2**32 - 4)).any()


def test_a_key_that_starts_at_a_counter_cannot_be_split():
    with pytest.raises(TypeError, match="only draws bits"):
        jax.random.split(threefry.key_from_counter(np.zeros(4, np.uint32)))


def test_one_compilation_serves_all_shapes():
    init = initializers.lecun_normal()
    init(jax.random.key(0), (2, 5))
    before = chunked._chunk._cache_size()
    for size in range(2, 20):
        init(jax.random.key(size), (size, 5))
    assert chunked._chunk._cache_size() == before


def test_raw_keys_are_drawn_in_chunks_too(chunks):
    key = jax.random.PRNGKey(3)
    same(initializers.normal()(key, (4, 8)), theirs.normal()(key, (4, 8)))
    assert chunks


def other_key_type():
    return jax.random.key(0, impl="rbg")


def committed_key():
    return jax.device_put(jax.random.key(0), jax.devices()[0])


@pytest.mark.parametrize("make_key", [other_key_type, committed_key])
def test_other_keys_are_left_to_jax(make_key, chunks):
    key = make_key()
    same(initializers.he_normal()(key, (4, 5)), theirs.he_normal()(key, (4, 5)))
    assert not chunks


def test_counters_that_depend_on_the_shape_are_left_to_jax(chunks):
    with jax.threefry_partitionable(False):
        same(initializers.normal()(jax.random.key(0), (4, 5)), theirs.normal()(jax.random.key(0), (4, 5)))
    assert not chunks


def test_a_mesh_is_left_to_jax(chunks):
    mesh = jax.make_mesh((1,), ("x",), axis_types=(jax.sharding.AxisType.Explicit,))
    with jax.set_mesh(mesh):
        spec = jax.P("x")
        ours = initializers.normal()(jax.random.key(0), (4, 5), jnp.float32, spec)
        same(ours, theirs.normal()(jax.random.key(0), (4, 5), jnp.float32, spec))
        same(initializers.ones(None, (4,)), theirs.ones(None, (4,)))
    assert not chunks


@pytest.mark.parametrize(
    ("make", "shape", "dtype"),
    [
        (lambda f: f.normal(), (0, 3), "float32"),
        (lambda f: f.lecun_normal(), (64, 3), "float32"),
        (lambda f: f.lecun_normal(), (64, 4), "float32"),
        (lambda f: f.normal(np.float32(0.1)), (2, 5), "bfloat16"),
        (lambda f: f.uniform(jnp.float32(2)), (2, 5), "float32"),
        (lambda f: f.variance_scaling(1, "fan_in", "normal"), (2, 5), "complex64"),
        (lambda f: f.variance_scaling(-1.0, "fan_in", "normal"), (2, 5), "float32"),
        (lambda f: f.truncated_normal(lower=np.float32(-1)), (2, 5), "float32"),
    ],
)
def test_the_unusual_is_left_to_jax(make, shape, dtype, chunks):
    same(make(initializers)(jax.random.key(0), shape, dtype), make(theirs)(jax.random.key(0), shape, dtype))
    assert not chunks


def lowered(function, *args):
    return jax.jit(lambda *args: function(*args)).lower(*args).as_text()


@pytest.mark.parametrize("name", ["lecun_normal", "normal", "orthogonal", "zeros"])
def test_traced_programs_are_those_of_jax(name, chunks):
    ours, other = (getattr(place, name) for place in (initializers, theirs))
    if name != "zeros":
        ours, other = ours(), other()
    key = jax.random.key(0)
    for with_key in (lambda init: lambda traced: init(traced, (2, 5)), lambda init: lambda _: init(key, (2, 5))):
        # Some versions of JAX put the operations of a call in its place when they record it, some when they lower it.
        assert lowered(with_key(ours), key) == lowered(with_key(other), key)
    keys = jax.random.split(key, 3)
    same(jax.vmap(lambda key: ours(key, (2, 5)))(keys), jax.vmap(lambda key: other(key, (2, 5)))(keys))
    assert jax.eval_shape(lambda key: ours(key, (2, 5)), key).shape == (2, 5)
    assert not chunks


def test_jax_traces_the_drawing_of_equal_parameters_once(monkeypatch):
    called = []
    plain = jax.nn.initializers.orthogonal
    monkeypatch.setattr(jax.nn.initializers, "orthogonal", lambda *args: called.append(args) or plain(*args))
    init = initializers.orthogonal(3.25)
    jax.make_jaxpr(lambda keys: [init(key, (2, 5)) for key in keys])(jax.random.split(jax.random.key(0), 3))
    assert len(called) == 2  # one by the factory, one in the only trace


def test_raw_keys_in_a_trace_mean_what_the_setting_says():
    draw = lambda key: jax.jit(lambda key: initializers.normal()(key, (2, 5)))(key)  # noqa: E731
    drawn: list[jax.Array] = []
    for kind in ("rbg", "unsafe_rbg"):
        with jax.default_prng_impl(kind):
            key = jax.random.split(jax.random.PRNGKey(0))[0]
            drawn.append(draw(key))
            same(drawn[-1], jax.jit(lambda key: theirs.normal()(key, (2, 5)))(key))


def test_initializers_without_numbers_to_draw():
    filling = (initializers.zeros, initializers.ones_init(), initializers.constant(2.0), theirs.zeros)
    assert all(map(draws_nothing, filling))
    assert not any(map(draws_nothing, (initializers.normal(), lambda key, shape, dtype: key, jnp.zeros)))


def test_mistakes_are_reported_by_jax():
    with pytest.raises(ValueError, match="1-dimensional"):
        initializers.lecun_normal()(jax.random.key(0), (3,))
    with pytest.raises(ValueError, match="invalid mode"):
        initializers.variance_scaling(1.0, "fan", "normal")(jax.random.key(0), (3, 3))
    with pytest.raises(ValueError, match="invalid distribution"):
        initializers.variance_scaling(1.0, "fan_in", "cauchy")(jax.random.key(0), (3, 3))


@pytest.mark.parametrize("dtype", [None, float, "float32", jnp.bfloat16, np.int32, bool, np.complex64])
@pytest.mark.parametrize("shape", [(), (0, 2), (2, 3), [4]])
def test_fixed_values(shape, dtype):
    for ours, other in [
        (initializers.zeros, theirs.zeros),
        (initializers.zeros_init(), theirs.zeros),
        (initializers.ones, theirs.ones),
        (initializers.ones_init(), theirs.ones),
        (initializers.constant(0.1), theirs.constant(0.1)),
        (initializers.constant(-2, jnp.float16), theirs.constant(-2, jnp.float16)),
    ]:
        same(ours(None, shape, dtype), other(None, tuple(shape), dtype))


def test_a_trace_records_equal_filled_arrays_once():
    def filled(_):
        many = [initializers.zeros(None, (3,)) for _ in range(5)]
        return many, initializers.constant(-0.0)(None, (3,)), initializers.zeros(None, (3,), "bfloat16")

    program = jax.make_jaxpr(filled)(0)
    assert [str(equation.primitive) for equation in program.eqns] == ["broadcast_in_dim"] * 3
    many, negative, narrow = jax.jit(filled)(0)
    assert len({array.unsafe_buffer_pointer() for array in many}) == 5  # each can be donated
    assert np.signbit(negative).all()
    assert not np.signbit(many[0]).any()
    assert narrow.dtype == "bfloat16"


def test_filled_arrays_stay_in_their_trace():
    def inside(x):
        ones = initializers.ones(None, (3,))
        _, inner = jax.lax.scan(lambda carry, _: (carry, initializers.ones(None, (3,)) + carry), x, length=2)
        mapped = jax.vmap(lambda y: initializers.ones(None, (3,)) * y)(jnp.arange(2.0))
        return ones, inner, mapped, jax.grad(lambda y: (initializers.ones(None, (3,)) * y).sum())(x)

    with jax.checking_leaks():
        for _ in range(2):
            ones, inner, mapped, slope = jax.jit(inside)(1.0)
    assert (ones.tolist(), inner.tolist(), slope) == ([1.0] * 3, [[2.0] * 3] * 2, 3.0)
    assert mapped.tolist() == [[0.0] * 3, [1.0] * 3]


def test_an_array_as_constant():
    same(initializers.constant(np.arange(3.0, dtype=np.float32))(None, (2, 3)),
         theirs.constant(np.arange(3.0, dtype=np.float32))(None, (2, 3)))  # fmt: skip


def test_flattened_draws_a_matrix():
    key = jax.random.key(0)
    flat = initializers.flattened(initializers.lecun_normal(), (2, 1))(key, (2, 3, 4), jnp.float32)
    same(flat, theirs.lecun_normal()(key, (6, 4), jnp.float32).reshape(2, 3, 4))
