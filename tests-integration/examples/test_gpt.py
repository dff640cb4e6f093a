"""The GPT writes with a cache what it would write without, and trains alike on one device, eight, and two processes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

GPT = Path(__file__).resolve().parents[2] / "examples" / "gpt"
TRAIN = [str(GPT / "train.py"), "--steps", "6", "--batch", "8", "--directory"]


@pytest.fixture
def small(example):
    """A small network, parameters that are far from uniform, tokens (2, 12) and the logits of the whole."""
    network = example("gpt", "network").GPT(layers=2, features=16, heads=2, length=12)
    tokens = jax.random.randint(jax.random.key(0), (2, 12), 0, 96)
    params = jax.jit(network.init)(jax.random.key(1), tokens)["params"]
    params = jax.tree.map(lambda x: 3 * x, params)
    return network, params, tokens, network.apply({"params": params}, tokens)


@pytest.mark.parametrize(
    "pieces", [[1] * 12, [12], [5] + [1] * 7, [4, 3, 5]], ids=["steps", "whole", "prompt", "parts"]
)
def test_logits_with_a_cache_are_those_of_the_whole_text(small, pieces):
    network, params, tokens, expected = small
    model = network.clone(decode=True)
    cache = jax.tree.map(jnp.zeros_like, model.init(jax.random.key(0), tokens)["cache"])
    found, start = [], 0
    for count in pieces:
        part = tokens[:, start : start + count]
        logits, updates = model.apply({"params": params, "cache": cache}, part, mutable=["cache"])
        found.append(logits)
        cache, start = updates["cache"], start + count
    np.testing.assert_allclose(np.concatenate(found, axis=1), expected, rtol=1e-4, atol=1e-4)
    assert float(jnp.std(expected)) > 0.5
    # The order matters to this network, so a cache that mixed places up would be seen.
    assert not np.allclose(network.apply({"params": params}, tokens[:, ::-1])[:, -1], expected[:, -1], atol=1e-2)


def test_written_text_is_what_the_whole_text_suggests(small, example):
    network, params, *_ = small
    sample, data = example("gpt", "sample"), example("gpt", "data")
    text = sample.sample(network, params, "def ", 8, jax.random.key(0), temperature=1e-6)
    assert text.startswith("def ")
    likeliest = network.apply({"params": params}, jnp.asarray(data.encode(text))[None])[0].argmax(-1)
    assert data.decode(np.asarray(likeliest))[3:-1] == text[4:]
    with pytest.raises(ValueError, match="room for 1 to 12 characters, got a prompt of 4 and count=9"):
        sample.sample(network, params, "def ", 9, jax.random.key(0))
    with pytest.raises(ValueError, match="printable ASCII and line ends only"):
        sample.sample(network, params, "dëf", 1, jax.random.key(0))


def test_experts_of_a_plugin_take_the_place_of_the_perceptrons(example):
    network = example("gpt", "network").GPT(layers=1, features=8, heads=2, length=12, experts=2)
    train, tokens = example("gpt", "train"), jnp.arange(24).reshape(2, 12)
    state = train.create(network, jax.random.key(0), steps=2)
    assert set(state.params["block_0"]["experts"]) == {"router", "up", "down"}
    each, more = train.losses(network, state.params, {"x": tokens, "y": tokens})
    assert each.shape == (2, 12)
    assert more >= 1.0
    text = example("gpt", "sample").sample(network, state.params, "def ", 4, jax.random.key(0))
    assert len(text) == 8


def run(arguments, devices):
    env = {**os.environ, "JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": str(devices), "XLA_FLAGS": ""}
    done = subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, env=env, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def numbers(directory):
    last = json.loads((directory / "metrics.jsonl").read_text().splitlines()[-1])
    assert last["step"] == 6
    return [last[name] for name in ("loss", "grad_norm", "eval/perplexity")]


@pytest.fixture(scope="module")
def on_one_device(tmp_path_factory):
    directory = tmp_path_factory.mktemp("one")
    assert "perplexity" in run([*TRAIN, str(directory)], 1)
    return numbers(directory)


def test_eight_devices_compute_what_one_does(tmp_path, on_one_device):
    run([*TRAIN, str(tmp_path), "--mesh", "data:-1,model:2", "--layout", "tensor"], 8)
    np.testing.assert_allclose(numbers(tmp_path), on_one_device, rtol=1e-3)


def test_two_processes_compute_what_one_does_and_anyone_goes_on_from_their_checkpoint(tmp_path, on_one_device):
    run(["-m", "fx_train.distributed.launch", "--processes", "2", *TRAIN, str(tmp_path)], 4)
    np.testing.assert_allclose(numbers(tmp_path), on_one_device, rtol=1e-3)
    text = run([str(GPT / "sample.py"), "--directory", str(tmp_path), "--prompt", "The ", "--count", "20"], 1)
    assert text.startswith("The ")
    assert len(text) == 25
