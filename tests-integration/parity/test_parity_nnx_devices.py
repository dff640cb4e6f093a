"""pmap and shard_map on eight virtual devices do what those of Flax NNX do."""

import os
import subprocess
import sys
import textwrap

PROGRAM = textwrap.dedent(
    """
    import importlib
    import jax, jax.numpy as jnp, numpy as np
    from jax.sharding import AxisType, NamedSharding, PartitionSpec as P

    def program(nnx):
        class Net(nnx.Module):
            def __init__(self):
                self.w = nnx.Param(jnp.arange(16.0).reshape(8, 2))
                self.mean = nnx.BatchStat(jnp.zeros(2))

            def __call__(self, x):
                y = self.w * x
                self.mean[...] = jax.lax.pmean(y.mean(0) if y.ndim > 1 else y, "x")
                return y - self.mean

        mesh = jax.make_mesh((8,), ("x",), axis_types=(AxisType.Auto,))
        model, x = Net(), jnp.ones((8, 2))
        specs = nnx.StateSharding({nnx.Param: P("x"), ...: P()})
        first = nnx.shard_map(lambda m, x: m(x), mesh=mesh, in_specs=(specs, P("x")), out_specs=P("x"))(model, x)
        model.mean[...] = jnp.zeros(2)
        axes = nnx.StateAxes({nnx.Param: 0, ...: None})
        second = nnx.pmap(lambda m, x: m(x), axis_name="x", in_axes=(axes, 0))(model, x)
        sharding = nnx.StateSharding({nnx.Param: NamedSharding(mesh, P("x")), ...: NamedSharding(mesh, P())})

        @nnx.jit(in_shardings=(sharding, None), out_shardings=NamedSharding(mesh, P("x")))
        def third(model, x):
            model.w[...] = model.w + 1
            return model.w * x

        out = third(model, x)
        return [first, second, model.mean[...], out, model.w[...]], [a.sharding.spec for a in (out, model.w[...])]

    (ours, places), (theirs, expected) = (program(importlib.import_module(m)) for m in ("fx_nnx", "flax.nnx"))
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)
    assert places == expected, (places, expected)
    """
)


def test_eight_devices():
    environment = {**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=8", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
