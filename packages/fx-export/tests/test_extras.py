"""Formats whose runtimes are not installed say what to install; PRNG keys and names at the borders of files."""

import sys

import fx_export
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fx_core.errors.plugins import EntryLoadError
from fx_export.errors import ArgumentTypeError, InputMismatchError
from fx_export.interface import interface_of
from fx_export.verification import verified


@pytest.mark.parametrize(
    ("format", "module", "extra"),
    [("onnx", "onnxruntime", "onnx"), ("savedmodel", "tensorflow", "tf"), ("litert", "tensorflow", "litert")],
)
def test_missing_extras_are_named(format, module, extra, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.delitem(sys.modules, f"fx_export.{format}.runtime", raising=False)
    with pytest.raises(EntryLoadError, match=rf"pip install 'fx-export\[{extra}\]'"):
        fx_export.export(tmp_path / "net", lambda _, x: x, {}, ["float32[2]"], format=format)
    assert list(tmp_path.iterdir()) == []


def draw(variables, key, x):
    first, second = jax.random.split(key)
    return {"key": first, "x": x + jax.random.uniform(second, x.shape)}


@pytest.mark.parametrize("format", ["onnx", "stablehlo"])
def test_typed_keys_are_inputs_and_outputs(format, tmp_path):
    key, x = jax.random.key(1), np.ones(3, np.float32)
    path = fx_export.export(tmp_path / "net", draw, None, [key, x], format=format)
    loaded = fx_export.load(path)
    got, expected = loaded(key, x), jax.jit(draw)(None, key, x)
    assert got["key"].dtype == key.dtype
    assert jax.random.key_data(got["key"]).tolist() == jax.random.key_data(expected["key"]).tolist()
    np.testing.assert_allclose(got["x"], expected["x"], rtol=1e-6)
    with pytest.raises(InputMismatchError, match="key<fry>"):
        loaded(jax.random.key_data(key), x)


def test_verification_draws_keys():
    seen = []
    verified(lambda key, x: seen.append(key) or draw(None, key, x), draw, None, [jax.random.key(0), jnp.ones(2)])
    words = {tuple(jax.random.key_data(key).tolist()) for key in seen}
    assert len(words) == 3


def test_names_of_inputs_and_outputs_are_as_many_as_there_are():
    inputs = [{"a": jnp.ones(2), "b": jnp.ones(3)}]

    def fn(variables, x):
        return x["a"], {"c": x["b"]}

    found = interface_of(fn, {}, inputs)
    assert [port.name for port in found.inputs] == ["input/a", "input/b"]
    assert [port.name for port in found.outputs] == ["output/0", "output/1/c"]
    for names in (["x"], ["x", "x"]):
        with pytest.raises(ArgumentTypeError, match=r"2 different names, for input/a, input/b"):
            interface_of(fn, {}, inputs, names)
