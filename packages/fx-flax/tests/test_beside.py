"""What needs Flax itself says so; `tests-integration/parity` has the rest."""

import sys

import fx_flax
import pytest


@pytest.mark.parametrize("call", [fx_flax.interop, lambda: fx_flax.from_flax({})])
def test_without_flax_it_is_refused(call, monkeypatch):
    monkeypatch.setitem(sys.modules, "flax", None)
    with pytest.raises(fx_flax.FlaxImportedError, match="Flax is not installed"):
        call()


def test_with_fx_in_the_place_of_flax_it_is_refused(in_place):
    import flax  # noqa: F401

    with pytest.raises(fx_flax.FlaxImportedError, match="in the place of Flax"):
        fx_flax.interop()
