"""Transforms that place their arguments on devices, and checkify around one."""

import fx_nnx as nnx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fx_core.compat.jax import checkify
from jax.sharding import PartitionSpec


class Net(nnx.Module):
    def __init__(self, scale=1.0):
        self.a = nnx.Param(jnp.full(2, scale))
        self.count = nnx.BatchStat(jnp.array(0.0))


def step(model, x):
    model.count[...] += 1
    return model.a * x * model.count


def test_shard_map_pmap_and_checkify_on_one_device():
    mesh = jax.make_mesh((1,), ("x",), axis_types=(jax.sharding.AxisType.Auto,))
    specs = (nnx.StateSharding({nnx.Param: PartitionSpec("x"), ...: PartitionSpec()}), PartitionSpec("x"))
    model = Net()
    out = nnx.shard_map(step, mesh=mesh, in_specs=specs, out_specs=PartitionSpec("x"))(model, jnp.ones(2))
    np.testing.assert_allclose(out, 1.0)
    out = nnx.pmap(step, in_axes=(None, 0))(model, jnp.ones((1, 2)))
    np.testing.assert_allclose(out, [[2.0, 2.0]])
    assert float(model.count[...]) == 2

    def checked(model, x):
        checkify.check(x > 0, "negative")
        return step(model, x)

    error, out = nnx.jit(nnx.checkify(checked))(model, -1.0)
    assert "negative" in error.get()
    assert float(model.count[...]) == 3


def test_pmap_takes_the_devices_of_a_backend():
    np.testing.assert_array_equal(nnx.pmap(lambda x: x + 1, backend="cpu")(jnp.ones(1)), [2.0])
    with pytest.raises(RuntimeError, match="nowhere"):
        nnx.pmap(lambda x: x, backend="nowhere")(jnp.ones(1))
