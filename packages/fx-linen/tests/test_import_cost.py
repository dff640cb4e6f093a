"""What `import fx_linen` imports, and that everything else is there when it is asked for."""

import fx_linen
import pytest
from fx_core.testing import check_lazy_imports, modules_imported

MOST = 130
"""Modules of fx: each takes a third of a millisecond, and a class that is made takes one."""


def test_importing_leaves_to_later_what_many_programs_never_use():
    imported = modules_imported("fx_linen")
    assert len(imported) <= MOST
    assert [name for name in fx_linen._LATER if f"fx_linen.{name}" in imported] == []


def test_every_name_is_found_and_listed():
    check_lazy_imports(fx_linen)


def test_a_name_that_does_not_exist_is_an_error():
    with pytest.raises(AttributeError, match="module 'fx_linen' has no attribute 'Dens'"):
        fx_linen.Dens  # noqa: B018  # pyright: ignore[reportAttributeAccessIssue]
