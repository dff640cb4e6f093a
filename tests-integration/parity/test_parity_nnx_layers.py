"""The layers of fx_nnx against those of Flax: parameters of a seed, outputs, and draws, to the bit where possible."""

import flax.linen as flax_linen
import flax.nnx as flax_nnx
import fx_nnx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

X2 = np.linspace(-1, 2, 12, dtype=np.float32).reshape(2, 6)
X3 = np.linspace(-1, 2, 2 * 4 * 6, dtype=np.float32).reshape(2, 4, 6)
X4 = np.linspace(-1, 2, 2 * 5 * 5 * 6, dtype=np.float32).reshape(2, 5, 5, 6)
IDS = np.array([[0, 3], [2, 1]])

CASES = {
    "linear": (lambda n, r: n.Linear(6, 3, rngs=r), X2),
    "linear-no-bias": (lambda n, r: n.Linear(6, 3, use_bias=False, rngs=r), X3),
    "linear-bf16": (lambda n, r: n.Linear(6, 3, dtype=jnp.bfloat16, rngs=r), X2),
    "linear-param-bf16": (lambda n, r: n.Linear(6, 3, param_dtype=jnp.bfloat16, rngs=r), X2),
    "linear-general": (lambda n, r: n.LinearGeneral((4, 6), (3, 2), axis=(-2, -1), rngs=r), X3),
    "linear-general-batch": (lambda n, r: n.LinearGeneral(6, (3,), batch_axis={0: 2}, rngs=r), X3),
    "linear-general-axis": (lambda n, r: n.LinearGeneral(4, 3, axis=1, rngs=r), X3),
    "einsum": (lambda n, r: n.Einsum("bij,jk->bik", (6, 3), (3,), rngs=r), X3),
    "einsum-heads": (lambda n, r: n.Einsum("...j,hjk->...hk", (2, 6, 3), (2, 3), rngs=r), X3),
    "embed": (lambda n, r: n.Embed(4, 5, rngs=r), IDS),
    "conv-1d": (lambda n, r: n.Conv(6, 3, (3,), rngs=r), X3),
    "conv-no-window": (lambda n, r: n.Conv(6, 3, (), rngs=r), X3),
    "conv-transpose-no-window": (lambda n, r: n.ConvTranspose(6, 3, (), rngs=r), X2),
    "conv-causal": (lambda n, r: n.Conv(6, 3, (3,), padding="CAUSAL", rngs=r), X3),
    "conv-2d": (lambda n, r: n.Conv(6, 4, (3, 3), strides=2, rngs=r), X4),
    "conv-groups": (lambda n, r: n.Conv(6, 4, (3, 3), feature_group_count=2, padding="VALID", rngs=r), X4),
    "conv-dilated": (lambda n, r: n.Conv(6, 4, (2, 2), kernel_dilation=2, padding="CIRCULAR", rngs=r), X4),
    "conv-pad": (lambda n, r: n.Conv(6, 4, (2, 2), padding=((1, 0), (0, 1)), use_bias=False, rngs=r), X4),
    "conv-transpose": (lambda n, r: n.ConvTranspose(6, 4, (3, 3), strides=(2, 2), rngs=r), X4),
    "conv-transpose-circular": (lambda n, r: n.ConvTranspose(6, 4, (3, 3), padding="CIRCULAR", rngs=r), X4),
    "conv-transpose-kernel": (lambda n, r: n.ConvTranspose(6, 4, (3, 3), transpose_kernel=True, rngs=r), X4),
    "batch-norm": (lambda n, r: n.BatchNorm(6, rngs=r), X4),
    "batch-norm-running": (lambda n, r: n.BatchNorm(6, use_running_average=True, rngs=r), X4),
    "batch-norm-plain": (lambda n, r: n.BatchNorm(6, use_bias=False, use_scale=False, momentum=0.5, rngs=r), X2),
    "batch-norm-axis": (lambda n, r: n.BatchNorm(4, axis=1, use_fast_variance=False, rngs=r), X3),
    "layer-norm": (lambda n, r: n.LayerNorm(6, rngs=r), X3),
    "layer-norm-plain": (lambda n, r: n.LayerNorm(6, use_bias=False, use_scale=False, epsilon=1e-3, rngs=r), X3),
    "layer-norm-axes": (lambda n, r: n.LayerNorm(6, reduction_axes=(1, 2), rngs=r), X3),
    "layer-norm-bf16": (lambda n, r: n.LayerNorm(6, dtype=jnp.bfloat16, rngs=r), X3),
    "rms-norm": (lambda n, r: n.RMSNorm(6, rngs=r), X3),
    "rms-norm-plain": (lambda n, r: n.RMSNorm(6, use_scale=False, rngs=r), X3),
    "group-norm": (lambda n, r: n.GroupNorm(6, num_groups=3, rngs=r), X4),
    "group-norm-size": (lambda n, r: n.GroupNorm(6, num_groups=None, group_size=3, rngs=r), X4),
    "instance-norm": (lambda n, r: n.InstanceNorm(6, rngs=r), X4),
    "dropout": (lambda n, r: n.Dropout(0.5, rngs=r), X3),
    "dropout-broadcast": (lambda n, r: n.Dropout(0.3, broadcast_dims=(1,), rngs=r), X3),
    "prelu": (lambda n, r: n.PReLU(), X3),
    "sequential": (lambda n, r: n.Sequential(n.Linear(6, 5, rngs=r), n.relu, n.Linear(5, 2, rngs=r)), X2),
    "dropout-in-chain": (
        lambda n, r: n.Sequential(n.Linear(6, 8, rngs=r), n.Dropout(0.5, rngs=r), n.LayerNorm(8, rngs=r)),
        X2,
    ),
}


def arrays(nnx, model):
    pure = nnx.to_pure_dict(nnx.state(model))
    unwrap = lambda x: jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x  # noqa: E731
    return jax.tree.map(lambda x: np.asarray(unwrap(x)), pure)


def tolerance(name):
    # Flax's NNX norms round to bfloat16 before they normalize; ours, like its Linen norms, after.
    if name == "layer-norm-bf16":
        return 4e-2
    # Flax's one-pass variance loses digits where the mean is large against the deviation; ours does not.
    return 1e-4 if name.startswith(("layer-norm", "group-norm", "instance-norm")) else 1e-6


def near(theirs, ours, tolerance):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance), theirs, ours)


def run(nnx, make, x):
    rngs = nnx.Rngs(0, params=1)
    model = make(nnx, rngs)
    first = arrays(nnx, model)
    outputs = [np.asarray(model(x), np.float32), np.asarray(model(x), np.float32)]
    model.eval()
    outputs.append(np.asarray(model(x), np.float32))
    return first, outputs, arrays(nnx, model), arrays(nnx, rngs)


@pytest.mark.parametrize("name", CASES)
def test_layer_equals_flax(name):
    make, x = CASES[name]
    theirs, ours = run(flax_nnx, make, x), run(fx_nnx, make, x)
    jax.tree.map(np.testing.assert_array_equal, theirs[0], ours[0])
    near(theirs[1], ours[1], tolerance(name))
    near(theirs[2], ours[2], tolerance(name))
    jax.tree.map(np.testing.assert_array_equal, theirs[3], ours[3])  # as many draws from the same streams


def gradients(nnx, make, x):
    model = make(nnx, nnx.Rngs(0))
    graphdef, params, rest = nnx.split(model, nnx.Param, ...)
    loss = lambda p: (nnx.merge(graphdef, p, rest, copy=True)(x).astype(jnp.float32) ** 2).sum()  # noqa: E731
    return jax.tree.map(np.asarray, nnx.to_pure_dict(jax.grad(loss)(params)))


@pytest.mark.parametrize("name", [name for name in CASES if name not in ("dropout", "dropout-broadcast", "embed")])
def test_gradients_equal_flax(name):
    make, x = CASES[name]
    theirs, ours = gradients(flax_nnx, make, x), gradients(fx_nnx, make, x)
    near(theirs, ours, 10 * tolerance(name))


@pytest.mark.parametrize("axes", [None, (-1,), (2, -1), (1, 2), (0, 1, 2), (0, -1)], ids=str)
def test_group_norm_over_some_axes_is_that_of_linen(axes):
    """NNX of Flax repeats the statistics of groups along the wrong axis, where one is left beside the features."""
    x = jax.random.normal(jax.random.key(1), X3.shape)
    theirs = flax_linen.GroupNorm(num_groups=2, reduction_axes=axes, use_fast_variance=False)
    ours = fx_nnx.GroupNorm(6, num_groups=2, reduction_axes=axes, use_fast_variance=False, rngs=fx_nnx.Rngs(0))
    np.testing.assert_allclose(ours(x), theirs.apply(theirs.init(jax.random.key(0), x), x), rtol=1e-5, atol=1e-6)
