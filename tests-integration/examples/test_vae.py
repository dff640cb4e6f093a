"""The autoencoder's likelihood is one, its bound rises, its noise is its own, and its pictures can be read."""

import json
import struct
import sys
import zlib

import fx_nnx as nnx
import jax
import jax.numpy as jnp
import numpy as np


def test_shades_have_probabilities_that_add_up_to_one(example):
    network = example("vae", "network")
    logs = network.log_binomial(jnp.arange(17.0)[:, None], jnp.array([[-3.0, 0.0, 2.0]]))
    np.testing.assert_allclose(jnp.exp(logs).sum(0), 1, rtol=1e-5)


def test_the_bound_is_below_the_likelihood_and_tight_where_codes_do_not_matter(example):
    model = example("vae", "network").VAE(rngs=nnx.Rngs(0, noise=1), code=2, hidden=4)
    images = jnp.asarray(np.random.default_rng(0).integers(0, 17, (3, 64)), jnp.float32)
    terms = model.elbo(images, jax.random.key(0))
    assert bool((terms["distance"] >= 0).all())
    np.testing.assert_allclose(terms["elbo"], terms["fit"] - terms["distance"], rtol=1e-6)
    for layer in (model.encoder.layers[-1], model.decoder.layers[0]):
        layer.kernel[...] *= 0
    tight = model.elbo(images, jax.random.key(1))
    np.testing.assert_allclose(tight["distance"], 0, atol=1e-6)
    np.testing.assert_allclose(tight["elbo"], model.elbo(images, jax.random.key(2))["elbo"], rtol=1e-6)


def test_training_raises_the_bound_moves_the_stream_and_draws(example, monkeypatch, tmp_path):
    program = example("vae", "train")
    monkeypatch.setattr(sys, "argv", ["train.py", "--steps", "40", "--directory", str(tmp_path)])
    program.main()
    bounds = [json.loads(line)["elbo"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert bounds[-1] > bounds[0] + 50
    state = program.CheckpointManager(tmp_path / "checkpoints").restore()
    counts = [
        x for path, x in jax.tree_util.tree_leaves_with_path(state) if "noise" in str(path) and "count" in str(path)
    ]
    assert [int(x) for x in counts] == [40]
    for name, height in (("samples.png", 4 * 60), ("restored.png", 2 * 60)):
        content = (tmp_path / name).read_bytes()
        assert struct.unpack_from(">II", content, 16) == (960, height)
        (length,) = struct.unpack_from(">I", content, 33)
        pixels = np.frombuffer(zlib.decompress(content[41 : 41 + length]), np.uint8).reshape(height, 961)
        assert pixels[:, 1:].min() < 60
        assert not pixels[:, 0].any()
