"""Bundles compute what was exported, and refuse everything else with reasons."""

import collections
import contextlib
import hashlib
import json
import pickle
import subprocess
import sys
import textwrap

import fx_export
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fx_core.errors import AlreadyExistsError, ArgumentError, DamagedFilesError, FxError, ManifestError
from fx_core.errors.plugins import UnknownEntryError
from fx_core.files import MANIFEST, AtomicDirectory
from fx_core.plugins import Exporter, registry
from fx_export.errors import (
    ArgumentTypeError,
    InputMismatchError,
    PlatformError,
    UncoveredPrimitivesError,
    UnsupportedProgramError,
    VerificationError,
)
from fx_export.stablehlo import StableHLOExporter
from fx_export.weights import named_arrays, read_weights, write_weights

WEIGHTS = {"dense": {"kernel": np.arange(6, dtype=np.float32).reshape(3, 2), "bias": np.ones(2, np.float32)}}
BATCHED = jax.ShapeDtypeStruct(jax.export.symbolic_shape("batch, 3"), jnp.float32)
X = np.linspace(-1, 1, 12, dtype=np.float32).reshape(4, 3)


def predict(variables, x):
    layer = variables["dense"]
    return {"y": jnp.tanh(x @ layer["kernel"] + layer["bias"][None])}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    path = tmp_path_factory.mktemp("bundles") / "net"
    return fx_export.export(path, predict, WEIGHTS, [BATCHED], metadata={"classes": ["a", "b"]})


def copy(bundle, tmp_path):
    """The same bundle, changed by ``change`` and sealed anew: what an attacker who knows the format can do."""

    def changed(change):
        path = tmp_path / "changed"
        with AtomicDirectory(path, format="fx-bundle", version=1) as new:
            (new.directory / "data").mkdir()
            for file in (bundle / "data").iterdir():
                (new.directory / "data" / file.name).write_bytes(file.read_bytes())
            manifest = json.loads((bundle / MANIFEST).read_text())
            new.manifest.update({k: v for k, v in manifest.items() if k not in ("files", "digest")})
            change(new)
        return path

    return changed


def test_a_loaded_bundle_computes_the_same_for_any_batch(bundle):
    loaded = fx_export.load(bundle)
    for size in (1, 4):
        np.testing.assert_array_equal(loaded(X[:size])["y"], jax.jit(predict)(WEIGHTS, X[:size])["y"])
    assert loaded.metadata == {"classes": ["a", "b"]}
    assert loaded.exporter == "stablehlo"
    assert set(loaded.written_by) == {"fx-export", "jax"}
    assert loaded.program.platforms == ("cpu", "cuda", "tpu")


@contextlib.contextmanager
def compilations():
    events = []
    listener = lambda event, *_, **__: events.append(event) if "backend_compile" in event else None  # noqa: E731
    jax.monitoring.register_event_duration_secs_listener(listener)
    try:
        yield events
    finally:
        jax.monitoring.unregister_event_duration_listener(listener)


def test_compiled_programs_are_kept_where_that_is_asked_for(bundle, tmp_path):
    directory = tmp_path / "compiled"
    network = fx_export.load(bundle, compiled=directory)
    for rows in (1, 2, 2):
        np.testing.assert_allclose(network(X[:rows])["y"], predict(WEIGHTS, X[:rows])["y"], rtol=1e-6)
    kept = sorted(directory.iterdir())
    assert len(kept) == 2
    expected = np.asarray(predict(WEIGHTS, X[:2])["y"])
    again = fx_export.load(bundle, compiled=directory)
    with compilations() as events:
        np.testing.assert_allclose(again(X[:2])["y"], expected, rtol=1e-6)
        np.testing.assert_allclose(again(jax.device_put(X[:2]))["y"], expected, rtol=1e-6)
    assert not events
    assert sorted(directory.iterdir()) == kept
    # What is traced has no executable of its own.
    np.testing.assert_allclose(jax.jit(lambda x: again(x)["y"])(X[:2]), expected, rtol=1e-6)
    with pytest.raises(InputMismatchError):
        again(X[:2].astype(np.int32))


@pytest.mark.parametrize(
    ("damage", "text"),
    [(lambda old: old[:-9], "is damaged"), (lambda _: hashlib.sha256(b"text").digest() + b"text", "does not load")],
)
def test_damaged_executables_are_compiled_anew(bundle, tmp_path, damage, text, caplog):
    fx_export.load(bundle, compiled=tmp_path)(X)
    (path,) = tmp_path.iterdir()
    path.write_bytes(damage(path.read_bytes()))
    np.testing.assert_allclose(fx_export.load(bundle, compiled=tmp_path)(X)["y"], predict(WEIGHTS, X)["y"], rtol=1e-6)
    assert text in caplog.text
    caplog.clear()
    with compilations() as events:
        fx_export.load(bundle, compiled=tmp_path)(X)
    assert not events
    assert not caplog.text


def test_executables_that_cannot_be_kept(bundle, tmp_path, caplog):
    network = fx_export.load(bundle, compiled=tmp_path / "compiled")
    (tmp_path / "compiled").rmdir()
    np.testing.assert_allclose(network(X)["y"], predict(WEIGHTS, X)["y"], rtol=1e-6)
    assert "what was compiled is not kept" in caplog.text
    (tmp_path / "compiled").write_text("a file")
    with pytest.raises(AlreadyExistsError, match="a file, where a directory is to be"):
        fx_export.load(bundle, compiled=tmp_path / "compiled")


def test_formats_that_jax_does_not_compile_keep_nothing(tmp_path):
    path = fx_export.export(tmp_path / "net", lambda w, x: x * w, np.float32(2), ["float32[3]"], format="onnx")
    with pytest.raises(ArgumentTypeError, match="JAX compiles none"):
        fx_export.load(path, compiled=tmp_path)


def test_the_index_lists_inputs_outputs_and_weights(bundle):
    index = json.loads((bundle / "data/index.json").read_text())
    assert index["inputs"] == ["float32[batch, 3]"]
    assert index["outputs"] == ["float32[batch, 2]"]
    assert [w["name"] for w in index["weights"]] == ["dense/bias", "dense/kernel"]


def test_loading_needs_no_training_code(bundle):
    program = f"""
        import sys
        import numpy as np
        import fx_export
        y = fx_export.load({str(bundle)!r})(np.ones((2, 3), np.float32))["y"]
        assert y.shape == (2, 2)
        heavy = ("fx_linen", "fx_nnx", "fx_train", "optax", "orbax")
        loaded = [name for name in sys.modules if name.startswith(heavy)]
        assert not loaded, loaded
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(program)], check=True)


def test_inputs_may_be_examples_trees_and_several(tmp_path):
    def fn(w, x, extra):
        return x["a"] * w, extra[0] + 1

    inputs = [{"a": np.ones(3, np.float32)}, [jnp.zeros((2, 2), jnp.bfloat16)]]
    loaded = fx_export.load(fx_export.export(tmp_path / "net", fn, 2.0, inputs, platforms=["cpu"]))
    a, b = loaded(*inputs)
    np.testing.assert_array_equal(a, [2, 2, 2])
    assert b.dtype == jnp.bfloat16


def test_custom_containers_of_weights_are_not_needed_for_loading(tmp_path):
    Weights = collections.namedtuple("Weights", "w")
    path = fx_export.export(tmp_path / "net", lambda v, x: v.w * x, Weights(np.float32(3)), [np.float32(2)])
    assert fx_export.load(path)(np.float32(2)) == 6


@pytest.mark.parametrize("dtype", ["bfloat16", "float8_e4m3fn", "int4", "uint8", "bool"])
def test_weights_of_small_dtypes_and_empty_ones(tmp_path, dtype):
    array = np.array([0, 1, 1]).astype(jnp.dtype(dtype))
    weights = [("a", array), ("b", np.zeros((0, 3), np.float32)), ("c", np.array(2.0, np.float32))]
    index = write_weights(tmp_path / "w", weights)
    for (_, written), read in zip(weights, read_weights(tmp_path / "w", index)):
        assert read.dtype == written.dtype
        assert read.shape == written.shape
        assert read.tobytes() == written.tobytes()


@pytest.mark.parametrize(
    ("inputs", "expected", "got"),
    [
        ((), "1 inputs", "0 inputs"),
        ((X, X), "1 inputs", "2 inputs"),
        ((X.astype(np.float64),), r"float32\[batch, 3\]", r"float64\[4, 3\]"),
        ((X[0],), r"float32\[batch, 3\]", r"float32\[3\]"),
        ((X[:, :2],), r"float32\[batch, 3\]", r"float32\[4, 2\]"),
        (({"x": X},), r"PyTreeDef\(\*\)", "'x'"),
        ((1.0,), r"float32\[batch, 3\]", r"float64\[\]"),
    ],
)
def test_wrong_inputs_say_expected_and_got(bundle, inputs, expected, got):
    with pytest.raises(
        InputMismatchError, match=rf"does not fit the exported network(.|\n)*expected: {expected}"
    ) as error:
        fx_export.load(bundle)(*inputs)
    assert error.match(f"got: (.|\n)*{got}")


def test_inputs_that_share_a_size_must_agree(tmp_path):
    b, n = jax.export.symbolic_shape("b, 2*n")
    specs = [jax.ShapeDtypeStruct((b, n), jnp.float32), jax.ShapeDtypeStruct((b,), jnp.float32)]
    path = fx_export.export(tmp_path / "net", lambda w, x, y: w * x.sum(1) + y, np.float32(1), specs, platforms=["cpu"])
    loaded = fx_export.load(path)
    assert loaded(np.ones((2, 4), np.float32), np.ones(2, np.float32)).shape == (2,)
    with pytest.raises(InputMismatchError, match="where b is 2"):
        loaded(np.ones((2, 4), np.float32), np.ones(3, np.float32))
    with pytest.raises(InputMismatchError, match="all inputs"):
        loaded(np.ones((2, 3), np.float32), np.ones(2, np.float32))


def with_callback(w, x):
    return jax.pure_callback(lambda a: a, jax.ShapeDtypeStruct((3,), jnp.float32), x)


def with_print(w, x):
    jax.debug.print("{}", x)
    return x


def with_custom_output(w, x):
    return collections.namedtuple("Out", "y")(x)


@pytest.mark.parametrize("fn", [with_callback, with_print, with_custom_output])
def test_programs_that_no_file_can_hold(tmp_path, fn):
    with pytest.raises(UnsupportedProgramError, match=r"cannot be exported(.|\n)*Remove callbacks"):
        fx_export.export(tmp_path / "net", fn, {}, [np.ones(3, np.float32)])
    assert list(tmp_path.iterdir()) == []


def test_mistakes_in_the_function_come_out_as_they_are(tmp_path):
    with pytest.raises(ZeroDivisionError):
        fx_export.export(tmp_path / "net", lambda w, x: x / (1 // 0), {}, [np.ones(3, np.float32)])


@pytest.mark.parametrize("weight", ["text", print, jax.random.key(0), np.array(["a"])])
def test_weights_that_are_no_numbers(weight):
    with pytest.raises(ArgumentTypeError, match=r"cannot be exported(.|\n)*a/0"):
        named_arrays({"a": [weight]})


def test_options_are_checked(tmp_path):
    with pytest.raises(ArgumentTypeError, match=r"'stablehlo' does not take this(.|\n)*color"):
        fx_export.export(tmp_path / "net", predict, WEIGHTS, [BATCHED], color="red")
    for platforms in (["toaster"], "cpu", []):
        with pytest.raises(ArgumentTypeError, match="platforms out of cpu, cuda, rocm, tpu"):
            fx_export.export(tmp_path / "net", predict, WEIGHTS, [BATCHED], platforms=platforms)


def test_other_hardware_is_refused(tmp_path):
    path = fx_export.export(tmp_path / "net", predict, WEIGHTS, [BATCHED], platforms=["tpu"])
    with pytest.raises(PlatformError, match=r"made for other platforms(.|\n)*expected: tpu"):
        fx_export.load(path)


def test_a_taken_path_and_overwrite(tmp_path, bundle):
    with pytest.raises(AlreadyExistsError, match="something at this path"):
        fx_export.export(bundle, predict, WEIGHTS, [BATCHED])
    path = fx_export.export(tmp_path / "net", lambda w, x: x, {}, [X])
    fx_export.export(path, lambda w, x: -x, {}, [X], overwrite=True)
    np.testing.assert_array_equal(fx_export.load(path)(X), -X)


def test_what_is_no_bundle_is_never_replaced(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/thesis.tex").write_text("work")
    with AtomicDirectory(tmp_path / "ckpt", format="fx-checkpoint", version=1):
        pass
    for name, found in {"folder": "holds thesis", "ckpt": "not one of a fx-bundle"}.items():
        with pytest.raises(AlreadyExistsError, match=found):
            fx_export.export(tmp_path / name, lambda w, x: x, {}, [X], overwrite=True)
    assert (tmp_path / "folder/thesis.tex").exists()
    assert (tmp_path / "ckpt" / MANIFEST).exists()


def test_places_elsewhere_are_refused_and_home_is_home(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for use in (lambda path: fx_export.export(path, lambda w, x: x, {}, [X]), fx_export.load):
        with pytest.raises(ArgumentError, match="'gs' paths are not on this machine"):
            use("gs://bucket/net")
    path = fx_export.export("~/net", lambda w, x: x, {}, [X])
    assert path == tmp_path / "net"
    assert fx_export.load("~/net").path == path


@pytest.mark.parametrize("inputs", [X, BATCHED, {"x": X}, "x", None])
def test_inputs_are_a_list(tmp_path, inputs):
    with pytest.raises(ArgumentTypeError, match=r"inputs as a list or tuple, one entry for each"):
        fx_export.export(tmp_path / "net", lambda w, x: x, {}, inputs)


def test_a_key_makes_sure_who_wrote_a_bundle(tmp_path, bundle):
    path = fx_export.export(tmp_path / "net", lambda w, x: -x, {}, [X], key=b"ours")
    np.testing.assert_array_equal(fx_export.load(path, key=b"ours")(X), -X)
    np.testing.assert_array_equal(fx_export.load(path)(X), -X)
    with pytest.raises(ManifestError, match=r"not signed with this key(.|\n)*another signature"):
        fx_export.load(path, key=b"theirs")
    with pytest.raises(ManifestError, match=r"not signed with this key(.|\n)*no signature"):
        fx_export.load(bundle, key=b"ours")


def test_a_forged_bundle_keeps_no_signature(tmp_path):
    signed = fx_export.export(tmp_path / "net", lambda w, x: -x, {}, [X], key=b"ours")
    forged = copy(signed, tmp_path)(lambda new: (new.directory / "data/program.bin").write_bytes(b"evil"))
    with pytest.raises(ManifestError, match="not signed with this key"):
        fx_export.load(forged, key=b"ours")


def test_metadata_is_kept_by_the_bundle_and_changes_no_program(tmp_path):
    found = []
    for name, metadata in (("without", {}), ("with", {"classes": ["a", "b"]})):
        (tmp_path / name).mkdir()
        StableHLOExporter().export(tmp_path / name, predict, WEIGHTS, [X], metadata=metadata, platforms=["cpu"])
        found.append({file.name: file.read_bytes() for file in (tmp_path / name).iterdir()})
    assert found[0].keys() == found[1].keys() == {"program.bin", "weights.bin", "index.json"}
    assert found[0]["program.bin"] == found[1]["program.bin"]
    assert found[0]["weights.bin"] == found[1]["weights.bin"]


def test_unknown_exporters_and_bad_metadata(tmp_path):
    with pytest.raises(UnknownEntryError, match="stablehlo"):
        fx_export.export(tmp_path / "net", predict, WEIGHTS, [BATCHED], format="stablehl")
    with pytest.raises(ArgumentError, match="metadata"):
        fx_export.export(tmp_path / "net", predict, WEIGHTS, [BATCHED], metadata={"x": np.ones(2)})


@pytest.mark.parametrize("name", ["data/program.bin", "data/weights.bin", "data/index.json", MANIFEST])
def test_tampering_names_the_file(bundle, tmp_path, name):
    path = copy(bundle, tmp_path)(lambda new: None)
    whole = (path / name).read_bytes()
    for changed in (whole[:-3], whole + b" ", bytes([whole[0] ^ 1]) + whole[1:]):
        (path / name).write_bytes(changed)
        with pytest.raises((DamagedFilesError, ManifestError), match=name):
            fx_export.load(path)
    (path / name).unlink()
    with pytest.raises((DamagedFilesError, ManifestError), match=name):
        fx_export.load(path)


def test_wrong_bundles(bundle, tmp_path):
    with pytest.raises(ManifestError, match="no manifest here"):
        fx_export.load(tmp_path)
    with AtomicDirectory(tmp_path / "ckpt", format="fx-checkpoint", version=1):
        pass
    with pytest.raises(ManifestError, match=r"holds something else(.|\n)*expected: fx-bundle(.|\n)*got: fx-checkpoint"):
        fx_export.load(tmp_path / "ckpt")


def test_the_exporter_comes_through_the_plugin_door():
    entry = registry().exporters["stablehlo"]
    assert entry.load() is StableHLOExporter
    assert isinstance(StableHLOExporter(), Exporter)
    assert entry.origin is not None
    assert entry.origin.distribution == "fx-export"


@pytest.mark.parametrize(
    "error",
    [
        UncoveredPrimitivesError(["fft in a/b, c.py:1 (d)"]),
        VerificationError("It differs.", path="p", expected="1e-4", got="2"),
    ],
)
def test_errors_pickle(error):
    again = pickle.loads(pickle.dumps(error))
    assert isinstance(again, FxError)
    assert str(again) == str(error)
