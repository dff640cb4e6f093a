"""What `import fx_nnx` imports, and that everything else is there when it is asked for."""

import pickle

import fx_nnx
import fx_nnx.layers
import fx_nnx.modules
import pytest
from fx_core.testing import check_lazy_imports, modules_imported

MOST = 138
"""Modules of fx: each takes a third of a millisecond, and a class that is made takes one."""


def test_importing_leaves_to_later_what_many_programs_never_use():
    imported = modules_imported("fx_nnx")
    assert len(imported) <= MOST
    assert [name for name in fx_nnx._LATER if f"fx_nnx.{name}" in imported] == []
    assert [name for name in imported if name.startswith(("fx_transforms", "fx_core.plugins", "fx_core.scope"))] == []
    others = {"jax.experimental.checkify", "jax.experimental.pallas", "pluggy", "optax", "orbax"}
    assert others & {*modules_imported("fx_nnx", prefix="")} == set()


@pytest.mark.parametrize("package", [fx_nnx, fx_nnx.layers, fx_nnx.modules], ids=["fx_nnx", "layers", "modules"])
def test_every_name_is_found_and_listed(package):
    check_lazy_imports(package)


def test_a_name_that_does_not_exist_is_an_error():
    with pytest.raises(AttributeError, match="module 'fx_nnx' has no attribute 'Linea'"):
        fx_nnx.Linea  # noqa: B018  # pyright: ignore[reportAttributeAccessIssue]


def test_a_star_brings_every_name():
    names: dict[str, object] = {}
    exec("from fx_nnx import *", names)
    assert {name for name in fx_nnx.__all__ if name not in names} == set()


def test_classes_that_are_imported_later_pickle():
    for name in ("MultiHeadAttention", "LSTMCell", "Optimizer", "LoRAParam"):
        assert pickle.loads(pickle.dumps(getattr(fx_nnx, name))) is getattr(fx_nnx, name)
