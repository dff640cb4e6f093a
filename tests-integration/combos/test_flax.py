"""fx-flax with fx-core only: what is in the core works, what is not says which package to install."""

import importlib

import fx_flax
import jax.numpy as jnp
import pytest


@pytest.fixture
def in_place():
    fx_flax.install()
    yield
    fx_flax.uninstall()


def test_what_the_core_has_works(in_place):
    from flax import serialization, struct, traverse_util
    from flax.core import freeze

    @struct.dataclass
    class Pair:
        a: object

    assert serialization.to_state_dict(Pair(freeze({"b": 1}))) == {"a": {"b": 1}}
    assert traverse_util.flatten_dict({"a": {"b": jnp.ones(2)}}, sep="/").keys() == {"a/b"}


@pytest.mark.parametrize("module", ["linen", "nnx", "nnx.bridge", "training.train_state", "training.checkpoints"])
def test_what_other_packages_have_names_them(in_place, module):
    with pytest.raises(ModuleNotFoundError, match=r"what to do: pip install fx-\w+"):
        importlib.import_module(f"flax.{module}")
