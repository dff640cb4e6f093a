"""The demo plugin is installed: each of its things works by name, beside those of fx."""

import json

import fx_ckpt
import fx_export
import fx_nnx as nnx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fx_core.errors import UnknownEntryError
from fx_core.plugins import Registry, Switches, registry
from fx_core.plugins.doctor import examine
from fx_core.plugins.known import FAMILY, brought_by
from fx_train import Log, Run


def test_its_entries_are_there_with_their_origin():
    layers = [registry().layers(face)["demo.Maxout"] for face in ("linen", "nnx")]
    others = [registry().collections["demo.usage"], registry().checkpoint_backends["demo.zip"]]
    others += [registry().exporters["demo.stablehlo"], registry().loggers["demo.tsv"]]
    for entry in [*layers, *others]:
        assert entry.origin.distribution == "fx-demo-plugin"
        assert entry.origin.version == "0.3.0"


def test_the_command_lists_it(site):
    report = json.loads(site.fx("plugins", "--json").stdout)
    (demo,) = [plugin for plugin in report["plugins"] if plugin["plugin"] == "fx-demo-plugin"]
    assert (demo["state"], demo["version"]) == ("loaded", "0.3.0")
    assert {entry["name"] for entry in demo["entries"]} == {
        "demo.Maxout", "demo.usage", "demo.zip", "demo.stablehlo", "demo.tsv",
    }  # fmt: skip
    shown = site.fx("plugins")
    assert "demo.usage" in shown.stdout
    assert shown.stderr == ""


def test_the_doctor_is_content_with_everything_installed(site):
    result = site.fx("plugins", "doctor")
    assert result.returncode == 0, result.stdout
    assert "all well" in result.stdout
    # The entry point of the demo is not called "demo", as those of plugins were before that meant anything.
    (note,) = examine(Registry(switches=Switches()))
    assert (note.level, note.owner) == ("note", "fx-demo-plugin")
    assert "Call its entry point 'demo'." in note.text


def test_a_linen_layer_by_name_with_its_collection():
    layer = registry().layers("linen")["demo.Maxout"].load()(4, pieces=3)
    x = jnp.ones((2, 5))
    variables = layer.init(jax.random.key(0), x)
    assert set(variables) == {"params", "demo.usage"}
    out, updated = layer.apply(variables, x, mutable=["demo.usage"])
    assert out.shape == (2, 4)
    assert float(updated["demo.usage"]["counts"].sum()) == 8.0


def test_an_nnx_layer_by_name_with_its_variable_type():
    layer = registry().layers("nnx")["demo.Maxout"].load()(5, 4, rngs=nnx.Rngs(0))
    usage = registry().collections["demo.usage"].load()
    assert layer(jnp.ones((2, 5))).shape == (2, 4)
    assert isinstance(layer.usage, usage)
    _, state = nnx.split(layer)
    assert nnx.state(layer, usage)
    assert len(jax.tree.leaves(state)) == 3


def test_checkpoints_through_its_backend(tmp_path):
    tree = {"params": {"kernel": jnp.arange(6, dtype=jnp.bfloat16).reshape(2, 3)}, "step": 3, "none": None}
    fx_ckpt.save(tmp_path / "checkpoint", tree, backend="demo.zip")
    assert (tmp_path / "checkpoint").is_dir()
    restored = fx_ckpt.restore(tmp_path / "checkpoint")
    assert jax.tree.structure(restored) == jax.tree.structure(tree)
    np.testing.assert_array_equal(restored["params"]["kernel"], tree["params"]["kernel"])
    assert restored["step"] == 3


def test_exports_through_its_exporter(tmp_path):
    variables = {"kernel": jnp.ones((3, 2))}
    fx_export.export(
        tmp_path / "bundle", lambda v, x: x @ v["kernel"], variables, [jnp.zeros((4, 3))], format="demo.stablehlo"
    )
    out = fx_export.load(tmp_path / "bundle")(jnp.ones((4, 3)))
    np.testing.assert_allclose(np.asarray(out), np.full((4, 2), 3.0))


def test_a_run_logs_through_its_logger_beside_ours(tmp_path):
    with Run(tmp_path, total_steps=4, callbacks=[Log("demo.tsv", every=2), Log("jsonl", every=2)]) as run:
        for step, _ in run.steps([None] * 4):
            run.record(None, {"loss": jnp.float32(1) / (1 + step)})
    assert (tmp_path / "log.tsv").read_text() == "2\tloss\t0.5\n4\tloss\t0.25\n"
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 2
    with (
        pytest.raises(UnknownEntryError, match=r"There is no logger 'demo\.csv'"),
        Run(tmp_path, total_steps=1, callbacks=[Log("demo.csv", every=1)]),
    ):
        pass


def test_what_fx_says_its_packages_bring_is_what_they_register():
    for table in Registry(switches=Switches()).tables():
        for name, entry in table.items():
            if entry.origin.distribution in FAMILY:
                brought = brought_by(table.label.replace("checkpoint backend", "checkpoint_backend"), name)
                assert brought is not None, name
                assert brought.partition("[")[0] == entry.origin.distribution, name
