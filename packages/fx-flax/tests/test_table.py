"""The table in itself; `tests-integration/parity` compares it with Flax."""

import pytest
from fx_flax.table import flax_modules, module_names, submodules


@pytest.mark.parametrize("module", flax_modules())
def test_a_name_is_in_one_place_only(module):
    known = module_names(module)
    kinds = [set(known.places), set(known.modules), set(known.absent), set(known.private)]
    assert sum(map(len, kinds)) == len(set().union(*kinds))
    assert known.newer | known.older <= set().union(*kinds)
    assert all(module_names(target) is not None for target in known.modules.values())
    assert module == "flax" or module.rpartition(".")[2] in submodules(module.rpartition(".")[0])
    assert all(place.count(":") == 1 for place in [*known.places.values(), *known.private.values()])


def test_an_unknown_module_is_none():
    assert module_names("flax.optim") is None
