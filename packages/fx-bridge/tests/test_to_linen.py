import functools
import typing

import fx_bridge as bridge
import fx_linen as nn
import fx_nnx as nnx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fx_bridge.errors import (
    ArgumentTypeError,
    BridgeError,
    InvalidAttributeError,
    UninitializedError,
)
from fx_core.errors.scope import InvalidRngError, ScopeParamShapeError
from fx_core.scope import fold_in_static

X = jnp.linspace(-1, 1, 6).reshape(3, 2)
KEY = jax.random.key(0)


def shapes(tree):
    return jax.tree.map(jnp.shape, tree)


class Net(nnx.Module):
    def __init__(self, width=3, *, rngs):
        self.layers = nnx.List([nnx.Linear(2, width, rngs=rngs), nnx.Linear(width, 2, rngs=rngs)])
        self.norm = nnx.BatchNorm(width, rngs=rngs)
        self.drop = nnx.Dropout(0.5, rngs=rngs)
        self.calls = 0

    def __call__(self, x, train=True):
        self.calls += 1
        x = self.norm(self.layers[0](x), use_running_average=not train)
        self.sow(nnx.Intermediate, "seen", x)
        return self.layers[1](self.drop(x, deterministic=not train))

    def total(self, x):
        return x.sum()


MODEL = bridge.to_linen(Net)


@functools.cache
def variables():
    return MODEL.init(KEY, X)


def test_variables_are_in_the_collections_of_their_types():
    assert shapes(variables()) == {
        "params": {
            "layers": {0: {"bias": (3,), "kernel": (2, 3)}, 1: {"bias": (2,), "kernel": (3, 2)}},
            "norm": {"bias": (3,), "scale": (3,)},
        },
        "batch_stats": {"norm": {"mean": (3,), "var": (3,)}},
    }


def test_the_same_numbers_as_the_nnx_module():
    twin = Net(rngs=nnx.Rngs(fold_in_static(KEY, (1,))))  # the first key of a scope without a name
    twin.eval()
    np.testing.assert_array_equal(variables()["params"]["layers"][0]["kernel"], twin.layers[0].kernel)
    np.testing.assert_array_equal(MODEL.apply(variables(), X, train=False), twin(X, train=False))
    out, made = MODEL.init_with_output(KEY, X)
    assert out.shape == (3, 2)
    jax.tree.map(np.testing.assert_array_equal, made, variables())
    lazy = MODEL.lazy_init(KEY, jax.ShapeDtypeStruct((3, 2), jnp.float32))
    jax.tree.map(np.testing.assert_array_equal, lazy, variables())


def test_only_mutable_collections_change():
    key = jax.random.key(1)
    out = MODEL.apply(variables(), X, rngs={"dropout": key})
    again, updates = MODEL.apply(variables(), X, rngs={"dropout": key}, mutable=["batch_stats", "intermediates"])
    np.testing.assert_array_equal(out, again)
    assert set(updates) == {"batch_stats", "intermediates"}
    assert not jnp.array_equal(updates["batch_stats"]["norm"]["mean"], variables()["batch_stats"]["norm"]["mean"])
    assert len(updates["intermediates"]["seen"]) == 1
    _, more = MODEL.apply({**variables(), **updates}, X, train=False, mutable=["intermediates"])
    assert len(more["intermediates"]["seen"]) == 2


class Counters(nnx.Module):
    def __init__(self, rngs):
        self.calls = nnx.BatchStat(jnp.float32(0))
        self.weak = nnx.BatchStat(jnp.asarray(1.0))
        self.whole = nnx.BatchStat(jnp.int32(3))
        self.row = nnx.BatchStat(jnp.arange(2.0))

    def __call__(self, x):
        self.calls[...] += 1
        self.row[...] += 1
        return x * self.calls[...]


def test_constants_of_a_constructor_are_arrays_that_nobody_changes():
    model = bridge.to_linen(Counters)
    for _ in range(2):
        variables = model.init(KEY, X)
        stats = variables["batch_stats"]
        assert all(isinstance(leaf, jax.Array) for leaf in stats.values())
        assert (stats["weak"].weak_type, stats["whole"].dtype) == (True, jnp.int32)
        out, updates = model.apply(variables, X, mutable="batch_stats")
        np.testing.assert_array_equal(out, X)
        assert (float(stats["calls"]), float(updates["batch_stats"]["calls"])) == (0.0, 1.0)
        np.testing.assert_array_equal(stats["row"], [0.0, 1.0])


class Constants(nnx.Module):
    def __init__(self, rngs):
        self.wide = nnx.BatchStat(np.arange(3.0) / 3)
        self.large = nnx.BatchStat(10**12)
        self.bare = nnx.data(np.float64(1) / 3)
        self.mixed = nnx.BatchStat({"wide": np.arange(2) + 2**40, "drawn": jax.random.normal(rngs.params(), (2,))})

    def __call__(self, x):
        self.wide[...] += 1
        return x, self.wide[...].copy(), self.large.get_value(), self.bare, self.mixed.get_value()["wide"]


def test_numpy_arrays_and_numbers_of_a_constructor_keep_their_bits():
    model = bridge.to_linen(Constants)
    for _ in range(2):
        variables = model.init(KEY, X)
        stats = variables["batch_stats"]
        assert stats["wide"].dtype == np.float64
        assert stats["mixed"]["drawn"].shape == (2,)
        (_, *values), updates = model.apply(variables, X, mutable="batch_stats")
        for got, expected in zip(values, [np.arange(3.0) / 3 + 1, 10**12, np.float64(1) / 3, np.arange(2) + 2**40]):
            np.testing.assert_array_equal(got, expected, strict=True)
        np.testing.assert_array_equal(updates["batch_stats"]["wide"], np.arange(3.0) / 3 + 1, strict=True)
        np.testing.assert_array_equal(stats["wide"], np.arange(3.0) / 3, strict=True)


def test_streams():
    one, two = (MODEL.apply(variables(), X, rngs={"dropout": jax.random.key(seed)}) for seed in (1, 2))
    assert not jnp.array_equal(one, two)
    assert MODEL.apply(variables(), X, rngs=KEY).shape == (3, 2)  # `params` serves the others
    MODEL.apply(variables(), X, train=False)
    with pytest.raises(BridgeError, match=r"uses an RNG stream that was not given(.|\n)*'dropout': key"):
        MODEL.apply(variables(), X)
    with pytest.raises(InvalidRngError, match="'params' is needed"):
        MODEL.init({"dropout": KEY}, X)
    raw = bridge.to_linen(nnx.Linear, 2, 3).init(jax.random.PRNGKey(0), X)
    jax.tree.map(np.testing.assert_array_equal, raw, bridge.to_linen(nnx.Linear, 2, 3).init(KEY, X))


def test_each_call_draws_its_own_keys():
    class Twice(nn.Module):
        def setup(self):
            self.net = bridge.to_linen(nnx.Dropout, 0.5)

        def __call__(self, x):
            return self.net(x), self.net(x)

    one, two = Twice().apply({}, jnp.ones(30), rngs={"dropout": KEY})
    assert not jnp.array_equal(one, two)


def test_methods_by_name():
    assert MODEL.apply(variables(), X, nnx_method="total") == X.sum()
    assert MODEL.apply(variables(), X, nnx_method=Net.total) == X.sum()
    assert MODEL.apply(variables(), X, method="total") == X.sum()
    assert MODEL.bind(variables()).total(X) == X.sum()


def test_in_compact_and_setup():
    class Outer(nn.Module):
        inner: nn.Module

        @nn.compact
        def __call__(self, x):
            shared = bridge.to_linen(nnx.Linear, 2, 2)
            x = shared(shared(x))
            x = bridge.to_linen(nnx.Linear, 2, 2, name="named")(x)
            return self.inner(x)

    made = Outer(bridge.to_linen(nnx.Linear, 2, 1)).init(KEY, X)
    assert shapes(made["params"]) == {
        "ToLinen_0": {"bias": (2,), "kernel": (2, 2)},
        "named": {"bias": (2,), "kernel": (2, 2)},
        "inner": {"bias": (1,), "kernel": (2, 1)},
    }


class Shared(nnx.Module):
    def __init__(self):
        self.one = nnx.Param(jnp.ones(2), tag="first", out_sharding=("a",), eager_sharding=False)
        self.two = self.one

    def __call__(self, x):
        self.two[...] += 1
        return x * self.one[None]


def test_sharing_and_metadata_are_kept():
    model = bridge.to_linen(Shared, skip_rng=True)
    made = model.init(KEY, X)
    box = made["params"]["one"]
    assert isinstance(box, bridge.NNXMeta)
    assert (box.metadata["tag"], box.get_partition_spec()) == ("first", jax.sharding.PartitionSpec("a"))
    out, updates = model.apply(made, X, mutable=["params"])
    np.testing.assert_array_equal(out, 2 * X)
    assert updates["params"]["one"].metadata == box.metadata
    np.testing.assert_array_equal(updates["params"]["one"].value, [2, 2])
    plain = bridge.to_linen(Shared, skip_rng=True, metadata_fn=None).init(KEY, X)
    np.testing.assert_array_equal(plain["params"]["one"], [1, 1])


def test_metadata_of_the_variables_counts():
    class Tagged(nnx.Module):
        def __init__(self):
            self.w = nnx.Param(jnp.ones(2), tag="built")

        def __call__(self):
            return self.w.tag

    model = bridge.to_linen(Tagged, skip_rng=True)
    made = model.init(KEY)
    box = made["params"]["w"]
    assert model.apply({"params": {"w": box.replace(metadata={"tag": "loaded"})}}) == "loaded"
    assert model.apply({"params": {"w": box.value}}) == "built"


def test_keys_of_items_may_be_text():
    made = variables()
    as_text = {**made["params"], "layers": {str(k): v for k, v in made["params"]["layers"].items()}}
    out = MODEL.apply({**made, "params": as_text}, X, train=False)
    np.testing.assert_array_equal(out, MODEL.apply(made, X, train=False))


class HasStatistics(nnx.Module):
    def __init__(self, *, rngs, mutable=None):
        norm = nn.BatchNorm(use_running_average=False, momentum=0.5)
        self.norm = bridge.ToNNX(norm, rngs=rngs).lazy_init(X)
        self.mutable = mutable

    def __call__(self, x):
        return self.norm(x, mutable=self.mutable)


@pytest.mark.parametrize("mutable", [None, ["batch_stats"]])
def test_init_keeps_statistics_that_the_constructor_made(mutable):
    model = bridge.to_linen(HasStatistics, mutable=mutable)
    np.testing.assert_array_equal(model.init(KEY, X)["batch_stats"]["norm"]["mean"], [0, 0])


def test_linen_modules_inside_may_change_what_is_mutable_outside():
    class Outer(nn.Module):
        @nn.compact
        def __call__(self, x):
            return bridge.to_linen(HasStatistics, name="inner")(x)

    made = Outer().init(KEY, X + 1)
    _, updates = Outer().apply(made, X + 1, mutable=["batch_stats"])
    np.testing.assert_allclose(updates["batch_stats"]["inner"]["norm"]["mean"], (X + 1).mean(0) / 2, atol=1e-6)


def test_arguments_by_name_are_attributes():
    class Outer(nn.Module):
        def setup(self):
            self.inner = bridge.to_linen(Net, width=5)

        def __call__(self, x):
            return self.inner(x, train=False) * 0 + self.inner.width

    np.testing.assert_array_equal(Outer().init_with_output(KEY, X)[0], jnp.full((3, 2), 5.0))


def test_arrays_without_variables_are_kept():
    class Table(nnx.Module):
        def __init__(self, *, rngs):
            self.rows = rngs.params.normal((2,))

        def __call__(self, x):
            self.rows = self.rows + 1
            return x * self.rows[None]

    model = bridge.to_linen(Table)
    made = model.init(KEY, X)
    assert shapes(made) == {"arrays": {"rows": (2,)}}
    _, updates = model.apply(made, X, mutable=["arrays"])
    np.testing.assert_array_equal(updates["arrays"]["rows"], made["arrays"]["rows"] + 1)


def test_a_cache_made_in_a_call_is_there_in_the_next():
    class Counter(nnx.Module):
        def __call__(self):
            if not hasattr(self, "count"):
                self.count = nnx.Cache(jnp.zeros((), int))
            self.count[...] += 1
            return self.count[...]

    model = bridge.to_linen(Counter, skip_rng=True)
    state = model.init(KEY)
    for expected in (1, 2, 3):
        count, state = model.apply(state, mutable=["cache"])
        assert count == expected


def test_unregistered_types_get_a_collection():
    class BridgeOdd(nnx.Variable): ...

    class Odd(nnx.Module):
        def __init__(self):
            self.x = BridgeOdd(jnp.ones(()))

        def __call__(self):
            return self.x[...]

    assert bridge.to_linen(Odd, skip_rng=True).init(KEY) == {"BridgeOdd": {"x": 1.0}}


# --- what is remembered of a constructor ------------------------------------------------------------------------------


class Scaled(nnx.Module):
    made: typing.ClassVar[list] = []

    def __init__(self, by):
        Scaled.made.append(by)
        self.by = by if isinstance(by, int | float) else by["by"]
        self.w = nnx.Param(jnp.ones(()))

    def __call__(self, x):
        return self.w * x * self.by


def test_constructors_run_once_for_arguments_that_cannot_change():
    Scaled.made.clear()
    for _ in range(3):
        assert bridge.to_linen(Scaled, 2, skip_rng=True).apply({"params": {"w": jnp.ones(())}}, 3.0) == 6
    assert Scaled.made == [2]
    assert bridge.to_linen(Scaled, 2.0, skip_rng=True).init_with_output(KEY, 3.0)[0] == 6
    assert Scaled.made == [2, 2.0]


def test_arguments_that_can_change_are_looked_at_each_time():
    class Settings(dict):
        pass

    settings = Settings(by=2)
    model = bridge.ToLinen(lambda: Scaled(settings), skip_rng=True)
    given = {"params": {"w": jnp.ones(())}}
    assert model.apply(given, 3.0) == 6
    settings["by"] = 4
    assert model.apply(given, 3.0) == 12


# --- bad input --------------------------------------------------------------------------------------------------------


def test_without_init():
    with pytest.raises(UninitializedError, match=r"ToLinen\(Net\) has no variables yet(.|\n)*init makes"):
        MODEL.apply({}, X)
    lost = {"params": {"kernel": jnp.ones((2, 3))}}
    with pytest.raises(UninitializedError, match=r"ToLinen\(Linear\) lacks the variable params/bias"):
        bridge.to_linen(nnx.Linear, 2, 3).apply(lost, X)
    _, made = bridge.to_linen(nnx.Linear, 2, 3).apply(lost, X, mutable=["params"], rngs=KEY)
    assert shapes(made) == {"params": {"kernel": (2, 3), "bias": (3,)}}


def test_unknown_methods():
    with pytest.raises(InvalidAttributeError, match=r"Net has no method 'sum'(.|\n)*total"):
        MODEL.apply(variables(), X, nnx_method="sum")
    with pytest.raises(InvalidAttributeError, match="Net has no method 3"):
        MODEL.apply(variables(), X, nnx_method=3)
    with pytest.raises(AttributeError, match='has no attribute "sum"'):
        MODEL.apply(variables(), X, method="sum")


def test_wrong_shapes_and_places():
    model = bridge.to_linen(nnx.Linear, 2, 3)
    with pytest.raises(ScopeParamShapeError, match=r"'kernel' has another shape(.|\n)*\(2, 3\)(.|\n)*\(2, 4\)"):
        model.apply({"params": {"kernel": jnp.ones((2, 4)), "bias": jnp.ones(3)}}, X)
    good = {"kernel": jnp.ones((2, 3)), "bias": jnp.ones(3)}
    with pytest.raises(BridgeError, match=r"no place for a variable(.|\n)*/lora/a"):
        model.apply({"params": {**good, "lora": {"a": jnp.ones(1)}}}, X)
    with pytest.raises(BridgeError, match="'train' is taken in Linear"):
        model.apply({"params": {**good, "train": jnp.ones(1)}}, X)


def test_what_makes_no_nnx_module():
    with pytest.raises(ArgumentTypeError, match=r"to_linen cannot take this(.|\n)*a class of NNX modules"):
        bridge.to_linen(3)
    with pytest.raises(ArgumentTypeError, match="ToLinen cannot take this"):
        bridge.to_linen(dict, skip_rng=True).init(KEY)
