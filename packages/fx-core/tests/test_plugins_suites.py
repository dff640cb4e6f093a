"""The suites pass what is right and fail what is wrong."""

import json
import math
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fx_core.testing import (
    CheckpointBackendSuite,
    ExporterSuite,
    LinenLayerSuite,
    LoggerSuite,
    NnxLayerSuite,
    PluginSuite,
)
from fx_core.testing.states import array_of, describe_difference


class TestFxCore(PluginSuite):
    distribution = "fx-core"


class JsonLines:
    def __init__(self, directory):
        self.file = (directory / "log.jsonl").open("w")

    def log(self, step, metrics):
        print(json.dumps([step, dict(metrics)]), file=self.file)

    def close(self):
        self.file.close()


class TestJsonLines(LoggerSuite):
    def make(self, directory):
        return JsonLines(directory)

    def read(self, directory):
        lines = (directory / "log.jsonl").read_text().splitlines()
        return dict(map(json.loads, lines))


class InMemory:
    """An exporter that keeps compiled functions in memory, as jax.export needs more than fx-core declares."""

    programs: ClassVar[dict] = {}

    def export(self, directory, fn, variables, inputs, *, metadata):
        frozen = jax.tree.map(jnp.array, variables)
        (directory / "metadata").write_text(json.dumps(metadata))
        self.programs[directory] = jax.jit(lambda *args: fn(frozen, *args))

    def load(self, directory):
        return self.programs[directory]


class TestInMemory(ExporterSuite):
    def make(self):
        return InMemory()


class Scale:
    """A layer in the style of Linen, with what the suite needs of one."""

    def init(self, rngs, x):
        return {"params": {"scale": jax.random.normal(rngs["params"], x.shape[-1:])}, "stats": {"calls": jnp.zeros(())}}

    def apply(self, variables, x, *, rngs, mutable):
        assert mutable
        assert rngs
        out = x * jnp.broadcast_to(variables["params"]["scale"], x.shape)
        return out, {**variables, "stats": {"calls": variables["stats"]["calls"] + 1}}

    def __eq__(self, other):
        return type(self) is type(other)

    def __hash__(self):
        return 1


class TestScale(LinenLayerSuite):
    def make(self):
        return Scale()


@jax.tree_util.register_pytree_node_class
class Shift:
    """A layer in the style of NNX: a pytree that is called."""

    def __init__(self, bias):
        self.bias = bias

    def __call__(self, x):
        return x + jnp.broadcast_to(self.bias, x.shape)

    def tree_flatten(self):
        return [self.bias], None

    @classmethod
    def tree_unflatten(cls, _, leaves):
        return cls(*leaves)


class TestShift(NnxLayerSuite):
    def make(self, seed):
        return Shift(jax.random.normal(jax.random.key(seed), (3,)))


class Forgetful:
    """A backend that keeps nothing but shapes in memory, and is wrong in several ways."""

    saved = None

    def save(self, directory, state):
        (directory / "file").touch()
        Forgetful.saved = state

    def restore(self, directory, like=None):
        return jax.tree.map(lambda leaf: np.zeros(np.shape(leaf)), Forgetful.saved)


class ForgetfulSuite(CheckpointBackendSuite):
    def make(self):
        return Forgetful()


@pytest.mark.parametrize(
    "name",
    ["every_dtype_to_the_bit", "what_comes_back_is_independent_of_the_files", "restoring_from_nothing_raises"],
)
def test_the_backend_suite_finds_a_wrong_backend(tmp_path, name):
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        getattr(ForgetfulSuite(), f"test_{name}")(tmp_path)


def test_the_layer_suites_find_wrong_layers():
    class Impure(Scale):
        calls = 0

        def apply(self, variables, x, *, rngs, mutable):
            Impure.calls += 1
            return x * Impure.calls, variables

    class ImpureSuite(LinenLayerSuite):
        def make(self):
            return Impure()

    class SeedlessSuite(NnxLayerSuite):
        seeds = iter(range(100))

        def make(self, seed):
            return Shift(jnp.full(3, float(next(self.seeds))))

    with pytest.raises(AssertionError, match="outputs differ"):
        ImpureSuite().test_apply_is_a_function()
    with pytest.raises(AssertionError, match="outputs differ"):
        SeedlessSuite().test_the_same_seed_gives_the_same_layer()


def counts_in_less_precision(self, x):
    self.bias = (self.bias + 1).astype(jnp.bfloat16)
    return x


def overflows_in_less_precision(self, x):
    return x / (0 if x.dtype == jnp.bfloat16 else 1)


def ignores_all_with_a_mask(self, x, mask=None):
    return x if mask is None else x * 0


BROKEN = {
    "compiled_equals_eager": lambda self, x: x + np.asarray(x).sum(),
    "shapes_are_known_without_computing": lambda self, x: x[: int(x.sum())],
    "a_call_keeps_the_form_of_its_variables": counts_in_less_precision,
    "scan_equals_a_loop": counts_in_less_precision,
    "gradients_are_finite": lambda self, x: x * jnp.sqrt(jnp.sum(self.bias * 0)),
    "vmap_equals_one_after_the_other": lambda self, x: jax.pure_callback(np.abs, x, x),
    "arrays_of_the_host_do_as_well": lambda self, x: x + self.bias.at[0].get(),
    "inputs_of_less_precision_stay_finite": overflows_in_less_precision,
    "a_full_mask_changes_nothing": ignores_all_with_a_mask,
    "output_is_finite": lambda self, x: x / 0,
}


@pytest.mark.parametrize("name", BROKEN)
def test_the_suite_of_nnx_layers_finds_broken_layers(name):
    def make(call):
        kind = jax.tree_util.register_pytree_node_class(type("Broken", (Shift,), {"__call__": call}))
        suite = type("Suite", (NnxLayerSuite,), {"make": lambda self, seed: kind(jnp.arange(1.0, 4.0))})
        return getattr(suite(), f"test_{name}")

    make(lambda self, x, mask=None: x * jnp.broadcast_to(self.bias, x.shape))()
    with pytest.raises(
        (AssertionError, TypeError, AttributeError, jax.errors.JAXTypeError, NotImplementedError, ValueError)
    ):
        make(BROKEN[name])()


def test_the_suite_of_linen_layers_finds_a_mask_that_is_misread():
    class Masked(Scale):
        def __call__(self, x, mask=None):
            raise NotImplementedError

        def apply(self, variables, x, *, rngs, mutable, mask=None):
            out, updated = super().apply(variables, x, rngs=rngs, mutable=mutable)
            return out if mask is None else jnp.where(mask, 0, out), updated

    suite = type("Suite", (LinenLayerSuite,), {"make": lambda self: Masked()})()
    with pytest.raises(AssertionError, match="outputs differ"):
        suite.test_a_full_mask_changes_nothing()


@pytest.mark.parametrize("suite", [CheckpointBackendSuite, ExporterSuite, LinenLayerSuite])
def test_a_suite_without_make_says_so(suite):
    with pytest.raises(TypeError, match="does not say how to make its"):
        suite().make()
    with pytest.raises(TypeError, match="does not say how to make its layer"):
        NnxLayerSuite().make(0)
    with pytest.raises(TypeError, match="does not say how to make its logger"):
        LoggerSuite().make(None)


def test_a_plugin_that_is_not_installed_says_so():
    class Absent(PluginSuite):
        distribution = "acme-absent"

    with pytest.raises(AssertionError, match="'acme-absent' is not installed or has no entry point"):
        Absent().sources()


@pytest.mark.parametrize(
    ("expected", "got", "text"),
    [
        ({"a": 1}, {"a": 1}, None),
        ({"a": math.nan}, {"a": math.nan}, None),
        ({"a": np.array([math.nan])}, {"a": jnp.array([math.nan], jnp.float32)}, "float64"),
        ({"a": np.array([0.0])}, {"a": np.array([-0.0])}, "/a: expected"),
        ({"a": 1}, {"a": 1.0}, "(float)"),
        ({"a": {}}, {"a": None}, "expected a dict"),
        ({"a": 1}, {}, "expected keys ['a']"),
        ({"a": np.zeros(2)}, {"a": 0.0}, "expected an array"),
        ({"a": np.zeros(2)}, {"a": np.zeros((2, 1))}, "(2, 1)"),
    ],
)
def test_differences_are_described(expected, got, text):
    found = describe_difference(expected, got)
    assert (found is None) if text is None else (text in found)


def test_arrays_of_floats_hold_what_is_easily_lost():
    values = array_of(np.float32)
    assert np.signbit(values[0, 1])
    assert np.isnan(values[0, 2])
    assert array_of(np.bool_).dtype == np.bool_
