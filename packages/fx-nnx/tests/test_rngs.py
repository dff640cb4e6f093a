import fx_nnx as nnx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fx_nnx.errors import InvalidAttributeError, NnxError


def same(a, b):
    return bool((jax.random.key_data(a) == jax.random.key_data(b)).all())


def test_a_stream_folds_in_its_count():
    stream = nnx.RngStream(3, tag="x")
    keys = [stream(), stream()]
    assert all(same(key, jax.random.fold_in(jax.random.key(3), i)) for i, key in enumerate(keys))
    assert stream.count[...] == 2
    assert stream.count.get_value().dtype == jnp.uint32
    assert stream.key.tag == "x"


@pytest.mark.parametrize("compiled", [False, True])
def test_a_key_that_is_passed_over_leaves_the_others(compiled):
    def build():
        rngs = nnx.Rngs(0)
        nnx.Linear(2, 2, bias_init=nnx.initializers.ones_init(), rngs=rngs)  # two keys, of which one is derived
        return rngs.params()

    key = (nnx.jit(build) if compiled else build)()
    assert (key == jax.random.fold_in(jax.random.key(0), 2)).all()


def test_rngs():
    rngs = nnx.Rngs(0, dropout=jax.random.key(7))
    assert same(rngs.dropout(), jax.random.fold_in(jax.random.key(7), 0))
    assert same(rngs.params(), jax.random.fold_in(jax.random.key(0), 0))
    assert same(rngs(), jax.random.fold_in(jax.random.key(0), 1))
    assert set(rngs) == {"default", "dropout"}
    assert "dropout" in rngs
    assert "params" not in rngs
    assert rngs["dropout"].tag == "dropout"
    assert nnx.Rngs({"a": 1}).a.tag == "a"
    assert same(nnx.Rngs(jax.random.PRNGKey(1))(), nnx.Rngs(1)())
    assert same(nnx.Rngs(np.int32(1))(), nnx.Rngs(1)())
    assert nnx.Rngs(a=nnx.RngStream(1, tag="z")).a.tag == "a"
    with pytest.raises(InvalidAttributeError, match="no RNG stream 'dropout'"):
        nnx.Rngs(params=0).dropout()
    with pytest.raises(ValueError, match=r"got 1\.5"):
        nnx.Rngs(1.5)


def test_fork_split_broadcast():
    rngs = nnx.Rngs(0, dropout=1)
    forked = rngs.fork(split={"dropout": 3})
    assert forked.dropout.key.shape == (3,)
    assert forked.dropout.count.shape == (3,)
    assert same(forked.default.key[...], jax.random.fold_in(jax.random.key(0), 0))
    assert rngs.default.count[...] == 1
    assert rngs.split((2, 2)).default.key.shape == (2, 2)
    many = rngs.broadcast(2).default
    assert same(many.key[0], many.key[1])


def test_draws_and_initializers():
    a, b = nnx.Rngs(0), nnx.Rngs(0)
    np.testing.assert_array_equal(a.normal((2,)), jax.random.normal(b(), (2,)))
    np.testing.assert_array_equal(a.default.uniform((2,), minval=1.0), jax.random.uniform(b(), (2,), minval=1.0))
    init = nnx.initializers.lecun_normal()
    np.testing.assert_array_equal(a.lecun_normal()((2, 3)), init(b(), (2, 3)))
    assert a.orthogonal(3).shape == (3, 3)
    assert a.randint((4,), 0, 2, dtype=jnp.int32).dtype == jnp.int32


def test_split_and_restore_inside_a_model():
    model = nnx.Dict(drop=nnx.Dropout(0.5, rngs=nnx.Rngs(0)), rngs=nnx.Rngs(0, noise=1))
    backups = nnx.split_rngs(model, splits=3, only="noise")
    assert model.rngs.noise.key.shape == (3,)
    assert model.drop.rngs.key.shape == ()
    nnx.restore_rngs(backups)
    assert model.rngs.noise.key.shape == ()
    assert model.rngs.noise.count[...] == 1
    with nnx.split_rngs(model, splits=1, squeeze=True):
        assert model.rngs.noise.key.shape == ()
    split = nnx.split_rngs(model, splits=(2, 3), graph_updates=False)
    assert split.rngs.noise.key.shape == (2, 3)
    assert model.rngs.noise.key.shape == ()
    with nnx.fork_rngs(model, split={"noise": 2}):
        assert model.rngs.noise.key.shape == (2,)
        assert model.rngs.default.key.shape == ()

    @nnx.split_rngs(splits=4)
    def size(rngs):
        return rngs.default.key.shape

    assert size(model.rngs) == (4,)
    assert model.rngs.default.key.shape == ()
    with pytest.raises(NnxError, match="squeeze needs splits=1"):
        nnx.split_rngs(model, splits=2, squeeze=True)


def test_a_fork_follows_the_first_filter_that_matches():
    rngs, expected = nnx.Rngs(params=0, dropout=1, noise=2), nnx.Rngs(params=0, dropout=1, noise=2)
    nnx.fork_rngs(rngs, split={"params": 2, "noise": None, ...: 3})
    assert same(rngs.params.key.get_value(), jax.random.split(expected.params(), 2))
    assert same(rngs.noise.key.get_value(), expected.noise())
    assert same(rngs.dropout.key.get_value(), jax.random.split(expected.dropout(), 3))


def test_reseed():
    model = nnx.Dict(a=nnx.Rngs(0, b=2))
    model.a()
    nnx.reseed(model, default=5)
    assert same(model.a.default.key[...], nnx.RngStream(5, tag="")())
    assert model.a.default.count[...] == 0
    assert same(model.a.b.key[...], jax.random.key(2))
    nnx.split_rngs(model, splits=2)
    with pytest.raises(NnxError, match=r"The stream at /a/b is split(.|\n)*policy='match_shape'"):
        nnx.reseed(model, b=1)
    nnx.reseed(model, b=1, policy="match_shape")
    assert model.a.b.key.shape == (2,)
    with pytest.raises(NnxError, match="Unknown policy"):
        nnx.reseed(model, b=1, policy="zork")
    nnx.reseed(model, b=1, policy=lambda path, key, shape: jnp.broadcast_to(key, shape))
    assert same(model.a.b.key[0], model.a.b.key[1])


def test_streams_go_through_jit():
    graphdef, state = nnx.split(nnx.Rngs(0))

    @jax.jit
    def draw(state):
        rngs = nnx.merge(graphdef, state)
        return rngs.normal((2,)), nnx.state(rngs)

    x, state = draw(state)
    y, state = draw(state)
    rngs = nnx.Rngs(0)
    np.testing.assert_array_equal(np.stack([x, y]), np.stack([rngs.normal((2,)), rngs.normal((2,))]))
