"""pmap and shard_map over eight devices, in a process of its own: JAX counts its devices once."""

import subprocess
import sys

PROGRAM = """
import jax
jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", 8)
import jax.numpy as jnp
import numpy as np
import fx_transforms as engine
from fx_core.scope import bind
from fx_transforms import ScopeCarrier
from jax.sharding import PartitionSpec as P

assert jax.device_count() == 8
KEY = jax.random.key(0)


def make(a, b):
    return bind({"first": {"a": a}, "second": {"b": b}}, {"noise": KEY}, mutable=True)


def carrier():
    return ScopeCarrier(["first", "second"], ["first", "second"], [True], "eight", whole=(0, 1))


def step(scope, x):
    a, b = scope.get_variable("first", "a"), scope.get_variable("second", "b")
    total = jax.lax.psum(jnp.sum(a * x), "data")
    scope.put_variable("first", "a", a + x)
    noise = jax.random.normal(scope.make_rng("noise"), ())
    return total * b, noise


a, xs, b = jnp.arange(16.0).reshape(8, 2), jnp.linspace(1, 2, 8), jnp.float32(3)
want = jnp.sum(a * xs[:, None]) * b

handle = make(a, b)
run = engine.pmap(step, carrier(), [engine.axis(0), engine.SHARED, engine.KEYS], axis_name="data")
y, noise = run(handle, xs)
np.testing.assert_allclose(y, np.full(8, want), rtol=1e-6)
np.testing.assert_allclose(handle.get_variable("first", "a"), a + xs[:, None])
assert len(np.unique(noise)) == 8

# The same by vmap: one device after the other.
other = make(a, b)
mapped = engine.vmap(step, carrier(), [engine.axis(0), engine.SHARED, engine.KEYS], axis_name="data")
y2, noise2 = mapped(other, xs)
np.testing.assert_allclose(y, y2, rtol=1e-6)
np.testing.assert_array_equal(noise, noise2)

mesh = jax.make_mesh((4, 2), ("data", "model"), axis_types=(jax.sharding.AxisType.Auto,) * 2)
handle = make(a, b)


def shard(scope, x):
    a = scope.get_variable("first", "a")
    assert a.shape == (2, 1)
    assert x.shape == (2,)
    scope.put_variable("first", "a", a + x[:, None])
    return jax.lax.psum(jnp.sum(a * x[:, None]), ("data", "model")) * scope.get_variable("second", "b")


specs = [(P("data", "model"), P("data", "model")), (P(), P()), (P(), P())]
sharded = engine.shard_map(
    shard, carrier(), mesh=mesh, group_specs=specs, in_specs=(P("data"),), out_specs=P()
)
y = sharded(handle, xs)
np.testing.assert_allclose(y, want, rtol=1e-6)
np.testing.assert_allclose(handle.get_variable("first", "a"), a + xs[:, None])
print("all the same")
"""


def test_pmap_and_shard_map():
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "all the same" in done.stdout
