"""What ``import flax`` gives once fx is in its place."""

import importlib
import importlib.util
import pickle
import pkgutil
import sys
from unittest import mock

import fx_core
import fx_flax
import jax.numpy as jnp
import pytest
from fx_flax import private

pytestmark = pytest.mark.usefixtures("in_place")


def test_every_way_of_importing_gives_the_same_objects():
    import flax
    import flax.core.frozen_dict as module
    from flax import core, struct
    from flax.core import FrozenDict

    assert flax.core is core is sys.modules["flax.core"]
    assert module.freeze({}).__class__ is FrozenDict is fx_core.FrozenDict
    assert struct.dataclass is importlib.import_module("fx_core.struct").dataclass
    assert flax.__version__ == flax.version.__version__ == fx_flax.API_VERSION


def test_a_star_import_gives_what_flax_has_and_is_installed():
    found: dict[str, object] = {}
    exec("from flax.traverse_util import *", found)
    assert found["flatten_dict"] is importlib.import_module("fx_core.traverse_util").flatten_dict


def test_what_flax_imports_for_itself_is_found_but_not_listed():
    from collections import abc
    from typing import Any, Optional

    from flax import typing as types
    from flax.core import frozen_dict, meta

    assert types.Callable is abc.Callable
    assert (frozen_dict.Any, meta.Optional, meta.jnp) == (Any, Optional, jnp)
    assert "Callable" not in dir(types)
    assert not hasattr(types, "Counter")


def test_names_can_be_listed_and_modules_walked():
    import flax

    assert {"core", "struct", "config"} <= set(dir(flax))
    assert "freeze" in dir(flax.core)
    walked = [module.name for module in pkgutil.walk_packages(flax.__path__, "flax.")]
    assert {"flax.core.lift", "flax.struct", "flax.nnx"} <= set(walked)
    assert importlib.util.find_spec("flax.core").submodule_search_locations
    assert importlib.util.find_spec("flax.optim") is None


def test_a_module_reloads():
    from flax import core

    assert importlib.reload(core) is core
    assert core.FrozenDict is fx_core.FrozenDict


def test_assignments_and_patches_go_through_to_fx():
    from flax import traverse_util

    inside = importlib.import_module("fx_core.traverse_util")
    with mock.patch("flax.traverse_util.flatten_dict", return_value="patched"):
        assert inside.flatten_dict() == traverse_util.flatten_dict() == "patched"
    assert traverse_util.flatten_dict({"a": {"b": 1}}) == {("a", "b"): 1}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(traverse_util, "empty_node", "other")
        assert inside.empty_node == "other"
        patch.setattr(inside, "empty_node", "third")
        assert traverse_util.empty_node == "third"
    assert inside.empty_node is traverse_util.empty_node != "other"
    traverse_util.empty_node = "assigned"
    del traverse_util.empty_node
    assert inside.empty_node not in ("assigned", "other")
    traverse_util.own = 1
    assert traverse_util.own == 1
    assert not hasattr(inside, "own")
    del traverse_util.own
    assert not hasattr(traverse_util, "own")


def test_classes_pickle_and_are_found_under_the_names_of_flax():
    from flax.core import freeze

    tree = freeze({"a": jnp.ones(2)})
    again = pickle.loads(pickle.dumps(tree))
    assert type(again) is fx_core.FrozenDict
    named_by_flax = pickle.dumps(fx_core.FrozenDict, protocol=0).replace(
        b"fx_core.frozen_dict", b"flax.core.frozen_dict"
    )
    assert pickle.loads(named_by_flax) is fx_core.FrozenDict


def test_a_name_that_fx_lacks_says_why():
    from flax import cursor

    with pytest.raises(
        AttributeError, match=r"Flax has flax.cursor.is_named_tuple, fx lacks it: inner workings"
    ) as seen:
        cursor.is_named_tuple  # noqa: B018
    assert isinstance(seen.value, fx_flax.FlaxNameError)
    assert (seen.value.module, seen.value.name) == ("flax.cursor", "is_named_tuple")
    assert not hasattr(cursor, "is_named_tuple")
    with pytest.raises(ImportError, match="cannot import name 'is_named_tuple'"):
        from flax.cursor import is_named_tuple  # noqa: F401


def test_a_name_that_neither_has_says_so():
    import flax

    with pytest.raises(AttributeError, match=r"Neither Flax 0\.12\.\d+ nor fx has flax\.optim"):
        flax.optim  # noqa: B018
    with pytest.raises(ModuleNotFoundError, match=r"No module named 'flax\.optim'"):
        import flax.optim


@pytest.mark.parametrize("wanted", ["flax.linen", "flax.nnx.bridge.wrappers"])
def test_a_package_that_is_absent_is_named(wanted, monkeypatch):
    absent = {"fx_linen", "fx_bridge"}
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if name in absent else find(name, *more))
    with pytest.raises(ModuleNotFoundError, match=r"is not installed.\n.*pip install fx-(linen|nnx|bridge)") as seen:
        importlib.import_module(wanted)
    assert isinstance(seen.value, fx_flax.MissingPackageError)


def test_a_name_of_an_absent_package_is_refused_when_it_is_used(monkeypatch):
    from flax import core

    class Absent:
        @staticmethod
        def find_spec(name, path=None, target=None):
            if name == "fx_transforms":
                raise ModuleNotFoundError("No module named 'fx_transforms'", name="fx_transforms")

    monkeypatch.setattr(sys, "meta_path", [Absent, *sys.meta_path])
    for loaded in [name for name in sys.modules if name.partition(".")[0] == "fx_transforms"]:
        monkeypatch.delitem(sys.modules, loaded)
    with pytest.raises(ModuleNotFoundError, match=r"flax.core.scan is in fx-transforms, which is not installed"):
        core.scan  # noqa: B018
    assert core.freeze({}) == {}


def test_helpers_of_layers_that_libraries_import():
    assert private.canonicalize_padding((1, (0, 2)), 2) == [(1, 1), (0, 2)]
    assert private.first_from(None, False, True, error_msg="") is False
    with pytest.raises(ValueError, match="no mode"):
        private.first_from(None, None, error_msg="no mode")
