"""The network of examples/gpt in one bundle: reading a prompt, and a step; the text is that of JAX, token by token."""

import sys
from pathlib import Path

import fx_export
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fx_export import EntryPoint

sys.path.insert(0, str(Path(__file__).parents[2] / "examples/gpt"))
import data
import network

LENGTH = 24
MODEL = network.GPT(layers=2, features=16, heads=2, length=LENGTH, decode=True)


@pytest.fixture(scope="module")
def params():
    """Of a network that was trained for a moment on the text of the example, so that tokens differ in likelihood."""
    writer = MODEL.clone(decode=False)
    text = data.windows(data.encode(data.load()[:20_000]), LENGTH)

    def loss(params, x, y):
        logits = jax.nn.log_softmax(writer.apply(params, x))
        return -jnp.take_along_axis(logits, y[..., None], -1).mean()

    @jax.jit
    def train(params, batches):
        def step(params, batch):
            value, slope = jax.value_and_grad(loss)(params, *batch)
            return jax.tree.map(lambda p, g: p - 0.01 * jnp.sign(g), params, slope), value

        return jax.lax.scan(step, params, batches)

    batches = [text[name][:800].reshape(50, 16, LENGTH) for name in ("x", "y")]
    params, losses = train(writer.init(jax.random.key(0), batches[0][0]), batches)
    assert losses[-1] < 0.8 * losses[0]
    return params


def empty(batch):
    """The cache before the first token."""
    known = jax.eval_shape(lambda: MODEL.init(jax.random.key(0), jnp.zeros((1, LENGTH), jnp.int32)))["cache"]
    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct((batch, *x.shape[1:]) if x.ndim > 1 else x.shape, x.dtype), known
    )


def step(variables, cache, tokens):
    logits, new = MODEL.apply({**variables, "cache": cache}, tokens, mutable=["cache"])
    return logits[:, -1], new["cache"]


def prefill(variables, tokens):
    cache = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), empty(tokens.shape[0]))
    return step(variables, cache, tokens)


def entry_points():
    (batch,) = jax.export.symbolic_shape("batch")
    # The step is at one place: its cache comes from the prompt or from the step before.
    return {
        "prefill": EntryPoint(
            prefill,
            ["tokens:int32[batch, length]"],
            constraints=[f"length <= {LENGTH}"],
            verify_sizes={"length": [1, 7]},
        ),
        "decode": EntryPoint(step, [empty(batch), jax.ShapeDtypeStruct((batch, 1), jnp.int32)]),
    }


def generated(first, following, prompt, count):
    logits, cache = first(prompt)
    tokens = []
    for _ in range(count):
        tokens.append(np.asarray(logits).argmax(-1))
        logits, cache = following(cache, tokens[-1][:, None].astype(np.int32))
    return np.stack(tokens, 1)


FORMATS = {
    "stablehlo": {"verify": False},
    "onnx": {},
    "savedmodel": {"verify": False, "platforms": ["cpu"]},
    "litert": {"verify": False, "sizes": {"batch": 2, "length": 9}},
}
NEEDED = {"savedmodel": ["tensorflow"], "litert": ["tensorflow", "ai_edge_litert"]}


@pytest.mark.parametrize("format", FORMATS)
def test_the_text_is_that_of_jax(format, params, tmp_path):
    for package in NEEDED.get(format, []):
        pytest.importorskip(package)
    path = fx_export.export_several(tmp_path / "gpt", entry_points(), params, format=format, **FORMATS[format])
    loaded = fx_export.load(path)
    first, following = jax.jit(lambda *x: prefill(params, *x)), jax.jit(lambda *x: step(params, *x))
    # LiteRT has no free sizes.
    for batch, length in ((1, 1), (2, 9))[int(format == "litert") :]:
        prompt = np.stack([data.encode(text[:length]) for text in ("def class", "with open")[:batch]])
        expected = generated(first, following, prompt, 12)
        got = generated(loaded["prefill"], loaded["decode"], prompt, 12)
        np.testing.assert_array_equal(got, expected)
        assert data.decode(got[0]) == data.decode(expected[0])
    if format == "stablehlo":
        assert (path / "data/weights.bin").stat().st_size < 1.3 * sum(x.nbytes for x in jax.tree.leaves(params))
