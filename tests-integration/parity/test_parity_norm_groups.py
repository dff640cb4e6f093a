"""Norms over groups of devices do what those of Flax do, on four virtual devices."""

import os
import subprocess
import sys
import textwrap

PROGRAM = textwrap.dedent(
    """
    import flax.linen, fx_linen, itertools
    import jax, numpy as np

    x = np.random.default_rng(0).normal(1.0, 2.0, (4, 2, 3, 6)).astype(np.float32)
    # Every device counts as many values: else Flax gives the mean of their means, and we that of all values.
    mask = np.broadcast_to(np.random.default_rng(1).random(x.shape[1:]) > 0.3, x.shape)
    layers = {
        "BatchNorm": {"use_running_average": False, "momentum": 0.9}, "LayerNorm": {}, "RMSNorm": {},
        "GroupNorm": {"num_groups": 2}, "InstanceNorm": {},
    }
    count = 0
    for (name, options), groups, masked in itertools.product(
        layers.items(), ([[0, 1], [2, 3]], ((0, 3), (2, 1)), [[0, 1, 2, 3]]), (False, True)
    ):
        results = []
        for nn in (flax.linen, fx_linen):
            layer = getattr(nn, name)(axis_name="devices", axis_index_groups=groups, **options)
            variables = layer.clone(axis_name=None, axis_index_groups=None).init(jax.random.key(0), x[0])

            def run(x, mask, layer=layer, variables=variables):
                mask = mask if masked else None
                y, state = layer.apply(variables, x, mask=mask, mutable=["batch_stats"])
                _, vjp = jax.vjp(lambda x: layer.apply(variables, x, mask=mask, mutable=["batch_stats"])[0], x)
                return y, state, vjp(y)[0]

            results.append(jax.pmap(run, axis_name="devices")(x, mask))
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=5e-6), *results)
        alone = layer.clone(axis_name=None, axis_index_groups=None)
        each = jax.vmap(lambda x: alone.apply(variables, x, mutable=["batch_stats"])[0])(x)
        assert not np.allclose(results[1][0], each), (name, "the devices took no part")
        count += 1
    assert count == 30

    groups = {"axis_name": "devices", "axis_index_groups": [[0, 3], [1, 2]]}
    layer = fx_linen.BatchNorm(use_running_average=False, momentum=0.0, **groups)
    mask = np.arange(2)[None, :, None, None] < np.array([2, 1, 0, 1]).reshape(4, 1, 1, 1)
    variables = layer.clone(axis_name=None, axis_index_groups=None).init(jax.random.key(0), x[0])
    run = jax.pmap(lambda x, m: layer.apply(variables, x, mask=m, mutable=["batch_stats"])[1], axis_name="devices")
    got = run(x, mask)["batch_stats"]
    for group in ([0, 3], [1, 2]):
        values = x[group][np.broadcast_to(mask, x.shape)[group][..., 0]]
        for device in group:
            np.testing.assert_allclose(got["mean"][device], values.mean(0), rtol=1e-5)
            np.testing.assert_allclose(got["var"][device], values.var(0), rtol=1e-4)

    # An axis that is spread over devices by its type is normalized, too.
    explicit = (jax.sharding.AxisType.Explicit,)
    with jax.set_mesh(jax.make_mesh((4,), ("d",), axis_types=explicit)):
        wide = np.random.default_rng(2).normal(size=(2, 8)).astype(np.float32)
        spread = jax.device_put(wide, jax.sharding.NamedSharding(jax.sharding.get_mesh(), jax.P(None, "d")))
        layers = [nn.LayerNorm(use_scale=False, use_bias=False) for nn in (flax.linen, fx_linen)]
        theirs, ours = (jax.jit(lambda x: layer.apply({}, x))(spread) for layer in layers)
        np.testing.assert_allclose(theirs, ours, rtol=1e-5, atol=1e-5)
    """
)


def test_groups_of_devices():
    environment = {**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=4", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
