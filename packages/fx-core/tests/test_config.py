"""fx_core.config: flags."""

import os
import subprocess
import sys
import threading

import pytest
from fx_core import config, errors


@pytest.fixture
def flag():
    before = config.fix_rng_separator
    yield "fix_rng_separator"
    config.update("fix_rng_separator", before)


def test_defaults_are_those_that_existing_programs_expect():
    assert config.flags() == {
        "fix_rng_separator": False,
        "return_frozen_dict": False,
        "preserve_adopted_names": False,
        "profile": True,
        "max_repr_depth": None,
        "use_orbax_checkpointing": False,
    }


def test_update_and_assignment_hold_until_the_next(flag):
    config.update(flag, True)
    assert config.fix_rng_separator is True
    config.fix_rng_separator = False
    assert config.flags()[flag] is False


def test_overrides_nest_and_end_with_their_block(flag):
    with config.override(fix_rng_separator=True, max_repr_depth=2):
        assert config.fix_rng_separator
        assert config.max_repr_depth == 2
        with config.override(max_repr_depth=None):
            assert config.fix_rng_separator
            assert config.max_repr_depth is None
    assert not config.fix_rng_separator
    assert config.max_repr_depth is None


def test_an_override_ends_by_an_error_too(flag):
    def fail():
        with config.override(fix_rng_separator=True):
            return 1 // 0

    with pytest.raises(ZeroDivisionError):
        fail()
    assert not config.fix_rng_separator


def test_other_threads_do_not_see_an_override(flag):
    seen = []
    with config.override(fix_rng_separator=True):
        thread = threading.Thread(target=lambda: seen.append(config.fix_rng_separator))
        thread.start()
        thread.join()
    assert seen == [False]


def test_unknown_flags_name_the_nearest():
    for use in (
        lambda: config.update("fix_rng_seperator", True),
        lambda: config.override(fix_rng_seperator=True).__enter__(),
        lambda: config.fix_rng_seperator,
    ):
        with pytest.raises(errors.InvalidAttributeError, match=r"Did you mean 'fix_rng_separator'\?"):
            use()
    with pytest.raises(errors.InvalidAttributeError, match="Use one of the flags above"):
        config.update("zzzzzz", True)
    with pytest.raises(AttributeError, match="no attribute '_private'"):
        config._private  # noqa: B018


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("profile", 1, "profile cannot be 1.\n  expected: true or false"),
        ("profile", None, "profile cannot be None"),
        ("max_repr_depth", -1, "max_repr_depth cannot be -1.\n  expected: a natural number, or none"),
        ("max_repr_depth", True, "max_repr_depth cannot be True"),
    ],
)
def test_values_of_the_wrong_kind_are_refused_and_change_nothing(name, value, text):
    before = config.flags()
    with pytest.raises(errors.ArgumentError, match=text):
        config.update(name, value)
    with pytest.raises(errors.ArgumentError, match=text):
        config.override(**{name: value}).__enter__()
    assert config.flags() == before


def run(**environment):
    # A fresh process, since the environment is read when the module is imported.
    code = "from fx_core import config; print(config.fix_rng_separator, config.max_repr_depth)"
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )
    return done.stdout.strip(), done.stderr


def test_the_environment_sets_flags():
    assert run(FX_FIX_RNG_SEPARATOR="On", FX_MAX_REPR_DEPTH="3")[0] == "True 3"


@pytest.mark.parametrize(
    ("flag_name", "text", "value"),
    [("profile", "0", False), ("profile", "yes", True), ("max_repr_depth", "none", None), ("max_repr_depth", "7", 7)],
)
def test_texts_are_parsed(flag_name, text, value):
    assert config._FLAGS[flag_name].parse("FX_X", text) == value


@pytest.mark.parametrize("flag_name", ["profile", "max_repr_depth"])
def test_texts_that_mean_nothing_name_the_variable(flag_name):
    with pytest.raises(errors.ArgumentError, match="FX_X cannot be 'perhaps'"):
        config._FLAGS[flag_name].parse("FX_X", "perhaps")


def test_names_of_flax():
    config.update("flax_preserve_adopted_names", True)
    assert config.preserve_adopted_names
    assert config.flax_preserve_adopted_names
    config.update("flax_preserve_adopted_names", False)
    with config.override(flax_profile=False):
        assert not config.profile

    @config.temp_flip_flag("fix_rng_separator", True)
    def flag():
        return config.fix_rng_separator

    assert flag()
    assert not config.fix_rng_separator
    with pytest.raises(errors.InvalidAttributeError, match="flax_unknown"):
        config.update("flax_unknown", True)
