"""The table of fx-flax has every public name of the installed Flax, and nothing that Flax does not have."""

import ast
import importlib
import types
import typing
from collections.abc import Iterator
from pathlib import Path

import flax
import jax
import pytest
from fx_flax.imported import imported as elsewhere
from fx_flax.table import API_VERSION, flax_modules, module_names, submodules
from packaging.version import Version

ROOT = Path(flax.__file__).parent
FILES = {
    ".".join(f.relative_to(ROOT.parent).with_suffix("").parts).removesuffix(".__init__"): f for f in ROOT.rglob("*.py")
}
# These import TensorFlow.
NOT_IMPORTED = {"flax.metrics.tensorboard", "flax.testing", "flax.testing.benchmark"}
# Attributes that are modules but that programs import as modules, too; older versions had files of these names.
ATTRIBUTES = {"flax.nnx.object", "flax.nnx.optimizer", "flax.nnx.metrics", "flax.nnx.initializers"}
NEWEST = Version(flax.__version__) >= Version(API_VERSION)

pytestmark = pytest.mark.filterwarnings("ignore:'VariableState' was removed")


def imported(module: str) -> types.ModuleType:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("absl.logging.warning", lambda *_: None)
        return importlib.import_module(module)


def bound(body: list[ast.stmt], foreign: bool) -> Iterator[str]:
    """Names that a module defines or takes from other modules of Flax, and those of JAX where it is their home."""
    for node in body:
        match node:
            case ast.FunctionDef() | ast.ClassDef():
                yield node.name
            case ast.Assign():
                yield from (n.id for target in node.targets for n in ast.walk(target) if isinstance(n, ast.Name))
            case ast.AnnAssign(target=ast.Name(id=name)):
                yield name
            case ast.ImportFrom():
                inner = bool(node.level) or (node.module or "").startswith("flax")
                if (node.module or "").startswith("flax") and any(a.name == "*" for a in node.names):
                    yield from public_names(node.module or "")
                home = foreign and (node.module or "").startswith("jax")
                yield from (a.asname or a.name for a in node.names if inner or home or a.asname == a.name)
            case ast.Import():
                yield from (a.asname or a.name.split(".")[0] for a in node.names if a.name.startswith("flax"))
            case ast.If() | ast.Try():
                yield from bound([*node.body, *node.orelse], foreign)


def public_names(module: str) -> dict[str, object]:
    file, found = FILES[module], imported(module)
    foreign = file.stem in ("activation", "activations", "initializers", "__init__")
    values = {name: getattr(found, name, None) for name in bound(ast.parse(file.read_text()).body, foreign)}
    return {name: value for name, value in values.items() if hasattr(found, name) and not left_out(name, value)}


def left_out(name: str, value: object) -> bool:
    """Private names, variables of types, and modules and types that are not of Flax."""
    if isinstance(value, types.ModuleType):
        return not value.__name__.startswith("flax")
    of_python = getattr(value, "__module__", "") in ("types", "collections", "dataclasses", "functools")
    return name.startswith("_") or of_python or isinstance(value, typing.TypeVar | typing.ParamSpec)


@pytest.mark.parametrize("module", sorted(set(FILES) - NOT_IMPORTED))
def test_every_name_of_flax_is_mapped_or_said_to_be_absent_and_why(module):
    known = module_names(module)
    assert known is not None, "the table lacks a module"
    names = public_names(module)
    assert sorted(set(names) - {*known.places, *known.modules, *known.absent, *submodules(module)}) == []
    for name, value in names.items():
        if isinstance(value, types.ModuleType):
            assert module_names(known.modules.get(name) or f"{module}.{name}") is not None


@pytest.mark.parametrize("module", sorted(set(FILES) - NOT_IMPORTED))
def test_the_table_has_no_name_that_flax_does_not_have(module):
    known, found = module_names(module), imported(module)
    listed = {*known.places, *known.modules, *known.absent, *known.private}
    unknown = {name for name in listed if not hasattr(found, name)}
    if module == "flax.experimental.nnx":
        return  # a copy of the names of flax.nnx, made when Flax was imported first
    assert unknown == ((known.older if NEWEST else known.newer) & listed)


@pytest.mark.parametrize("module", flax_modules())
def test_every_place_exists_and_is_of_the_kind_that_flax_has(module):
    known = module_names(module)
    found = imported(module) if module in FILES and module not in NOT_IMPORTED else None
    for name, place in known.places.items():
        where, _, attribute = place.partition(":")
        mine, its = getattr(importlib.import_module(where), attribute), getattr(found, name, None)
        if isinstance(its, types.FunctionType):
            assert callable(mine), name
        if isinstance(its, type) and its.__module__.startswith("flax"):
            assert isinstance(mine, type), name
            assert issubclass(mine, Exception) == issubclass(its, Exception), name


@pytest.mark.parametrize("module", sorted(set(FILES) - NOT_IMPORTED))
def test_what_flax_imports_from_elsewhere_is_the_same_object(module):
    found = imported(module)
    known = module_names(module)
    listed = {*known.places, *known.modules, *known.absent, *submodules(module)}
    for name in set(vars(found)) - listed:
        same = elsewhere(name)
        assert same is None or same[0] is getattr(found, name), name


def test_modules_are_those_of_flax():
    assert set(flax_modules()) - set(FILES) - {"flax.linen.experimental"} == ATTRIBUTES


def test_a_static_value_is_made_of_a_value_alone_and_has_no_leaves():
    known = module_names("flax.nnx.graphlib")
    assert known is not None
    module, name = known.places["Static"].split(":")
    for kind in (imported("flax.nnx.graphlib").Static, getattr(importlib.import_module(module), name)):
        assert kind(3).value == 3
        assert jax.tree.structure(kind(3)) == jax.tree.structure(kind(3)) != jax.tree.structure(kind(4))
        assert not jax.tree.leaves(kind(3))
