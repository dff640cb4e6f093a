"""Combos that somebody adds are checked, and an outside plugin is looked at in each state."""

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))
import combos  # noqa: E402


def test_every_combo_of_the_workspace_is_right():
    assert {"core", "everything", "everything-plugin"} <= combos.load().keys()


def test_combos_of_other_files_come_on_top(tmp_path, monkeypatch):
    (tmp_path / "pyproject.toml").write_text('[tool.fx.combos.mine]\npackages = ["fx-core"]\ntests = ["core"]\n')
    monkeypatch.setenv("FX_COMBOS", str(tmp_path / "pyproject.toml"))
    found = combos.load()
    assert found["mine"] == {"packages": ["fx-core"], "tests": ["core"]}
    assert "core" in found


def test_all_mistakes_are_told_at_once(tmp_path):
    file = tmp_path / "combos.toml"
    file.write_text(
        'first = 3\n[core]\npackages = ["fx-core", "fx-lynen"]\ntest = ["core"]\nextras = ["fx-ckpt[orbax]"]\n'
        '[other]\npackages = "fx-core"\ntests = ["corr"]\n'
    )
    with pytest.raises(SystemExit) as caught:
        combos.load([file, tmp_path / "absent.toml"])
    for text in (
        "first: is 3, not a table",
        "core: tests: is needed",
        "core: packages: there is no 'fx-lynen'; did you mean 'fx-linen'?",
        "core: test: unknown key; did you mean 'tests'?",
        "core: extras: 'fx-ckpt[orbax]' is of no package of the combo",
        "other: packages: is 'fx-core', not a list of text",
        "other: tests: there is no 'corr'; did you mean 'core'?",
        "absent.toml",
    ):
        assert text in str(caught.value)


def test_what_stands_after_the_dashes():
    plugin = ROOT / "tests-integration/plugins/fx-moe-plugin"
    assert combos.outside(["--with", str(plugin)]) == [plugin]
    assert combos.outside([]) == []
    assert combos.needs(plugin) == ("fx-moe-plugin", {"fx-core"})
    with pytest.raises(SystemExit):
        combos.outside(["--with", str(ROOT / "docs")])


def test_an_outside_plugin_is_looked_at_in_each_state(site):
    program = str(ROOT / "tests-integration/combos/outside.py")
    result = site.python(program, "fx-sqlite-plugin")
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.count("as it should be") == 4
    assert site.python(program, "no-such-plugin").returncode == 1
