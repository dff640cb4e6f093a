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
from fx_core.errors.scope import ModifyScopeVariableError

X = jnp.linspace(-1, 1, 6).reshape(3, 2)


class Net(nn.Module):
    @nn.compact
    def __call__(self, x, train=False):
        x = nn.Dense(3)(x)
        x = nn.BatchNorm(use_running_average=not train)(x)
        self.sow("intermediates", "seen", x)
        x = nn.Dropout(0.5, deterministic=not train)(x)
        return nn.Dense(2)(x)

    @nn.compact
    def head(self, x):
        return nn.Dense(2)(x)

    def total(self, x):
        return x.sum()


def made(module=None, seed=0):
    return bridge.lazy_init(bridge.ToNNX(module or Net(), rngs=nnx.Rngs(seed)), X)


def test_variables_are_attributes_of_the_registered_types():
    model = made()
    assert type(model.Dense_0.kernel) is nnx.Param
    assert type(model.BatchNorm_0["mean"]) is nnx.BatchStat
    assert not hasattr(model, "seen")
    assert isinstance(model.module, Net)
    assert int(model.rngs.default.count[...]) == 1
    params = nnx.state(model, nnx.Param)
    assert next(path for path, _ in nnx.to_flat_state(params)) == ("BatchNorm_0", "bias")


def test_the_same_numbers_as_the_linen_module():
    model = made()
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(0), 0), 0)  # the fork of Rngs(0), and its first draw
    variables = Net().init(key, X)
    np.testing.assert_array_equal(model.Dense_1.kernel, variables["params"]["Dense_1"]["kernel"])
    np.testing.assert_array_equal(model(X), Net().apply(variables, X))


def test_mutable_collections_change_the_variables_in_place():
    model = made()
    mean, before = model.BatchNorm_0.mean, model.BatchNorm_0.mean[...]
    with pytest.raises(ModifyScopeVariableError, match="'batch_stats' is immutable"):
        model(X, train=True)
    out = model(X, train=True, mutable=["batch_stats", "intermediates"])
    assert out.shape == (3, 2)
    assert model.BatchNorm_0.mean is mean
    assert not jnp.array_equal(mean[...], before)
    assert type(model.seen) is nnx.Intermediate
    assert len(model.seen.get_value()) == 1
    model(X, mutable="intermediates")
    assert len(model.seen.get_value()) == 2


def test_streams():
    class Draw(nn.Module):
        @nn.compact
        def __call__(self):
            self.param("scale", nn.initializers.ones, ())
            return self.make_rng("dropout")

    model = bridge.ToNNX(Draw(), rngs=nnx.Rngs(0, dropout=1)).lazy_init()
    first, second = model(), model()
    assert first != second
    assert int(model.rngs.dropout.count[...]) == 3
    key = jax.random.key(7)
    assert model(rngs=key) == model(rngs={"params": key}) == model(rngs={"default": key})
    assert model(rngs=nnx.Rngs(7)) == model(rngs={"params": jax.random.fold_in(key, 0)})
    assert model(rngs=nnx.Rngs(7).default) == model(rngs=nnx.Rngs(7))
    assert int(model.rngs.dropout.count[...]) == 3
    unkeyed = bridge.ToNNX(Draw())
    bridge.lazy_init(unkeyed, rngs=nnx.Rngs(0))
    assert unkeyed.rngs is None
    assert unkeyed(rngs=key).shape == ()


def test_a_key_is_the_stream_of_parameters():
    key = jax.random.key(3)
    model = bridge.ToNNX(Net(), rngs=key).lazy_init(X)
    variables = Net().init(nnx.Rngs(params=key).params(), X)
    np.testing.assert_array_equal(model.Dense_0.kernel, variables["params"]["Dense_0"]["kernel"])
    raw = bridge.ToNNX(Net(), rngs=jax.random.key_data(key)).lazy_init(X)
    np.testing.assert_array_equal(raw.Dense_0.kernel, model.Dense_0.kernel)


def test_mutable_is_that_of_the_linen_module_around():
    inner = bridge.ToNNX(nn.BatchNorm(use_running_average=False, momentum=0.5)).lazy_init(X, rngs=jax.random.key(0))

    class Outer(nn.Module):
        @nn.compact
        def __call__(self, x):
            return inner(x)

    with pytest.raises(ModifyScopeVariableError, match="'batch_stats' is immutable"):
        Outer().apply({}, X)
    Outer().apply({}, X, mutable=["batch_stats", "unknown"])
    np.testing.assert_allclose(inner.mean[...], X.mean(0) / 2, atol=1e-6)


def test_methods_by_name():
    model = made()
    assert model(X, method="total") == model(X, method=Net.total) == model.total(X) == X.sum()
    other = bridge.lazy_init(bridge.ToNNX(Net(), rngs=nnx.Rngs(0)).head, X)
    assert other.func.Dense_0.kernel.shape == (2, 2)
    assert bridge.ToNNX(Net(), rngs=nnx.Rngs(0)).lazy_init(X, method="head").Dense_0.kernel.shape == (2, 2)


def test_init_needs_shapes_only():
    model = bridge.ToNNX(Net(), rngs=nnx.Rngs(0)).lazy_init(jax.ShapeDtypeStruct((3, 2), jnp.float32))
    np.testing.assert_array_equal(model.Dense_0.kernel, made().Dense_0.kernel)
    abstract = nnx.eval_shape(lambda: made())
    assert abstract.Dense_0.kernel.get_raw_value().shape == (2, 3)


def test_a_bound_module_brings_its_variables():
    variables = Net().init(jax.random.key(3), X)
    model = bridge.ToNNX(Net().bind(variables))
    np.testing.assert_array_equal(model(X), Net().apply(variables, X))


def test_a_module_of_another_module_is_taken_out():
    class Outer(nn.Module):
        def setup(self):
            self.inner = nn.Dense(2)

    bound = Outer().bind({"params": {"inner": {"kernel": jnp.ones((2, 2)), "bias": jnp.zeros(2)}}})
    np.testing.assert_array_equal(bridge.ToNNX(bound.inner)(X), X @ jnp.ones((2, 2)))


class Twice(nnx.Module):
    def __init__(self, rngs):
        self.first = bridge.ToNNX(nn.Dense(2), rngs=rngs)
        self.again = self.first

    def __call__(self, x):
        return self.again(self.first(x))


def test_what_has_variables_keeps_them():
    class Pair(nnx.Module):
        def __init__(self, rngs):
            self.old = bridge.ToNNX(nn.Dense(2).bind(nn.Dense(2).init(jax.random.key(3), X)))
            self.new = bridge.ToNNX(nn.Dense(2), rngs=rngs)

        def __call__(self, x):
            return self.new(self.old(x))

    model = Pair(nnx.Rngs(0))
    kernel = model.old.kernel[...]
    bridge.lazy_init(model, X)
    np.testing.assert_array_equal(model.old.kernel[...], kernel)
    first = model.new.kernel[...]
    assert jnp.array_equal(bridge.lazy_init(model, X).new.kernel[...], first)
    assert not jnp.array_equal(bridge.lazy_init(model.new, X).kernel[...], first)


def test_sharing_is_kept():
    model = bridge.lazy_init(Twice(nnx.Rngs(0)), X)
    assert model.first.kernel is model.again.kernel
    assert len(nnx.to_flat_state(nnx.state(model, nnx.Param))) == 2
    twin = nnx.clone(model)
    twin.first.kernel[...] = jnp.zeros((2, 2))
    assert not twin(X).any()
    assert model(X).any()


def test_partition_names_and_boxes_are_kept():
    class Boxed(nn.Module):
        @nn.compact
        def __call__(self, x):
            w = self.param("w", nn.with_partitioning(nn.initializers.ones, ("in", "out")), (2, 3))
            steps = self.variable("state", "steps", nn.with_partitioning(jnp.zeros, ("out",)), (3,))
            steps.value = steps.value + 1
            return x @ w

    model = made(Boxed())
    assert model.w.sharding_names == ("in", "out")
    assert nnx.variable_type_from_name("state") is type(model.steps)
    model(X, mutable=["state"])
    np.testing.assert_array_equal(model.steps[...], 2 * jnp.ones(3))
    assert model.steps.sharding_names == ("out",)
    model.w.set_metadata(out_sharding=("in", None))
    model(X, mutable=["params", "state"])
    assert model.w.sharding_names == ("in", None)


@pytest.mark.parametrize("partitioned", [nn.with_partitioning, nn.with_logical_partitioning])
def test_variables_with_partition_names_are_made_on_the_mesh(partitioned):
    mesh = jax.make_mesh((1, 1), ("in", "out"), axis_types=(jax.sharding.AxisType.Auto,) * 2)
    names = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("in", "out"))
    dense = nn.Dense(3, kernel_init=partitioned(nn.initializers.ones, ("in", "out")))

    class Holder(nnx.Module):
        def __init__(self):
            self.inner = bridge.ToNNX(dense, rngs=nnx.Rngs(0))

        def __call__(self, x):
            return self.inner(x)

    with jax.set_mesh(mesh), nn.logical_axis_rules((("in", "in"), ("out", "out"))):
        assert made(dense).kernel.sharding == names
        assert bridge.lazy_init(Holder(), X).inner.kernel.sharding == names
        assert bridge.ToNNX(dense.bind(dense.init(jax.random.key(0), X))).kernel.sharding == names
        with nnx.use_eager_sharding(False):
            assert made(dense).kernel.sharding != names
    own_mesh = nn.Dense(3, kernel_init=nn.with_partitioning(nn.initializers.ones, ("in", "out"), mesh))
    assert made(own_mesh).kernel.sharding == names


def test_new_values_are_used():
    model = made(nn.Dense(2))
    model.kernel = nnx.Param(jnp.zeros((2, 2)))
    assert not model(X).any()
    model.bias[...] = jnp.ones(2)
    assert model(X).all()


# --- bad input --------------------------------------------------------------------------------------------------------


def test_without_init():
    model = bridge.ToNNX(nn.Dense(2), rngs=nnx.Rngs(0))
    with pytest.raises(UninitializedError, match=r"ToNNX\(Dense\) has no variables yet(.|\n)*lazy_init"):
        model(X)
    with pytest.raises(InvalidAttributeError, match=r"no attribute 'kernel'; it has no variables yet(.|\n)*lazy_init"):
        _ = model.kernel
    assert bridge.ToNNX(nn.Dropout(0.5, deterministic=True))(X).shape == X.shape


def test_a_lost_variable_is_named():
    model = made(nn.Dense(2))
    del model.bias
    with pytest.raises(Exception, match="'bias'"):
        model(X)


def test_unknown_methods():
    with pytest.raises(InvalidAttributeError, match=r"Net has no method 'heat'(.|\n)*head, total"):
        made()(X, method="heat")
    with pytest.raises(InvalidAttributeError, match="Net has no method 'heat'"):
        bridge.ToNNX(Net(), rngs=nnx.Rngs(0)).lazy_init(X, method="heat")
    with pytest.raises(InvalidAttributeError, match=r"ToNNX\(Net\) has no attribute 'heat'"):
        _ = made().heat


def test_unknown_collections():
    model = made()
    with pytest.raises(BridgeError, match=r"no collection 'batch_stat'(.|\n)*batch_stats"):
        model(X, mutable=["batch_stat"])
    assert model(X, mutable=["cache"]).shape == (3, 2)
    assert model(X, mutable=nn.DenyList("params")).shape == (3, 2)


def test_what_is_no_module():
    with pytest.raises(ArgumentTypeError, match=r"ToNNX cannot take this(.|\n)*a Linen module"):
        bridge.ToNNX(3)
    with pytest.raises(ArgumentTypeError, match=r"lazy_init cannot take this(.|\n)*method of one"):
        bridge.lazy_init(lambda x: x, X)


@pytest.mark.parametrize("rngs", [3, "key", {1: 2}])
def test_what_is_no_stream(rngs):
    with pytest.raises(ArgumentTypeError, match=r"no RNG streams(.|\n)*fx_nnx\.Rngs"):
        bridge.ToNNX(nn.Dense(2), rngs=rngs)
    with pytest.raises(ArgumentTypeError, match="no RNG streams"):
        made(nn.Dense(2))(X, rngs=rngs)


def variable(name, collection="params"):
    def setup(module):
        if collection == "params":
            module.param(name, nn.initializers.ones, ())
        else:
            module.variable(collection, name, jnp.ones, ())

    return setup


@pytest.mark.parametrize(
    ("parts", "text"),
    [
        ((variable("train"),), "'train' is taken(.|\n)*ToNNX itself has the name"),
        (
            (variable("a"), variable("a", "batch_stats")),
            "'a' is taken(.|\n)*'batch_stats', while a variable of 'params'",
        ),
        ((lambda m: nn.Dense(1, name="eval")(X),), "'eval' is taken(.|\n)*a submodule"),
    ],
)
def test_conflicting_names(parts, text):
    class Conflict(nn.Module):
        @nn.compact
        def __call__(self, x):
            for part in parts:
                part(self)

    with pytest.raises(BridgeError, match=text):
        made(Conflict())
