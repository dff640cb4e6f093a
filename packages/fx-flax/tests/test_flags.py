"""Flax's flags on the settings of fx."""

import fx_core.config
import fx_flax
import pytest
from fx_flax.flags import read_environment

pytestmark = pytest.mark.usefixtures("in_place")


@pytest.fixture(autouse=True)
def as_they_were():
    before = fx_core.config.flags()
    yield
    for name, value in before.items():
        fx_core.config.update(name, value)


def test_flags_are_read_set_and_set_for_a_block():
    import flax
    from flax import configurations

    assert flax.config is configurations.config
    flax.config.update("flax_return_frozendict", True)
    assert fx_core.config.return_frozen_dict is True is flax.config.flax_return_frozendict
    with flax.config.temp_flip_flag("return_frozendict", False):
        assert configurations.flax_return_frozendict.value is False
    flax.config.update(configurations.flax_fix_rng, True)
    assert fx_core.config.fix_rng_separator is True is configurations.flax_fix_rng.value
    flax.config.flax_max_repr_depth = 2
    assert "flax_max_repr_depth=2" in repr(flax.config)
    with flax.config.temp_flip_flag("filter_frames", False):
        assert not flax.config.flax_filter_frames
    assert flax.config.flax_filter_frames


def test_unknown_flags_and_values_that_are_not_served_are_refused():
    import flax

    with pytest.raises(LookupError, match="no flag 'flax_nonsense'"):
        flax.config.update("flax_nonsense", True)
    with pytest.raises(AttributeError, match="no flag 'flax_nonsense'"):
        flax.config.flax_nonsense  # noqa: B018
    flax.config.update("flax_hijax_variable", False)
    with pytest.raises(ValueError, match="flax_hijax_variable=True is not served"):
        flax.config.update("flax_hijax_variable", True)
    with pytest.raises(TypeError, match="ask for its value"):
        bool(flax.configurations.flax_profile)


def test_the_environment_sets_flags_at_installation(monkeypatch):
    monkeypatch.setenv("FLAX_PROFILE", "no")
    monkeypatch.setenv("FLAX_MAX_REPR_DEPTH", "3")
    fx_flax.uninstall()
    fx_flax.install()
    assert fx_core.config.profile is False
    assert fx_core.config.max_repr_depth == 3
    monkeypatch.setenv("FLAX_PROFILE", "perhaps")
    with pytest.raises(ValueError, match="FLAX_PROFILE='perhaps'"):
        read_environment()
