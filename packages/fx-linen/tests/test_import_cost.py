"""What `import fx_linen` imports, and that everything else is there when it is asked for."""

import importlib
import subprocess
import sys

import fx_linen
import pytest

MOST = 130
"""Modules of fx: each takes a third of a millisecond, and a class that is made takes one."""


def test_importing_leaves_to_later_what_many_programs_never_use():
    program = """
import sys
import fx_linen
print(len([name for name in sys.modules if name.startswith("fx_")]))
print([name for name in fx_linen._LATER if f"fx_linen.{name}" in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    count, early = done.stdout.splitlines()
    assert int(count) <= MOST
    assert early == "[]"


def test_every_name_is_found_and_listed():
    assert [name for name in fx_linen.__all__ if getattr(fx_linen, name, None) is None] == []
    assert set(fx_linen.__all__) <= set(dir(fx_linen))
    for module, names in fx_linen._LATER.items():
        inner = importlib.import_module(f"fx_linen.{module}")
        assert getattr(fx_linen, module) is inner
        assert all(getattr(fx_linen, name) is getattr(inner, name) for name in names)


def test_a_name_that_does_not_exist_is_an_error():
    with pytest.raises(AttributeError, match="module 'fx_linen' has no attribute 'Dens'"):
        fx_linen.Dens  # noqa: B018  # pyright: ignore[reportAttributeAccessIssue]
