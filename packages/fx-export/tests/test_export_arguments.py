"""Arguments of `fx_export.export` that make no sense, alone or beside others."""

import os

import fx_export
import jax
import numpy as np
import pytest
from fx_core.errors import ArgumentError, ArgumentTypeError, ItemNotFoundError

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


@pytest.mark.parametrize("path", [None, 3, b"net", ["net"]])
def test_paths_of_another_type(tmp_path, path):
    bundle = fx_export.export(tmp_path / "net", predict, WEIGHTS, [X], verify=False)
    for use in (
        lambda: fx_export.export(path, predict, WEIGHTS, [X]),
        lambda: fx_export.load(path),
        lambda: fx_export.load(bundle, compiled=path or 0),
        lambda: fx_export.renew(path),
    ):
        with pytest.raises(ArgumentTypeError, match="A path is a text or a path object"):
            use()


def test_no_name_of_a_directory_for_compiled_programs(tmp_path, monkeypatch):
    bundle = fx_export.export(tmp_path / "net", predict, WEIGHTS, [X], verify=False)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ArgumentTypeError, match="compiled: a directory of yours"):
        fx_export.load(bundle, compiled="")
    assert os.listdir(tmp_path) == ["net"]


@pytest.mark.parametrize("flag", ["overwrite", "verify"])
@pytest.mark.parametrize("value", ["no", None, 0, 1])
def test_flags_are_true_or_false(tmp_path, flag, value):
    entry = fx_export.EntryPoint(predict, [X])
    fx_export.export(tmp_path / "net", predict, WEIGHTS, [X], verify=False)
    for use in (
        lambda: fx_export.export(tmp_path / "net", predict, 2 * WEIGHTS, [X], **{flag: value}),
        lambda: fx_export.export_several(tmp_path / "net", {"a": entry}, 2 * WEIGHTS, **{flag: value}),
    ):
        with pytest.raises(ArgumentTypeError, match=f"{flag}: True or False"):
            use()
    np.testing.assert_array_equal(fx_export.load(tmp_path / "net")(X), X @ WEIGHTS)


@pytest.mark.parametrize("format", [3, None, ["onnx"]])
def test_formats_are_names(tmp_path, format):
    entry = fx_export.EntryPoint(predict, [X])
    for use in (
        lambda: fx_export.export(tmp_path / "net", predict, WEIGHTS, [X], format=format),
        lambda: fx_export.export_several(tmp_path / "net", {"a": entry}, WEIGHTS, format=format),
    ):
        with pytest.raises(ArgumentTypeError, match="format: the name of an exporter"):
            use()


@pytest.mark.parametrize(
    ("entries", "text"),
    [
        (None, "a dictionary of them, whose names"),
        ({}, "a dictionary of them, whose names"),
        ([fx_export.EntryPoint(predict, [X])], "a dictionary of them, whose names"),
        ("ab", "a dictionary of them, whose names"),
        ({"a": (predict, [X])}, "an EntryPoint for 'a'"),
        ({"a": None}, "an EntryPoint for 'a'"),
        ({3: fx_export.EntryPoint(predict, [X])}, "whose names are identifiers"),
        ({"a": fx_export.EntryPoint(predict, [X], call=3)}, "call: a dictionary"),
    ],
)
def test_entry_points_of_another_type(tmp_path, entries, text):
    with pytest.raises(ArgumentTypeError, match=text):
        fx_export.export_several(tmp_path / "net", entries, WEIGHTS)
    assert not os.listdir(tmp_path)


def test_names_and_sizes_of_another_type(tmp_path):
    bundle = fx_export.export(tmp_path / "net", predict, WEIGHTS, ["float32[n, 3]"], verify=False)
    with pytest.raises(ItemNotFoundError, match=r"no entry point \['a'\]"):
        fx_export.load(bundle)[["a"]]
    with pytest.raises(ArgumentError, match="Sizes to compare at are a dictionary"):
        fx_export.renew(bundle, verify_sizes=3)
