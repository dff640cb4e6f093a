"""The demo plugin beside everything: each of its entries is found by name and works with ours."""

import fx_bridge
import fx_ckpt
import fx_export
import fx_nnx as nnx
import jax
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
    fx_export.export(tmp_path / "bundle", double, variables, [x], format="demo.stablehlo")
    np.testing.assert_array_equal(fx_export.load(tmp_path / "bundle")(x), 2 * x)


def test_collections_of_the_plugin_cross_the_bridge():
    x = jnp.ones((2, 5))
    linen, nnx_layer = (registry().layers(face)["demo.Maxout"].load() for face in ("linen", "nnx"))
    usage = registry().collections["demo.usage"].load()

    wrapped = fx_bridge.lazy_init(fx_bridge.ToNNX(linen(4, pieces=3), rngs=nnx.Rngs(0)), x)
    assert type(wrapped.counts) is usage
    assert wrapped(x, mutable=["demo.usage"]).shape == (2, 4)
    assert wrapped.counts[...].sum() == 8

    moved = fx_bridge.to_linen(nnx_layer, 5, 4, pieces=3)
    variables = moved.init(jax.random.key(0), x)
    assert set(variables) == {"params", "demo.usage"}
    _, updates = moved.apply(variables, x, mutable=["demo.usage"])
    assert updates["demo.usage"]["usage"].sum() == 8

    state, report = fx_bridge.convert_variables(variables)
    assert report.complete
    assert type(state.usage) is usage
