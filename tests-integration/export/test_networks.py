"""The usual networks of both faces run in ONNX Runtime as they do in JAX, with free batch and length."""

import fx_export
import fx_nnx as nnx
import jax
import jax.numpy as jnp
import networks_linen
import networks_nnx
import numpy as np
import onnx
import pytest

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
DTYPES = [jnp.float32, jnp.bfloat16]
# Written out, these networks have some hundred operators, half of them casts of parameters in bfloat16.
MOST_NODES = 320


def example(text, batch=1, length=5):
    return {
        spec: jnp.ones(tuple({"batch": batch, "length": length}.get(str(s), s) for s in spec.shape), spec.dtype)
        for spec in fx_export.inputs.described_inputs([text])
    }.popitem()[1]


def linen(name, dtype):
    model = getattr(networks_linen, name)(dtype)
    return model, model.init(jax.random.key(0), *map(example, NETWORKS[name]))


@pytest.mark.parametrize("dtype", DTYPES, ids=["float32", "bfloat16"])
@pytest.mark.parametrize("face", ["linen", "nnx"])
@pytest.mark.parametrize("name", NETWORKS)
def test_networks(name, face, dtype, tmp_path):
    if face == "linen":
        model, variables = linen(name, dtype)
    else:
        model, variables = getattr(networks_nnx, name)(dtype, nnx.Rngs(0)), None
    path = fx_export.export(tmp_path / "net", model, variables, NETWORKS[name], format="onnx")
    assert len(fx_export.load(path).verification["trials"]) >= 6
    model = onnx.load(path / "data/model.onnx")
    assert len(model.graph.node) < MOST_NODES
    names = {i.name for i in model.graph.initializer if not i.name.startswith("constant")}
    assert all("/" in n or n[0].isalpha() for n in names)


def test_text_is_continued_by_a_cache_as_in_jax(tmp_path):
    """Prefill is steps of the cache; each token that is chosen is the one that JAX chooses."""
    model = networks_linen.GPT(jnp.float32, decode=True)
    whole = jnp.zeros((2, 16), jnp.int32)
    variables = model.init(jax.random.key(0), whole, whole)
    cache, params = variables["cache"], {"params": variables["params"]}

    def step(variables, cache, token, place):
        logits, new = model.apply({**variables, "cache": cache}, token, place, mutable=["cache"])
        return logits[:, -1].argmax(-1), new["cache"]

    one = np.zeros((2, 1), np.int32)
    path = fx_export.export(tmp_path / "net", step, params, [cache, one, one], format="onnx")
    run, reference = fx_export.load(path), jax.jit(step)
    ours, theirs, token = cache, cache, np.array([[1], [2]], np.int32)
    for place in range(10):
        at = np.full((2, 1), place, np.int32)
        got, ours = run(ours, token, at)
        wanted, theirs = reference(params, theirs, token, at)
        np.testing.assert_array_equal(got, wanted)
        token = np.asarray(got)[:, None].astype(np.int32)
