"""The networks that are exported, and the inputs that they take."""

import fx_export
import fx_nnx as nnx
import jax
import jax.numpy as jnp
import networks_linen
import networks_nnx

IMAGE, TOKENS, PLACES = "float32[batch, 16, 16, 3]", "int32[batch, length]", "int32[batch, length]"
NETWORKS = {
    "MLP": ["float32[batch, 4]"],
    "ResNet": [IMAGE],
    "ViT": [IMAGE],
    "GPT": [TOKENS, PLACES],
    "Encoder": [TOKENS, "bool[batch, length]"],
    "Recurrent": ["float32[batch, length, 3]", "int32[batch]"],
    "UNet": ["float32[batch, 8, 8, 3]"],
    "Mixture": ["float32[batch, length, 6]"],
}


def example(text, batch=1, length=5):
    """An array of ones for the description of an input."""
    (spec,) = fx_export.inputs.described_inputs([text])
    return jnp.ones([{"batch": batch, "length": length}.get(str(s), s) for s in spec.shape], spec.dtype)


def network(face, name, dtype):
    """A module of a face, and its variables where it does not hold them."""
    if face == "nnx":
        return getattr(networks_nnx, name)(dtype, nnx.Rngs(0)), None
    model = getattr(networks_linen, name)(dtype)
    return model, model.init(jax.random.key(0), *map(example, NETWORKS[name]))
