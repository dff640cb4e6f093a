import fx_nnx as nnx
import jax
import jax.numpy as jnp
import pytest
from fx_nnx.errors import NnxError


def model_with_rngs():
    return nnx.Dict(w=nnx.Param(jnp.ones(1)), rngs=nnx.Rngs(0, dropout=1), other=nnx.Rngs(params=2))


def shapes(model):
    keys = nnx.state(model, nnx.RngKey)
    return {path[:-1]: key.get_value().shape for path, key in nnx.to_flat_state(keys)}


def same(a, b):
    return bool((jax.random.key_data(a) == jax.random.key_data(b)).all())


def test_streams_of_a_copy_change():
    model = model_with_rngs()
    new = nnx.with_rngs(model, split={"dropout": 3}, broadcast={"params": (2,)}, fork=True)
    assert shapes(new) == {("rngs", "default"): (), ("rngs", "dropout"): (3,), ("other", "params"): (2,)}
    assert set(shapes(model).values()) == {()}
    assert new.w is model.w
    assert same(new.rngs.default.key[...], jax.random.fold_in(jax.random.key(0), 0))
    assert int(model.rngs.default.count[...]) == 1
    params = new.other.params.key
    assert same(params[0], params[1])
    assert new.rngs.dropout.key.tag == "dropout"


@pytest.mark.parametrize(
    ("options", "default", "dropout"),
    [
        ({}, (), ()),
        ({"split": 2}, (2,), (2,)),
        ({"split": (2, 3), "only": "dropout"}, (), (2, 3)),
        ({"split": 2, "broadcast": 3}, (2,), (2,)),
        ({"broadcast": {nnx.RngStream: 3}}, (3,), (3,)),
        ({"fork": ["dropout"]}, (), ()),
    ],
)
def test_which_streams(options, default, dropout):
    found = shapes(nnx.with_rngs(model_with_rngs(), **options))
    assert (found["rngs", "default"], found["rngs", "dropout"]) == (default, dropout)


def test_streams_that_stay_are_shared():
    model = model_with_rngs()
    new = nnx.with_rngs(model, split={"dropout": 2})
    assert new.rngs.default.key is model.rngs.default.key
    assert new.rngs.dropout.key is not model.rngs.dropout.key
    assert (int(model.rngs.default.count[...]), int(model.rngs.dropout.count[...])) == (0, 1)
    for copy in (
        nnx.split_rngs(model, splits=2, only="dropout", graph_updates=False),
        nnx.fork_rngs(model, graph=False),
    ):
        assert copy.w is model.w
        assert set(shapes(model).values()) == {()}


def test_decorators():
    @nnx.with_rngs(split={"dropout": 2})
    def f(model, x, *, more):
        assert more.w is model.w
        return shapes(model), x

    model = model_with_rngs()
    found, x = f(model, 3, more=model)
    assert (found["rngs", "dropout"], x) == ((2,), 3)
    assert set(shapes(model).values()) == {()}
    with nnx.set_graph_updates(False):
        found = nnx.split_rngs(splits=2)(shapes)(model)
    assert set(found.values()) == {(2,)}
    assert set(shapes(model).values()) == {()}


def test_rngs_keep_what_no_rule_matches():
    rngs = nnx.Rngs(0, dropout=1)
    rngs()
    for made in (rngs.split({"dropout": 2}), rngs.broadcast({"dropout": 2})):
        assert (made.dropout.key.shape, made.default.key.shape) == ((2,), ())
        assert same(made.default.key[...], rngs.default.key[...])
        assert int(made.default.count[...]) == 1
        assert made.default.key is not rngs.default.key


def test_split_streams_give_no_keys():
    rngs = nnx.Rngs(0, dropout=1)
    nnx.split_rngs(rngs, splits=3, only="dropout")
    with pytest.raises(NnxError, match=r"'dropout' is split(.|\n)*keys of shape \(3,\)"):
        rngs.dropout()
    with pytest.raises(NnxError, match="inside the vmap or scan"):
        nnx.split_rngs(rngs, splits=2)
    assert rngs.default.key.shape == ()  # nothing is half done


def test_only_has_to_match_both_variables():
    rngs = nnx.Rngs(0)
    nnx.split_rngs(rngs, splits=2, only=nnx.RngKey)
    assert rngs.default.key.shape == ()
    nnx.split_rngs(rngs, splits=2, only=nnx.RngStream)
    assert rngs.default.key.shape == (2,)


@pytest.mark.parametrize("graph", [True, False])
def test_a_stream_is_not_named_twice(graph):
    rngs = nnx.Rngs(params=0, dropout=1)
    with pytest.raises(NnxError, match=r"(?s)stream at /params.*got: split and fork"):
        nnx.with_rngs(rngs, split={"params": 4}, fork="params", graph=graph)
    with pytest.raises(NnxError, match="got: split and broadcast"):
        nnx.with_rngs(rngs, split={"params": 4}, broadcast={nnx.RngStream: 2}, graph=graph)
    rest = nnx.with_rngs(rngs, split={"params": 4}, fork=..., graph=graph)
    assert rest.params.key.shape == (4,)
    assert rest.dropout.key.shape == ()
    assert nnx.with_rngs(rngs, split={"params": 4, ...: 2}, graph=graph).dropout.key.shape == (2,)
