import fx_bridge as bridge
import fx_linen as nn
import fx_nnx as nnx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fx_core import meta
from fx_nnx.errors import NnxError, VariableConversionError


class LinenNet(nn.Module):
    @nn.compact
    def __call__(self, x, train=False):
        x = nn.Dense(4, name="first")(x)
        x = nn.BatchNorm(use_running_average=not train, name="norm")(x)
        return nn.Dense(2, name="second")(nn.relu(x))


class NnxNet(nnx.Module):
    def __init__(self, rngs):
        self.first = nnx.Linear(3, 4, rngs=rngs)
        self.norm = nnx.BatchNorm(4, rngs=rngs)
        self.second = nnx.Linear(4, 2, rngs=rngs)

    def __call__(self, x):
        return self.second(nnx.relu(self.norm(self.first(x))))


X = jnp.linspace(-1, 1, 6).reshape(2, 3)


def test_a_whole_model_there_and_back():
    linen = LinenNet()
    variables = linen.init(jax.random.key(0), X)
    twin = NnxNet(nnx.Rngs(1))
    twin.eval()
    state, report = bridge.convert_variables(variables, like=twin)
    assert report.complete
    assert len(report.matched) == 8
    nnx.update(twin, state)
    np.testing.assert_array_equal(linen.apply(variables, X), twin(X))
    back, report = bridge.convert_variables(twin, like=variables)
    assert report.complete
    jax.tree.map(np.testing.assert_array_equal, back, jax.tree.map(lambda x: x, dict(variables)))


def test_names_of_items_and_of_other_models():
    chain = nnx.Sequential(nnx.Linear(3, 4, rngs=nnx.Rngs(0)), nnx.Linear(4, 2, rngs=nnx.Rngs(0)))
    linen = {
        "params": {
            f"Dense_{i}": {"kernel": jnp.ones(s), "bias": jnp.ones(s[1])} for i, s in enumerate([(3, 4), (4, 2)])
        }
    }

    def to_nnx(collection, path):
        return ("layers", path[0].removeprefix("Dense_"), *path[1:])

    state, report = bridge.to_nnx_state(linen, like=chain, rename=to_nnx)
    assert report.complete
    nnx.update(chain, state)
    assert chain(X)[0, 0] == chain(X)[0, 1]
    back, _ = bridge.to_linen_variables(chain, like=linen, rename=lambda c, p: (f"Dense_{p[1]}", *p[2:]))
    jax.tree.map(np.testing.assert_array_equal, back, linen)


def test_what_does_not_match_is_reported():
    source = {"params": {"kernel": jnp.ones((3, 3)), "more": jnp.ones(1)}}
    layer = nnx.Linear(3, 2, rngs=nnx.Rngs(0))
    with pytest.raises(VariableConversionError, match="missing: params/bias"):
        bridge.convert_variables(source, like=layer)
    state, report = bridge.convert_variables(source, like=layer, strict=False)
    assert len(nnx.to_flat_state(state)) == 0
    assert report.missing == (("params", ("bias",)),)
    assert report.unexpected == (("params", ("more",)),)
    assert report.shapes == ((("params", ("kernel",)), (3, 2), (3, 3)),)
    assert "wanted (3, 2), got (3, 3)" in str(report)


def test_unknown_collections():
    with pytest.raises(NnxError, match="'bridge_zork' is not registered"):
        bridge.convert_variables({"bridge_zork": {"x": 1.0}})
    state, _ = bridge.convert_variables({"bridge_zork": {"x": 1.0}}, allow_register=True)
    assert bridge.convert_variables(state)[0] == {"bridge_zork": {"x": 1.0}}


@pytest.mark.parametrize(
    "box",
    [
        lambda x: meta.Partitioned(x, names=("in", "out")),
        lambda x: nn.LogicallyPartitioned(x, names=("in", "out"), rules=(("in", "data"),)),
    ],
)
def test_partition_names_survive(box):
    boxed = {"params": {"kernel": box(jnp.ones((2, 3)))}}
    state, _ = bridge.convert_variables(boxed)
    assert state.kernel.sharding_names == ("in", "out")
    assert state.kernel.shape == (2, 3)
    back, _ = bridge.convert_variables(state)
    assert type(back["params"]["kernel"]) is type(boxed["params"]["kernel"])
    assert jax.tree.structure(back) == jax.tree.structure(boxed)


def test_streams_stay_and_arrays_go_along():
    class Net(nnx.Module):
        def __init__(self, rngs):
            self.drop, self.w = nnx.Dropout(0.5, rngs=rngs), nnx.Param(jnp.ones(2))
            self.table = jnp.arange(3.0)

    net = Net(nnx.Rngs(0))
    variables, report = bridge.convert_variables(net)
    assert {collection: list(tree) for collection, tree in variables.items()} == {"arrays": ["table"], "params": ["w"]}
    back, report = bridge.convert_variables(variables, like=net)
    assert report.complete
    nnx.update(net, back)
    linen, report = bridge.convert_variables(net, like={"params": {"w": jnp.zeros(2)}})
    assert report.complete
    state, report = bridge.convert_variables(linen, like=net)
    assert report.complete
    assert len(nnx.to_flat_state(state)) == 1


def test_references_survive():
    source = nnx.Dict(w=nnx.Param(jnp.ones(2), ref=True, tag="t", out_sharding=("a",), eager_sharding=False))
    variables, _ = bridge.convert_variables(source)
    box = variables["params"]["w"]
    assert isinstance(box.value, jax.Array)
    moved = box.add_axis(0, {meta.PARTITION_NAME: "layers"})
    assert (moved.metadata["ref"], moved.metadata["out_sharding"]) == (True, ("layers", "a"))
    state, _ = bridge.convert_variables(variables)
    assert state.w.ref
    np.testing.assert_array_equal(state.w[...], jnp.ones(2))


def test_metadata_of_variables_survives():
    with nnx.use_eager_sharding(False):  # names without a mesh
        layer = nnx.Linear(2, 3, kernel_metadata={"tag": "k", "out_sharding": ("a", "b")}, rngs=nnx.Rngs(0))
    variables, _ = bridge.convert_variables(layer)
    box = variables["params"]["kernel"]
    assert isinstance(box, bridge.NNXMeta)
    assert box.get_partition_spec() == jax.sharding.PartitionSpec("a", "b")
    stacked = box.add_axis(0, {meta.PARTITION_NAME: "layers"})
    assert stacked.metadata["out_sharding"] == ("layers", "a", "b")
    assert stacked.remove_axis(0, {meta.PARTITION_NAME: "layers"}).metadata["out_sharding"] == ("a", "b")
    assert meta.unbox(variables)["params"]["kernel"].shape == (2, 3)
    with nnx.logical_axis_rules((("a", "data"), ("b", None))):
        assert box.get_partition_spec() == jax.sharding.PartitionSpec("data", None)
    whole = bridge.NNXMeta(nnx.Param, jnp.ones(2), {"tag": "k"})
    assert meta.get_partition_spec({"b": whole}) == {"b": jax.sharding.PartitionSpec()}, "as of a bare array"
    doubled = jax.tree.map(lambda x: 2 * x, variables)
    state, _ = bridge.convert_variables(doubled)
    assert state.kernel.tag == "k"
    np.testing.assert_array_equal(state.kernel[...], 2 * layer.kernel)
