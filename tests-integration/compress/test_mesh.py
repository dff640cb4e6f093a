"""Quantized weights on a mesh of four devices, in a process of its own: JAX counts its devices once."""

import subprocess
import sys

PROGRAM = """
import sys
import jax
jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", 4)
import fx_ckpt
import fx_compress
import fx_linen as nn
import fx_nnx as nnx
import jax.numpy as jnp
import numpy as np
from fx_compress import QuantizedArray
from fx_core.errors import ShardingRuleError
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P

AUTO, EXPLICIT = AxisType.Auto, AxisType.Explicit
mesh = jax.make_mesh((2, 2), ("data", "model"), axis_types=(AUTO, AUTO))
x = jax.random.normal(jax.random.key(0), (4, 16))
SCHEMES = {
    "int8": fx_compress.int8(),
    "int4": fx_compress.int4(group=4, symmetric=False),
    "dynamic": fx_compress.int8(activations="dynamic"),
    "few groups": fx_compress.nf4(group=16),
}


def pieces(array):
    return {shard.data.shape for shard in array.addressable_shards}


def specs(node):
    return [tuple(leaf.sharding.spec) for leaf in jax.tree.leaves(node)]


class Net(nnx.Module):
    def __init__(self, rngs):
        init = nnx.initializers.lecun_normal()
        self.first = nnx.Linear(16, 8, kernel_init=nnx.with_partitioning(init, (None, "model")), rngs=rngs)
        self.second = nnx.Linear(8, 16, kernel_init=nnx.with_partitioning(init, ("hidden", None)), rngs=rngs)

    def __call__(self, x):
        return self.second(jax.nn.relu(self.first(x)))


class Boxed(nn.Module):
    @nn.compact
    def __call__(self, x):
        init = nn.initializers.lecun_normal()
        x = nn.Dense(8, kernel_init=nn.with_partitioning(init, (None, "model")), name="first")(x)
        return nn.Dense(16, kernel_init=nn.with_partitioning(init, ("model", None)), name="second")(jax.nn.relu(x))


with nnx.logical_axis_rules((("hidden", "model"),)):
    for name, scheme in SCHEMES.items():
        rules = {"first/*": scheme, "second/*": fx_compress.int4(group=4) if name == "few groups" else scheme}
        with nnx.use_eager_sharding(False):
            alone = fx_compress.quantize(Net(nnx.Rngs(0)), rules)
        want = alone(x)
        with jax.set_mesh(mesh):
            small = fx_compress.quantize(Net(nnx.Rngs(0)), rules)
            graphdef, state = nnx.split(small)
            shardings = nnx.get_named_sharding(state, mesh)
            state = jax.device_put(state, shardings)
            first, second = state["first"]["kernel"].get_value(), state["second"]["kernel"].get_value()
            assert isinstance(first, QuantizedArray)
            packed = 8 if first.format == "int8" else 4
            assert pieces(first.values) == {(16, packed // 2)}, pieces(first.values)
            assert pieces(second.values) == {(4, 16 if second.format == "int8" else 8)}
            # A scale per output goes with the outputs, a scale per group with the groups.
            assert pieces(first.scale) == {(first.scale.shape[0], 4)}
            assert pieces(second.scale) == {(max(1, second.scale.shape[0] // 2), 16)}
            got = jax.jit(lambda s, x: nnx.merge(graphdef, s)(x))(state, x)
            np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)
            got = nnx.jit(lambda m, x: m(x))(nnx.merge(graphdef, state), x)
            np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)

        # A checkpoint goes where the abstract model says.
        path = sys.argv[1] + "/" + name
        fx_ckpt.save(path, state, backend="msgpack")
        _, abstract = nnx.get_abstract_model(lambda: fx_compress.quantize(Net(nnx.Rngs(0)), rules), mesh)
        back = fx_ckpt.restore(path, abstract)
        assert specs(back["first"]["kernel"].get_value()) == specs(first)
        for a, b in zip(jax.tree.leaves(back), jax.tree.leaves(state), strict=True):
            np.testing.assert_array_equal(a, b)

        boxed = Boxed().init(jax.random.key(0), x)
        quantized = fx_compress.quantize(boxed, {f"params/{where}": what for where, what in rules.items()})
        want = Boxed().apply(quantized, x)
        with jax.set_mesh(mesh):
            got = jax.jit(Boxed().apply)(quantized, x)
            np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)
            placed = jax.device_put(quantized, nn.get_sharding(quantized, mesh))
            assert pieces(placed["params"]["first"]["kernel"].value.values) == {(16, packed // 2)}
            unboxed = nn.meta.unbox(quantized)["params"]["second"]["kernel"]
            assert pieces(unboxed.values) == {(4, 16 if unboxed.format == "int8" else 8)}
            got = jax.jit(Boxed().apply, in_shardings=(nn.get_sharding(quantized, mesh), None))(placed, x)
            np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)
            leaf = nn.get_partition_spec(quantized)["params"]["first"]["kernel"].value
            assert leaf.values == P(None, "model"), leaf

odd = nnx.Param(fx_compress.int8().quantize(jnp.ones((4, 3))), out_sharding=(None, "model"), eager_sharding=False)
try:
    nnx.get_named_sharding({"odd": odd}, mesh)
    raise AssertionError("an axis of 3 was divided by 2")
except ShardingRuleError as error:
    assert "model" in str(error)
print("fine")
"""


def test_codes_and_scales_follow_the_layout_of_their_array(tmp_path):
    run = subprocess.run([sys.executable, "-c", PROGRAM, str(tmp_path)], capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr[-4000:]
    assert run.stdout.strip() == "fine"
