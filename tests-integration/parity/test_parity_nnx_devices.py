"""Programs on eight virtual devices do what they do with Flax: pmap and shard_map of NNX, the bridge."""

import os
import subprocess
import sys
import textwrap

import pytest

TRANSFORMS = textwrap.dedent(
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


BRIDGE = textwrap.dedent(
    """
    import importlib
    import jax, jax.numpy as jnp, numpy as np
    from jax.sharding import AxisType

    def program(nn, nnx, bridge):
        init = nn.initializers.lecun_normal()
        dense = nn.Dense(4, kernel_init=nn.with_partitioning(init, ("a", "b")))
        logical = nn.Dense(4, kernel_init=nn.with_logical_partitioning(init, ("in", "out")))
        x, key = jnp.ones((8, 4)), jax.random.key(0)

        class Inside(nnx.Module):
            def __init__(self):
                self.dense = bridge.ToNNX(dense, rngs=nnx.Rngs(0))

            def __call__(self, x):
                return self.dense(x)

        class Own(bridge.Module):
            @bridge.compact
            def __call__(self, x):
                return x @ self.param("w", bridge.with_partitioning(init, ("a", "b")), (4, 8))

        def wrapped(module):
            return bridge.lazy_init(bridge.ToNNX(module, rngs=nnx.Rngs(0)), x).kernel

        layers = nnx.vmap(
            lambda key: bridge.lazy_init(bridge.ToNNX(dense, rngs=nnx.Rngs(key)), x),
            transform_metadata={nnx.PARTITION_NAME: "layers"},
        )
        mesh = jax.make_mesh((4, 2), ("a", "b"), axis_types=(AxisType.Auto,) * 2)
        with jax.set_mesh(mesh), nn.logical_axis_rules((("in", "a"), ("out", "b"))):
            kernels = [
                wrapped(dense),
                wrapped(logical),
                bridge.lazy_init(Inside(), x).dense.kernel,
                nnx.jit(lambda: bridge.lazy_init(Inside(), x))().dense.kernel,
                layers(jax.random.split(key, 2)).kernel,
            ]
            values = [kernel.get_value() for kernel in kernels] + [Own().init(key, x)["params"]["w"].value]
            return values, [value.sharding.spec for value in values]

    (ours, places), (theirs, expected) = (
        program(*map(importlib.import_module, names))
        for names in (("fx_linen", "fx_nnx", "fx_bridge"), ("flax.linen", "flax.nnx", "flax.nnx.bridge"))
    )
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(a, b)
    assert places == expected, (places, expected)
    assert all("b" in place for place in places[:4]), places
    """
)


@pytest.mark.parametrize("program", [TRANSFORMS, BRIDGE], ids=["transforms", "bridge"])
def test_eight_devices(program):
    environment = {**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=8", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
