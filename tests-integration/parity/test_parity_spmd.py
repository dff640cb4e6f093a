"""Logical axis rules have Flax's priorities."""

import flax.core.spmd as theirs
import fx_core.spmd as ours
import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

RULES = (("batch", "data"), ("embed", "model"), ("embed", None), ("heads", "model"), ("both", ("data", "model")))
SHARDINGS = [
    ("batch", "embed"),
    ("heads", "embed"),
    ("embed", "embed"),
    ("foo", None),
    ("both",),
    (("batch", "embed"), None),
    (),
    P("batch", None),
]


@pytest.mark.parametrize("sharding", SHARDINGS, ids=repr)
def test_rules(sharding):
    assert ours.from_sharding_rules(sharding, RULES) == theirs.from_sharding_rules(sharding, RULES)
    assert ours.apply_rules(sharding, RULES) == theirs.apply_rules(sharding, RULES)
    with ours.logical_axis_rules(RULES[:2]), theirs.logical_axis_rules(RULES[:2]):
        assert ours.get_pspec(sharding) == theirs.get_pspec(sharding)
        extra = (("foo", "model"),)
        assert ours.get_pspec(sharding, extra) == theirs.get_pspec(sharding, extra)


def test_named_shardings_and_none():
    mesh = jax.make_mesh((1,), ("data",), axis_types=(AxisType.Auto,))
    sharding = NamedSharding(mesh, P("data"))
    for lib in (ours, theirs):
        assert lib.apply_rules(None, RULES) is None
        assert lib.apply_rules(sharding, (("data", None),)) == NamedSharding(mesh, P(None))
        assert lib.get_mesh(sharding) == mesh
        assert lib.get_mesh(("a",)) is None
        assert lib.map_sharding(lambda name: name and name.upper(), ("a", None)) == P("A", None)
        assert lib.shard_value(jnp.ones(2), ("batch",), RULES[:1], mesh).sharding == sharding


def test_composition():
    first, second = (("a", "x"), ("b", None)), (("c", "y"), ("a", "x"))
    assert ours.composite_rules(first, second) == theirs.composite_rules(first, second)
    assert ours.composite_rules(None, second) == theirs.composite_rules(None, second)
    for lib in (ours, theirs):
        with pytest.raises(ValueError, match="logical ax"):
            lib.composite_rules(first, (("a", "z"),))
