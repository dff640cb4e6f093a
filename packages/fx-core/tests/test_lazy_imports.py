"""Names that packages import when they are first asked for."""

import sys

import fx_core
import fx_core.compat.jax
import pytest
from fx_core.lazy_imports import import_later
from fx_core.testing import check_lazy_imports, modules_imported

INIT = """
from typing import TYPE_CHECKING
from fx_core.lazy_imports import lazy_imports
if TYPE_CHECKING:
    from {name}.one import {typed}
__all__ = ["thing"]
_LATER = {{"one": ("{shown}",)}}
if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy_imports(__name__, _LATER)
"""


def package(tmp_path, monkeypatch, name, *, typed="thing", shown="thing", body="thing = object()", module="one"):
    (tmp_path / name).mkdir()
    (tmp_path / name / "__init__.py").write_text(INIT.format(name=name, typed=typed, shown=shown))
    (tmp_path / name / f"{module}.py").write_text(body)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return import_later(name)


@pytest.mark.parametrize("shown", [fx_core, fx_core.compat.jax], ids=["fx_core", "compat"])
def test_every_name_of_the_core_is_found(shown):
    check_lazy_imports(shown)


def test_the_core_leaves_scopes_and_plugins_to_later():
    imported = modules_imported("fx_core", prefix="")
    assert not {"fx_core.scope", "fx_core.plugins", "pluggy", "jax.experimental.checkify"} & {*imported}


def test_a_name_is_looked_up_once_and_a_wrong_one_is_an_error(tmp_path, monkeypatch):
    made = package(tmp_path, monkeypatch, "lazy_once")
    assert "lazy_once.one" not in sys.modules
    assert dir(made) == sorted({*vars(made), "one", "thing"})
    thing = made.thing
    assert vars(made)["thing"] is thing
    assert made.one is sys.modules["lazy_once.one"]
    with pytest.raises(AttributeError, match="module 'lazy_once' has no attribute 'other'"):
        made.other  # noqa: B018
    check_lazy_imports(made)


def test_a_module_that_fails_to_import_says_so_each_time(tmp_path, monkeypatch):
    made = package(tmp_path, monkeypatch, "lazy_fails", body="import missing_module_of_nobody")
    for _ in range(2):
        with pytest.raises(ModuleNotFoundError, match="missing_module_of_nobody"):
            made.thing  # noqa: B018


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("lazy_typed", {"typed": "other"}),
        ("lazy_named", {"typed": "one", "shown": "one"}),
        ("lazy_traced", {"body": "import jax.numpy as jnp\nthing = jnp.ones(3) + 1"}),
        ("lazy_absent", {"body": "other = 1"}),
    ],
)
def test_the_check_finds_what_is_wrong(tmp_path, monkeypatch, name, wrong):
    with pytest.raises((AssertionError, AttributeError)):
        check_lazy_imports(package(tmp_path, monkeypatch, name, **wrong))
