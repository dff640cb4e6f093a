"""Names of Flax's inner modules are found, and are those of their real places."""

import importlib

import fx_linen as nn
import pytest
from fx_linen.names_of_flax import ALIASES


@pytest.mark.parametrize("module", ALIASES)
def test_every_alias_is_what_it_says(module):
    found = importlib.import_module(f"fx_linen.{module}")
    for name, target in ALIASES[module].items():
        place, _, attribute = target.partition(":")
        assert name in vars(found) or getattr(found, name) is getattr(importlib.import_module(place), attribute)


def test_names_that_nobody_has():
    with pytest.raises(AttributeError, match=r"module 'fx_linen\.linear' has no attribute 'Convolution'"):
        getattr(importlib.import_module("fx_linen.linear"), "Convolution")  # noqa: B009


def test_imports_as_programs_write_them():
    from fx_linen.fp8_ops import Fp8DotGeneralOp
    from fx_linen.linear import Conv, PrecisionLike
    from fx_linen.partitioning import LogicalRules, ScanIn

    assert Conv is nn.Conv
    assert Fp8DotGeneralOp is nn.Fp8DotGeneralOp
    assert PrecisionLike is not None
    assert LogicalRules is not None
    assert ScanIn(0).axis == 0
