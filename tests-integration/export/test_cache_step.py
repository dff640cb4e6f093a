"""One step of a GPT with its cache, in the formats of TensorFlow: each token is the one that JAX chooses."""

import fx_export
import jax
import jax.numpy as jnp
import networks_linen
import numpy as np
import pytest

pytest.importorskip("tensorflow")


@pytest.mark.parametrize("format", ["savedmodel", "litert"])
def test_text_is_continued_as_in_jax(format, tmp_path):
    model = networks_linen.GPT(jnp.float32, decode=True)
    whole = jnp.zeros((2, 8), jnp.int32)
    variables = model.init(jax.random.key(0), whole, whole)
    cache, params = variables["cache"], {"params": variables["params"]}

    def step(variables, cache, token, place):
        logits, new = model.apply({**variables, "cache": cache}, token, place, mutable=["cache"])
        return logits[:, -1].argmax(-1), new["cache"]

    one = np.zeros((2, 1), np.int32)
    path = fx_export.export(tmp_path / "net", step, params, [cache, one, one], format=format)
    run, reference = fx_export.load(path), jax.jit(step)
    ours, theirs, token = cache, cache, np.array([[1], [2]], np.int32)
    for place in range(6):
        at = np.full((2, 1), place, np.int32)
        got, ours = run(ours, token, at)
        wanted, theirs = reference(params, theirs, token, at)
        np.testing.assert_array_equal(got, wanted)
        token = np.asarray(got)[:, None].astype(np.int32)
