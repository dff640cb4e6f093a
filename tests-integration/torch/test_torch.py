"""Modules of PyTorch load the weights of both faces and compute the same; PyTorch's own files are read."""

import sys
from pathlib import Path

import fx_nnx as nnx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "export"))
sys.path.insert(0, str(Path(__file__).parent))
import torch_layers
import torch_modules
from fx_export.torch import BundleError, from_torch, read_pt, to_torch

torch.manual_seed(0)
MODULES = torch_modules.modules()


def seen(name, layer, inputs):
    inputs = [torch_layers.last(x) if torch_layers.features_second(name) else jnp.asarray(x) for x in inputs]
    return torch_layers.first(layer(*inputs)) if torch_layers.features_second(name) else layer(*inputs)


@pytest.mark.parametrize("name", MODULES)
def test_modules_load_what_nnx_layers_have(name):
    module, inputs = MODULES[name]
    layer = torch_layers.NNX[name](nnx.Rngs(0))
    keys = iter(jax.random.split(jax.random.key(1), 100))
    noise = lambda x: x + 0.3 * jax.random.uniform(next(keys), x.shape)  # noqa: E731
    nnx.update(layer, jax.tree.map(noise, nnx.state(layer, nnx.Any(nnx.Param, nnx.BatchStat))))
    module.load_state_dict({key: torch.tensor(value) for key, value in to_torch(layer).items()}, strict=True)
    module.eval()
    with torch.no_grad():
        expected = torch_modules.output(module, inputs).numpy()
    np.testing.assert_allclose(seen(name, layer, [x.numpy() for x in inputs]), expected, rtol=2e-5, atol=2e-5)
    again = torch_layers.NNX[name](nnx.Rngs(2))
    from_torch(module.state_dict(), again)
    assert jax.tree.all(jax.tree.map(np.array_equal, nnx.state(layer, nnx.Param), nnx.state(again, nnx.Param)))


def test_files_of_torch_save(tmp_path):
    numbers = torch.arange(6).reshape(2, 3)
    names = "float32 float64 float16 bfloat16 int64 int32 int16 int8 uint8 complex64 uint16 uint32 uint64 float8_e4m3fn"
    state = {name: numbers.to(getattr(torch, name)) for name in names.split()}
    state |= {"bool": torch.tensor([True, False]), "turned": torch.arange(6.0).reshape(2, 3).T}
    state["tied"] = state["weight"] = torch.nn.Parameter(torch.ones(3))
    for protocol in (2, 5):
        torch.save({"model": state, "epoch": 3}, tmp_path / "m.pt", pickle_protocol=protocol)
        found = read_pt(tmp_path / "m.pt")
        assert found["epoch"] == 3
        assert np.shares_memory(found["model"]["tied"], found["model"]["weight"])
        for name, tensor in state.items():
            assert found["model"][name].dtype.name == str(tensor.dtype).removeprefix("torch.")
            np.testing.assert_array_equal(found["model"][name].astype(complex), tensor.detach().to(torch.complex128))
    torch.save(state, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    with pytest.raises(BundleError, match="before PyTorch"):
        read_pt(tmp_path / "old.pt")
    torch.save(torch.nn.Linear(2, 3), tmp_path / "module.pt")
    with pytest.raises(BundleError, match="Linear"):
        read_pt(tmp_path / "module.pt")


def test_tensors_of_bfloat16_are_taken_as_they_are():
    target = {"w": jnp.zeros((2, 3), jnp.bfloat16)}
    found = from_torch({"w": torch.ones(3, 2, dtype=torch.bfloat16).T}, target)
    assert found["w"].dtype == jnp.bfloat16
    assert float(found["w"].sum()) == 6
