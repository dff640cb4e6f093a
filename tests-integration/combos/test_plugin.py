"""The demo plugin beside everything: each of its entries is found by name and works with ours."""

import fx_ckpt
import fx_export
import jax.numpy as jnp
import numpy as np
from fx_core.plugins import registry


def test_entries_are_listed_with_their_distribution():
    names = {"demo.Maxout", "demo.usage", "demo.zip", "demo.stablehlo"}
    tables = [registry().layers("linen"), registry().collections, registry().checkpoint_backends, registry().exporters]
    assert names <= {name for table in tables for name in table}
    assert registry().problems == []


def test_checkpoint_written_by_the_plugin_is_restored_without_naming_it(tmp_path):
    tree = {"a": jnp.arange(3.0), "b": (jnp.ones((), jnp.bfloat16), None)}
    fx_ckpt.save(tmp_path / "checkpoint", tree, backend="demo.zip")
    restored = fx_ckpt.restore(tmp_path / "checkpoint", target=tree)
    np.testing.assert_array_equal(restored["a"], tree["a"])
    assert restored["b"][0].dtype == jnp.bfloat16


def test_bundle_written_by_the_plugins_exporter_is_loaded_without_naming_it(tmp_path):
    def double(variables, x):
        return x * variables["by"]

    variables, x = {"by": jnp.array(2.0)}, jnp.ones(3)
    fx_export.export(tmp_path / "bundle", double, variables, [x], exporter="demo.stablehlo")
    np.testing.assert_array_equal(fx_export.load(tmp_path / "bundle")(x), 2 * x)
