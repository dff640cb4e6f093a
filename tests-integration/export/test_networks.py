"""The usual networks of both faces run in ONNX Runtime as they do in JAX, with free batch and length."""

import fx_export
import jax
import jax.numpy as jnp
import networks_linen
import numpy as np
import onnx
import pytest
from networks import NETWORKS, network

DTYPES = [jnp.float32, jnp.bfloat16]
# Written out, these networks have some hundred operators, half of them casts of parameters in bfloat16.
MOST_NODES = 320


@pytest.mark.parametrize("dtype", DTYPES, ids=["float32", "bfloat16"])
@pytest.mark.parametrize("face", ["linen", "nnx"])
@pytest.mark.parametrize("name", NETWORKS)
def test_networks(name, face, dtype, tmp_path):
    model, variables = network(face, name, dtype)
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
