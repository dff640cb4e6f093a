"""Arguments of `fx_export.export` that make no sense, alone or beside others."""

import fx_export
import jax
import numpy as np
import pytest
from fx_core.errors import ArgumentError, ArgumentTypeError

X, WEIGHTS = np.ones((2, 3), np.float32), np.ones((3, 2), np.float32)


def predict(weights, x):
    return x @ weights


@pytest.mark.parametrize("format", ["stablehlo", "onnx"])
def test_free_sizes_of_several_scopes_are_refused(tmp_path, format):
    specs = [jax.ShapeDtypeStruct(jax.export.symbolic_shape("batch"), np.float32) for _ in range(2)]
    for inputs in (specs, [specs[0], "float32[batch]"]):
        with pytest.raises(ArgumentError, match="free sizes of the inputs are of several scopes"):
            fx_export.export(tmp_path / "net", lambda _, x, y: x + y, {}, inputs, format=format)
    scope = jax.export.SymbolicScope()
    specs = [jax.ShapeDtypeStruct(jax.export.symbolic_shape("batch", scope=scope), np.float32) for _ in range(2)]
    fx_export.export(tmp_path / "net", lambda _, x, y: x + y, {}, specs, format=format)


@pytest.mark.parametrize("key", [b"", "text"])
def test_keys_that_protect_nothing_are_refused(tmp_path, key):
    bundle = fx_export.export(tmp_path / "net", predict, WEIGHTS, [X], verify=False)
    for use in (
        lambda: fx_export.load(bundle, key=key),
        lambda: fx_export.export(tmp_path / "a", predict, WEIGHTS, [X], key=key),
    ):
        with pytest.raises(ArgumentTypeError, match="A key that signs is bytes, and not empty"):
            use()
    assert [path.name for path in tmp_path.iterdir()] == ["net"]


@pytest.mark.parametrize("option", [{"metadata": "text"}, {"metadata": [1]}, {"call": 3}])
def test_options_that_are_dictionaries(tmp_path, option):
    with pytest.raises(ArgumentTypeError, match=f"{next(iter(option))}: a dictionary"):
        fx_export.export(tmp_path / "net", predict, WEIGHTS, ["float32[n, 3]"], **option)
    assert not list(tmp_path.iterdir())
