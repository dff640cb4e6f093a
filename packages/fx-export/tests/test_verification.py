"""What was exported is run and compared with the model before anything appears on disk."""

import fx_export
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fx_core.errors import ArgumentTypeError
from fx_core.plugins import ExporterEntry, ModelEntry, hookimpl, registry
from fx_export.errors import ArgumentError, UnsupportedProgramError, VerificationError
from fx_export.inputs import described_inputs
from fx_export.stablehlo import StableHLOExporter
from fx_export.verification import verified


def double(variables, x):
    return {"y": x * variables}


def test_the_manifest_tells_what_was_compared(tmp_path):
    path = fx_export.export(tmp_path / "net", double, np.float32(2), ["float32[batch, length]"])
    found = fx_export.load(path).verification
    assert found["max_relative_error"] == 0
    assert found["trials"][:3] == [f"{kind} inputs, batch=1, length=1" for kind in ("random", "zeros", "large")]
    assert len(found["trials"]) == 9


def test_sizes_can_be_named_and_those_that_break_a_constraint_are_refused(tmp_path):
    settings = {"inputs": ["float32[length]"], "constraints": ["length >= 3"]}
    path = fx_export.export(tmp_path / "net", double, np.float32(2), verify_sizes={"length": [7]}, **settings)
    trials = fx_export.load(path).verification["trials"]
    assert trials == [f"{kind} inputs, length=7" for kind in ("random", "zeros", "large")]
    with pytest.raises(ArgumentError, match="cannot be compared at length=1"):
        fx_export.export(tmp_path / "b", double, np.float32(2), verify_sizes={"length": [1, 7]}, **settings)


def scanned(variables, x):
    return jax.lax.scan(lambda carry, _: (carry * 2, carry), variables, None, length=x.shape[0])


def as_a_number(variables, x):
    return x + np.zeros(x.shape[0])


def reflected(variables, x):
    return jax.numpy.pad(x, ((2, 0),), mode="reflect") * variables


@pytest.mark.parametrize("fn", [scanned, as_a_number, reflected])
@pytest.mark.parametrize("format", ["stablehlo", "onnx"])
def test_sizes_that_cannot_stay_free_are_told_with_their_place(fn, format, tmp_path):
    with pytest.raises(UnsupportedProgramError, match="A size cannot stay free here") as caught:
        fx_export.export(tmp_path / "net", fn, np.float32(2), ["float32[length]"], format=format)
    line = fn.__code__.co_firstlineno + 1
    assert caught.value.path == f"{fn.__name__} (test_verification.py:{line})"
    assert not list(tmp_path.iterdir())


def test_no_verification(tmp_path):
    path = fx_export.export(tmp_path / "net", double, np.float32(2), [np.float32(1)], verify=False)
    assert fx_export.load(path).verification is None


class Wrong(StableHLOExporter):
    def export(self, directory, fn, variables, inputs, *, metadata):
        super().export(directory, lambda v, x: {"y": fn(v, x)["y"] + 0.5}, variables, inputs, metadata=metadata)


class Scaled:
    factor = np.float32(5)

    def doubled(self, variables, x):
        return 2 * x * variables["factor"]


class Scaler(Scaled):
    """A model that inherits a method of all models, which is a function of the variables like any other."""

    def tripled(self, variables, x):
        return 3 * x * variables["factor"]


def scaled_as_function(model, variables, *, method=None, **call):
    fn = getattr(model, method) if method else lambda v, x: {"y": x * v["factor"]}
    return fn, {"factor": model.factor} if variables is None else variables


class Plugin:
    @hookimpl
    def fx_exporters(self):
        return [ExporterEntry(name="test.wrong", target="test_verification:Wrong", summary="Adds a half")]

    @hookimpl
    def fx_models(self):
        own = f"{Scaled.__module__}:{Scaled.__qualname__}"
        target = "test_verification:scaled_as_function"
        return [ModelEntry(name="test.scaled", target=target, summary="A model", type=own)]


@pytest.fixture
def plugin():
    registry().register(Plugin(), name="test")
    yield
    registry().unregister("test")


def test_a_wrong_export_leaves_nothing_behind(plugin, tmp_path):
    with pytest.raises(VerificationError, match="random inputs, n=1"):
        fx_export.export(tmp_path / "net", double, np.float32(2), ["float32[n]"], format="test.wrong")
    assert list(tmp_path.iterdir()) == []


def test_models_of_plugins(plugin, tmp_path):
    path = fx_export.export(tmp_path / "net", Scaled(), inputs=["float32[n]"])
    np.testing.assert_array_equal(fx_export.load(path)(np.ones(2, np.float32))["y"], [5, 5])


def test_methods_of_models_are_models(plugin, tmp_path):
    path = fx_export.export(tmp_path / "net", Scaled().doubled, inputs=["float32[n]"])
    np.testing.assert_array_equal(fx_export.load(path)(np.ones(2, np.float32)), [10, 10])
    path = fx_export.export(tmp_path / "own", Scaler().tripled, inputs=["float32[n]"])
    np.testing.assert_array_equal(fx_export.load(path)(np.ones(2, np.float32)), [15, 15])
    path = fx_export.export(tmp_path / "given", Scaler().doubled, {"factor": np.float32(2)}, inputs=["float32[n]"])
    np.testing.assert_array_equal(fx_export.load(path)(np.ones(2, np.float32)), [4, 4])


@pytest.mark.parametrize(
    ("program", "text"),
    [
        (lambda x: {"y": x * 2 + 0.5}, "a relative difference of at most 0.0001"),
        (lambda x: {"y": x * np.nan}, "got: a difference of inf"),
        (lambda x: {"y": x[:1]}, r"expected: float32\(2,\)"),
        (lambda x: {"y": (x * 2).astype(np.float64)}, r"got: float64\(2,\)"),
        (lambda x: {"y": x, "z": x}, "expected: 1 arrays"),
    ],
)
def test_other_results_are_errors(program, text):
    x = jax.ShapeDtypeStruct((2,), jnp.float32)
    with pytest.raises(VerificationError, match=rf"something else than the model(.|\n)*{text}"):
        verified(program, double, np.float32(2), [x])


def test_a_larger_tolerance_lets_them_pass():
    x = jax.ShapeDtypeStruct((2,), jnp.float32)
    found = verified(lambda x: {"y": np.asarray(x) * 2 + 1e-2}, double, np.float32(2), [x], tolerance=0.1)
    assert 0.009 < found["max_absolute_error"] < 0.011


def test_integers_are_drawn_from_the_range_of_an_example():
    seen = []
    verified(lambda x: seen.append(x) or x, lambda v, x: x, None, [np.array([3, 9], np.int32)])
    assert all(x.min() >= 3 for x in seen if x.any())


@pytest.mark.parametrize("text", ["float32", "float31[2]", "float32[a b]", "float32[2", "object[2]"])
def test_malformed_descriptions(text):
    with pytest.raises(ArgumentError, match=r"describes no input(.|\n)*float32\[batch, 28, 28, 1\]"):
        described_inputs([text])


def test_what_is_no_model(tmp_path):
    with pytest.raises(ArgumentTypeError, match=r"cannot be exported(.|\n)*got: int"):
        fx_export.export(tmp_path / "net", 3, {}, ["float32[2]"])


def test_a_training_state_is_its_function_with_its_variables(tmp_path):
    class State:
        params = {"w": np.float32(3)}  # noqa: RUF012
        batch_stats = {"m": np.float32(1)}  # noqa: RUF012

        @staticmethod
        def apply_fn(variables, x, train):
            assert not train
            return x * variables["params"]["w"] + variables["batch_stats"]["m"]

    path = fx_export.export(tmp_path / "net", State(), inputs=["float32[2]"], call={"train": False})
    np.testing.assert_array_equal(fx_export.load(path)(np.ones(2, np.float32)), [4, 4])


def test_a_training_state_may_keep_its_other_collections_together(tmp_path):
    class State:
        params = {"w": np.float32(3)}  # noqa: RUF012
        variables = {"batch_stats": {"m": np.float32(1)}, "own": {"n": np.float32(2)}}  # noqa: RUF012

        @staticmethod
        def apply_fn(variables, x):
            return x * variables["params"]["w"] + variables["batch_stats"]["m"] * variables["own"]["n"]

    path = fx_export.export(tmp_path / "net", State(), inputs=["float32[2]"])
    np.testing.assert_array_equal(fx_export.load(path)(np.ones(2, np.float32)), [5, 5])


NIBBLES = np.asarray(jnp.ones((1, 3), jnp.int4))


@pytest.mark.parametrize(
    ("fn", "inputs"),
    [
        (lambda _, x: x.astype(jnp.int32), [NIBBLES]),
        (lambda _, x: x.astype(jnp.int4), ["float32[1, 3]"]),
        (lambda _, x: {}, ["float32[1, 3]"]),
    ],
    ids=["fed", "computed", "nothing"],
)
@pytest.mark.parametrize("several", [False, True], ids=["one", "several"])
def test_what_the_runtime_does_not_take_is_no_bundle(fn, inputs, several, tmp_path):
    text = r"The runtime of this format does not take what was written\.(.|\n)*got: .(.|\n)*to another format"
    given = [{"f": fx_export.EntryPoint(fn, inputs)}] if several else [fn, None, inputs]
    with pytest.raises(UnsupportedProgramError, match=text):
        (fx_export.export_several if several else fx_export.export)(tmp_path / "net", *given, format="onnx")
    assert not list(tmp_path.iterdir())


def test_dtypes_that_jax_does_not_write_are_no_bundle(tmp_path):
    with pytest.raises(UnsupportedProgramError, match="int2"):
        fx_export.export(tmp_path / "net", lambda _, x: x, None, [np.asarray(jnp.ones(3, jnp.int2))])
