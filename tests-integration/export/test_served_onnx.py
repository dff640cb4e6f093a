"""An ONNX model is served by ONNX Runtime alone, weights beside it included."""

import subprocess
import sys
from pathlib import Path

import fx_export
import fx_linen as nn
import jax
import numpy as np
import pytest

pytest.importorskip("onnxruntime")


class Network(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Conv(3, (3, 3))(x))
        return {"logits": nn.Dense(4)(nn.LayerNorm()(x.mean((1, 2)))), "largest": x.max((1, 2, 3))}


@pytest.mark.parametrize("external_bytes", [1 << 30, 0], ids=["one file", "weights beside it"])
def test_a_process_without_jax_and_fx_serves_it(external_bytes, tmp_path):
    network, image = Network(), np.random.default_rng(0).normal(size=(5, 6, 6, 2)).astype(np.float32)
    variables = jax.jit(network.init)(jax.random.key(0), image)
    inputs = ["image:float32[batch, 6, 6, 2]"]
    path = tmp_path / "net"
    fx_export.export(path, network, variables, inputs, format="onnx", external_bytes=external_bytes)
    np.savez(tmp_path / "inputs.npz", image=image)
    served = Path(__file__).with_name("served.py")
    arguments = ["onnx", path / "data/model.onnx", tmp_path / "inputs.npz", tmp_path / "outputs.npz"]
    done = subprocess.run(
        [sys.executable, served, *arguments], check=False, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    with np.load(tmp_path / "outputs.npz") as results:
        assert len(results) == 2
        for name, expected in network.apply(variables, image).items():
            np.testing.assert_allclose(results[f"output/{name}"], expected, rtol=1e-4, atol=1e-5)


def test_what_a_server_does_not_have_is_refused(tmp_path):
    served = Path(__file__).with_name("served.py")
    program = "import sys, served; sys.meta_path.insert(0, served.Blocker())\nimport fx_export"
    done = subprocess.run(
        [sys.executable, "-c", program], check=False, capture_output=True, text=True, cwd=served.parent
    )
    assert "fx_export is not there" in done.stderr
