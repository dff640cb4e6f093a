import fx_nnx as nnx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fx_core.plugins import registry
from fx_core.testing import CheckpointBackendSuite, ExporterSuite, LinenLayerSuite, NnxLayerSuite, PluginSuite
from fx_core.testing.loggers import LoggerSuite
from fx_demo_plugin import linen_layers, nnx_layers
from fx_demo_plugin.backend import ZipBackend
from fx_demo_plugin.exporter import StableHloExporter
from fx_demo_plugin.logger import TsvLogger
from fx_demo_plugin.ops import maxout
from fx_demo_plugin.variables import Usage


class TestPlugin(PluginSuite):
    distribution = "fx-demo-plugin"


class TestLinenMaxout(LinenLayerSuite):
    def make(self):
        return linen_layers.Maxout(5, pieces=3)


class TestNnxMaxout(NnxLayerSuite):
    def make(self, seed):
        return nnx_layers.Maxout(3, 5, pieces=3, rngs=nnx.Rngs(seed))


class TestZipBackend(CheckpointBackendSuite):
    def make(self):
        return ZipBackend()


class TestStableHloExporter(ExporterSuite):
    def make(self):
        return StableHloExporter()


class TestTsvLogger(LoggerSuite):
    def make(self, directory):
        return TsvLogger(directory)

    def read(self, directory):
        found = {}
        for line in (directory / "log.tsv").read_text().splitlines():
            step, name, value = line.split("\t")
            found.setdefault(int(step), {})[name] = float(value)
        return found or None


def test_maxout_of_two_signs_is_the_absolute_value():
    x = jnp.linspace(-1.0, 1.0, 5).reshape(5, 1)
    kernel = jnp.array([1.0, -1.0]).reshape(1, 2, 1)
    out, wins = maxout(x, kernel, jnp.zeros((2, 1)))
    np.testing.assert_allclose(out, jnp.abs(x))
    assert wins.tolist() == [3.0, 2.0]


def test_both_faces_count_which_piece_wins():
    x = jnp.linspace(-1.0, 1.0, 12).reshape(4, 3)
    layer = linen_layers.Maxout(5, pieces=3)
    variables = layer.init(jax.random.key(0), x)
    _, updated = layer.apply(variables, x, mutable=["demo.usage"])
    assert float(updated["demo.usage"]["counts"].sum()) == 20.0
    other = nnx_layers.Maxout(3, 5, pieces=3, rngs=nnx.Rngs(0))
    other(x)
    assert float(other.usage[...].sum()) == 20.0


def test_the_collection_stands_for_its_variable_type():
    assert registry().collections["demo.usage"].load() is Usage


def test_what_cannot_be_stored_is_refused(tmp_path):
    with pytest.raises(TypeError, match=r"stores arrays, numbers, text and None, not .*object"):
        ZipBackend().save(tmp_path, {"a": object()})
