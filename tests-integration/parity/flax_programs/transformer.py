"""A transformer whose parameters have logical axes, by boxes and by the older collections, scanned over layers."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax.core import meta
from flax.linen import partitioning as nn_partitioning
from flax.linen.linear import PrecisionLike
from flax.linen.partitioning import ScanIn, param_with_axes
from flax.typing import Array, LogicalRules

RULES: LogicalRules = (("embed", None), ("mlp", "model"), ("layers", None))


class Mlp(nn.Module):
    precision: PrecisionLike = None

    @nn.compact
    def __call__(self, x: Array) -> Array:
        y = nn.gelu(nn.Dense(8, precision=self.precision)(x))
        out = param_with_axes("out", nn.initializers.lecun_normal(), (8, x.shape[-1]), axes=("mlp", "embed"))
        return nn_partitioning.with_sharding_constraint(y @ out, ("batch", "embed"))


class Layer(nn.Module):
    @nn.compact
    def __call__(self, x, mask):
        x = x + nn.MultiHeadDotProductAttention(2)(nn.LayerNorm()(x), mask=mask)
        return x + Mlp()(nn.LayerNorm()(x)), None


class Decoder(nn.Module):
    @nn.compact
    def __call__(self, tokens):
        x = nn.Embed(11, 4)(tokens)
        mask = nn.make_causal_mask(tokens)
        layers = nn_partitioning.scan_with_axes(
            nn.remat(Layer, static_argnums=()),
            variable_axes={"params": 0},
            split_rngs={"params": True},
            in_axes=nn.broadcast,
            length=2,
            axis_name="layers",
            axes_collections=("params",),
        )
        x, _ = layers(name="layers")(x, mask)
        init = nn.with_logical_partitioning(nn.initializers.lecun_normal(), ("embed", "mlp"))
        return nn.Dense(11, kernel_init=init)(x)


def main():
    tokens = jnp.array([[1, 2, 3, 4]])
    model = Decoder()
    with nn_partitioning.axis_rules(RULES):
        variables = jax.jit(model.init)(jax.random.key(0), tokens)
        specs = nn.logical_to_mesh(nn.get_partition_spec(variables["params"]))
    params = meta.unbox(variables["params"])
    loss, grads = jax.jit(jax.value_and_grad(lambda p: model.apply({"params": p}, tokens).std()))(params)
    names = nn_partitioning.get_axis_names(variables["params_axes"])
    leaves = jax.tree.leaves_with_path(specs, is_leaf=lambda x: isinstance(x, jax.sharding.PartitionSpec))
    assert ScanIn(0).axis == 0
    return {
        "loss": loss,
        "grads": grads,
        "specs": {jax.tree_util.keystr(path): np.array(str(spec)) for path, spec in leaves},
        "names": [str(name) for name in jax.tree.leaves(names, is_leaf=lambda x: not isinstance(x, dict))],
    }
