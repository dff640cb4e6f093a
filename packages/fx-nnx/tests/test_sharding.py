"""Models on a mesh; those of eight devices run in a process of their own."""

import subprocess
import sys

import fx_nnx as nnx
import jax
import jax.numpy as jnp
import optax
import pytest
from fx_core.errors.partitioning import ShardingRuleError
from jax.sharding import AxisType, NamedSharding, PartitionSpec

NAMES = (None, "model")


class Block(nnx.Module):
    def __init__(self, rngs, names=NAMES):
        init = nnx.with_partitioning(nnx.initializers.lecun_normal(), names)
        self.linear = nnx.Linear(4, 8, kernel_init=init, rngs=rngs)
        self.tied = self.linear.kernel

    def __call__(self, x):
        return self.linear(x)


def mesh_of_one():
    return jax.make_mesh((1,), ("model",), axis_types=(AxisType.Auto,))


@pytest.fixture
def block():
    with nnx.use_eager_sharding(False):
        return Block(nnx.Rngs(0))


def test_names_need_a_mesh():
    with pytest.raises(ShardingRuleError, match=r"P\(None, 'model'\) and no mesh"):
        Block(nnx.Rngs(0))
    with pytest.raises(ShardingRuleError, match="no mesh"):
        jax.eval_shape(lambda: nnx.state(Block(nnx.Rngs(0))))
    placed = nnx.Param(jnp.ones((4, 8)), out_sharding=NAMES, mesh=mesh_of_one())
    assert placed.get_value().sharding.spec == PartitionSpec(None, "model")


def test_initializers_with_partitioning(block):
    assert block.linear.kernel.get_metadata(exclude_required=True) == {"out_sharding": NAMES, "mesh": None}
    assert block.linear.kernel.sharding_names == NAMES


def test_partition_specs(block):
    specs = nnx.get_partition_spec(nnx.state(block))
    assert isinstance(specs, nnx.State)
    assert specs.linear.kernel.get_value() == PartitionSpec(None, "model")
    assert specs.linear.bias.get_value() == PartitionSpec()
    model = nnx.get_partition_spec(block)
    assert isinstance(model, Block)
    assert model.tied is model.linear.kernel
    with nnx.logical_axis_rules((("model", "y"),)):
        assert nnx.get_partition_spec({"k": block.tied, "x": 1.0}) == {
            "k": block.tied.replace(PartitionSpec(None, "y")),
            "x": PartitionSpec(),
        }
    own = nnx.Param(1.0, out_sharding=("a",), sharding_rules=(("a", "z"),), eager_sharding=False)
    assert nnx.get_partition_spec(own).get_value() == PartitionSpec("z")


def test_named_shardings(block):
    mesh = mesh_of_one()
    shardings = nnx.get_named_sharding(nnx.state(block), mesh)
    assert shardings.linear.kernel.get_value() == NamedSharding(mesh, PartitionSpec(None, "model"))
    with nnx.logical_axis_rules((("model", "zork"),)), pytest.raises(ShardingRuleError, match="zork"):
        nnx.get_named_sharding(nnx.state(block), mesh)


def test_abstract_models():
    mesh = mesh_of_one()
    graphdef, abstract = nnx.get_abstract_model(lambda: Block(nnx.Rngs(0)), mesh)
    kernel = abstract.linear.kernel.get_value()
    assert isinstance(kernel, jax.ShapeDtypeStruct)
    assert (kernel.shape, kernel.sharding.spec, kernel.sharding.mesh) == ((4, 8), PartitionSpec(None, "model"), mesh)
    assert abstract.linear.bias.get_value().sharding == NamedSharding(mesh, PartitionSpec())
    assert nnx.merge(graphdef, abstract).tied is not None


def test_abstract_arrays_get_shardings(block):
    assert nnx.as_abstract(block).tied is block.tied  # arrays that are there stay
    shapes = jax.eval_shape(lambda: nnx.state(block))
    with pytest.raises(ShardingRuleError, match="no mesh"):
        nnx.abstract_with_sharding(shapes)
    with jax.set_mesh(mesh_of_one()):
        placed = nnx.abstract_with_sharding(shapes)
    assert placed.linear.kernel.get_value().sharding.spec == PartitionSpec(None, "model")
    assert placed.linear.bias.get_value().sharding.spec == PartitionSpec()
    assert nnx.abstract_with_sharding(jax.eval_shape(lambda: jnp.ones(2))).sharding is None


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit])
def test_shapes_say_where_they_would_live(kind):
    mesh = jax.make_mesh((1,), ("model",), axis_types=(kind,))

    def spec(variable):
        assert variable.get_value().sharding.mesh == mesh, "with the devices, as a restore needs them"
        return tuple(variable.get_value().sharding.spec)

    with jax.set_mesh(mesh):
        shapes = nnx.eval_shape(lambda: Block(nnx.Rngs(0)))
        assert spec(shapes.linear.kernel) == NAMES
        assert shapes.tied is shapes.linear.kernel
        assert not any(spec(shapes.linear.bias))
        state = nnx.eval_shape(lambda: (jnp.ones(2), nnx.state(Block(nnx.Rngs(0)))))
        assert spec(state[1].linear.kernel) == NAMES
        assert state[0].sharding is None or kind is AxisType.Explicit
        made = Block(nnx.Rngs(0))
        assert spec(nnx.eval_shape(lambda block: block, made).linear.kernel) == NAMES
        assert isinstance(made.linear.kernel.get_value(), jax.Array)
        moments = nnx.eval_shape(lambda: nnx.Optimizer(Block(nnx.Rngs(0)), optax.adam(1e-3), wrt=nnx.Param))
        assert spec(moments.opt_state[0].mu.linear.kernel) == NAMES
    own = nnx.eval_shape(lambda: nnx.Param(jnp.ones((4, 8)), out_sharding=NAMES, mesh=mesh, eager_sharding=False))
    assert spec(own) == NAMES
    assert nnx.eval_shape(lambda: nnx.Param(jnp.ones(2))).get_value().sharding is None


@pytest.mark.parametrize("mode", [{"graph": False}, {"graph_updates": False}])
def test_shapes_of_trees_say_nothing_about_places(mode):
    with jax.set_mesh(mesh_of_one()):
        shapes = nnx.eval_shape(lambda: nnx.Dict(w=nnx.Param(jnp.ones((4, 8)), out_sharding=NAMES)), **mode)
    assert shapes.w.get_value().sharding is None


EIGHT_DEVICES = """
import warnings

import jax
jax.config.update("jax_num_cpu_devices", 8)
import fx_nnx as nnx
import jax.numpy as jnp
import optax
from fx_core import errors
from jax.sharding import AxisType, PartitionSpec as P

class Model(nnx.Module):
    def __init__(self, rngs):
        split = nnx.with_partitioning(nnx.initializers.lecun_normal(), ("embed", "hidden"))
        back = nnx.with_partitioning(nnx.initializers.lecun_normal(), ("hidden", "embed"))
        self.up = nnx.Linear(4, 8, kernel_init=split, rngs=rngs)
        self.down = nnx.Linear(8, 4, kernel_init=back, rngs=rngs)
    def __call__(self, x):
        return self.down(nnx.relu(self.up(x)))

RULES = (("embed", "data"), ("hidden", "model"))
single = jax.tree.leaves(nnx.to_pure_dict(nnx.state(nnx.use_eager_sharding(False)(Model)(nnx.Rngs(0)))))

def check(state):
    kernel = state.up.kernel.get_value()
    assert kernel.sharding.spec == P("data", "model"), kernel.sharding
    assert {shard.data.shape for shard in kernel.addressable_shards} == {(2, 2)}
    assert len({shard.device for shard in state.up.bias.get_value().addressable_shards}) == 8
    for a, b in zip(jax.tree.leaves(nnx.to_pure_dict(state)), single):
        assert jnp.allclose(a, b, atol=1e-6)

for kind in (AxisType.Auto, AxisType.Explicit):
    mesh = jax.make_mesh((2, 4), ("data", "model"), axis_types=(kind, kind))
    with jax.set_mesh(mesh), nnx.logical_axis_rules(RULES):
        check(nnx.state(Model(nnx.Rngs(0))))                                # made on one device, then laid out
        check(jax.jit(lambda: nnx.state(Model(nnx.Rngs(0))))())             # made on the mesh
        abstract = nnx.get_abstract_model(lambda: Model(nnx.Rngs(0)), mesh)[1]
        assert abstract.up.kernel.get_value().sharding.spec == P("data", "model")
        shapes = nnx.eval_shape(lambda: nnx.state(Model(nnx.Rngs(0))))
        check(jax.tree.map(lambda x, shape: jax.device_put(x, shape.sharding), nnx.state(Model(nnx.Rngs(0))), shapes))

mesh = jax.make_mesh((2, 4), ("data", "model"), axis_types=(AxisType.Auto,) * 2)
with nnx.logical_axis_rules(RULES), nnx.use_eager_sharding(False):
    graphdef, abstract = nnx.get_abstract_model(lambda: Model(nnx.Rngs(0)), mesh)
    shardings = nnx.get_named_sharding(abstract, mesh)
    state = jax.jit(lambda: nnx.state(Model(nnx.Rngs(0))), out_shardings=shardings)()
check(state)
out = jax.jit(lambda state, x: nnx.merge(graphdef, state)(x))(state, jnp.ones((2, 4)))
assert out.shape == (2, 4)

with jax.set_mesh(mesh):
    try:
        nnx.Param(jnp.ones((3, 8)), out_sharding=("data", "model"))
    except errors.ShardingRuleError as error:
        assert "'data'" in str(error), error
    else:
        raise AssertionError("3 rows on 2 devices")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # in a program the compiler may lay out what cannot be divided evenly
        odd = nnx.eval_shape(lambda: nnx.Param(jnp.ones((3, 8)), out_sharding=("data", "model")))
    assert odd.get_value().sharding.spec == P("data", "model")
    one = nnx.Param(jnp.ones((2, 8)), out_sharding=P("data", "model"))
    assert one.get_value().sharding.spec == P("data", "model")
print("done")
"""


def test_sharded_models_on_eight_devices():
    done = subprocess.run([sys.executable, "-c", EIGHT_DEVICES], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "done", done.stderr


@pytest.mark.parametrize("broadcast_dims", [(), (1,)])
@pytest.mark.parametrize("compiled", [False, True])
def test_dropout_keeps_an_explicit_sharding(broadcast_dims, compiled):
    mesh = jax.make_mesh((1,), ("x",), axis_types=(jax.sharding.AxisType.Explicit,))
    with jax.set_mesh(mesh):
        x = jax.sharding.reshard(jnp.ones((2, 4)), jax.sharding.PartitionSpec("x", None))
        layer = nnx.Dropout(0.5, broadcast_dims=broadcast_dims, rngs=nnx.Rngs(0))
        out = (nnx.jit if compiled else lambda f: f)(lambda layer, x: layer(x))(layer, x)
        assert jax.typeof(out).sharding.spec == jax.sharding.PartitionSpec("x", None)


def test_optimizers_made_and_run_per_layer_have_the_names_of_their_parameters():
    axes = {nnx.PARTITION_NAME: "layers"}

    class Layer(nnx.Module):
        def __init__(self, rngs):
            self.w = nnx.Param(rngs.params.normal((4, 4)), out_sharding=("in", "out"), eager_sharding=False)

        def __call__(self, x):
            return jnp.tanh(x @ self.w)

    @nnx.split_rngs(splits=3)
    @nnx.vmap(in_axes=0, transform_metadata=axes)
    def make(rngs):
        layer = Layer(rngs)
        return layer, nnx.Optimizer(layer, optax.adam(1e-3), wrt=nnx.Param)

    @nnx.scan(in_axes=(nnx.Carry, 0, 0), out_axes=nnx.Carry, transform_metadata=axes)
    def step(x, layer, optimizer):
        assert optimizer.opt_state[0].mu["w"].out_sharding == ("in", "out")
        optimizer.update(layer, nnx.grad(lambda layer: layer(x).sum())(layer))
        return layer(x)

    with nnx.use_eager_sharding(False):
        layers, optimizers = make(nnx.Rngs(0))
        for _ in range(2):
            for variable in (layers.w, optimizers.opt_state[0].mu["w"], optimizers.opt_state[0].nu["w"]):
                assert (variable.shape, variable.out_sharding) == ((3, 4, 4), ("layers", "in", "out"))
            step(jnp.ones((2, 4)), layers, optimizers)
    assert optimizers.step[...].tolist() == [2, 2, 2]


def test_a_format_also_orders_the_dimensions_in_memory():
    sharding = NamedSharding(mesh_of_one(), PartitionSpec("model", None))
    given = jnp.ones((2, 4)).format
    form = type(given)(type(given.layout)(major_to_minor=(1, 0)), sharding)
    eager = nnx.Param(jnp.ones((2, 4)), out_sharding=form)
    jitted = nnx.jit(lambda: nnx.Param(jnp.ones((2, 4)), out_sharding=form))()
    for param in (eager, jitted):
        assert param.sharding.is_equivalent_to(sharding, 2)
    assert eager.get_value().format.layout.major_to_minor == (1, 0)
    assert nnx.get_partition_spec({"w": eager})["w"].get_value() == PartitionSpec("model", None)
    assert nnx.get_named_sharding({"w": eager}, sharding.mesh)["w"].get_value() == sharding


@pytest.mark.parametrize("how", ["jit", "shard_map"])
def test_what_a_transform_lays_out_stays_laid_out(how):
    mesh = mesh_of_one()
    spec = PartitionSpec("model")
    model = nnx.Linear(2, 2, rngs=nnx.Rngs(0))
    assert not isinstance(model.kernel.sharding, NamedSharding)
    if how == "jit":
        entry = nnx.StateSharding({nnx.PathContains("kernel"): NamedSharding(mesh, spec), ...: None})
        nnx.jit(lambda m: None, in_shardings=(entry,))(model)
        assert not isinstance(model.bias.sharding, NamedSharding)
    else:
        entry = nnx.StateSharding({nnx.PathContains("kernel"): spec, ...: PartitionSpec()})
        nnx.shard_map(lambda m: None, mesh=mesh, in_specs=(entry,), out_specs=PartitionSpec())(model)
    assert model.kernel.sharding.is_equivalent_to(NamedSharding(mesh, spec), 2)
