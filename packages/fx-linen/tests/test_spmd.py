"""Logical axis names, their rules and constraints."""

import fx_linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fx_core.errors import ArgumentTypeError, ShardingRuleError
from fx_linen import meta, spmd
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

RULES = (("a", "x"), ("b", ("x", "y")), ("b", "y"), ("c", None))
X = jnp.ones((2, 2))


def mesh():
    return Mesh(np.array(jax.devices()[:1]).reshape(1, 1), ("x", "y"), axis_types=(AxisType.Auto,) * 2)


def constraints(fn):
    return list(sharding_constraints(jax.make_jaxpr(fn)(X)))


def sharding_constraints(jaxpr):
    for eqn in jaxpr.eqns:
        if eqn.primitive.name == "sharding_constraint":
            yield eqn.params["sharding"].spec
        elif "jaxpr" in eqn.params:
            yield from sharding_constraints(eqn.params["jaxpr"])


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("a", "b", "c", None), P("x", "y", None, None)),
        (("b", "c"), P(("x", "y"), None)),
        (("a", "unknown"), P("x", None)),
        (("a", P.UNCONSTRAINED), P("x", P.UNCONSTRAINED)),
        ((None, None), P(None, None)),
        (None, None),
    ],
)
def test_the_first_free_rule_counts(names, expected):
    assert spmd.logical_to_mesh_axes(names, RULES) == expected
    with spmd.logical_axis_rules(RULES):
        assert spmd.logical_to_mesh_axes(names) == expected


def test_a_name_occurs_once():
    with pytest.raises(ShardingRuleError, match="'a' occurs more than once"):
        spmd.logical_to_mesh_axes(("a", "a"), RULES)


@pytest.mark.parametrize("rules", [3, "ab", ("a",), (("a", "x", "y"),), {"a": "x"}])
def test_rules_are_pairs(rules):
    for use in (
        lambda: spmd.logical_to_mesh_axes(("a",), rules),
        lambda: spmd.logical_to_mesh({"k": P("a")}, rules),
        lambda: spmd.logical_to_mesh_sharding({"k": P("a")}, mesh(), rules),
        lambda: spmd.with_logical_constraint(X, ("a", None), rules, mesh()),
        lambda: spmd.set_logical_axis_rules(rules),
        lambda: spmd.logical_axis_rules(rules).__enter__(),
    ):
        with pytest.raises(ArgumentTypeError, match="no rules for logical axes"):
            use()
    assert spmd.get_logical_axis_rules() == ()


def test_rules_may_be_the_items_of_a_dictionary():
    with spmd.logical_axis_rules({"a": "x"}.items()):
        assert spmd.logical_to_mesh_axes(("a",)) == P("x")


def test_names_and_meshes_of_other_types():
    for names in (3, "ab"):
        with pytest.raises(ArgumentTypeError, match="no logical names of an array"):
            spmd.logical_to_mesh_axes(names, RULES)
        with pytest.raises(ArgumentTypeError, match="no logical names of an array"):
            spmd.with_logical_constraint(X, names, RULES, mesh())
    with pytest.raises(ArgumentTypeError, match="This is no mesh"):
        spmd.logical_to_mesh_sharding({"k": P("a")}, RULES)


def test_trees():
    tree = {"k": P("a", "b"), "z": None, "q": P(), "t": ("c", "a")}
    assert spmd.logical_to_mesh(tree, RULES) == {"k": P("x", "y"), "z": None, "q": P(), "t": P(None, "x")}
    m = mesh()
    assert spmd.logical_to_mesh_sharding({"k": P("a"), "z": None}, m, RULES) == {
        "k": NamedSharding(m, P("x")),
        "z": None,
    }


def test_constraints():
    m = mesh()
    constrain = spmd.with_logical_constraint
    assert constraints(lambda x: constrain(x, ("a", "b"), RULES, m)) == [P("x", "y")]
    assert constraints(lambda x: constrain(x, ("a", "nope"), RULES, m)) == [P("x", None)]
    assert constraints(lambda x: constrain(x, ("a", P.UNCONSTRAINED), RULES, m)) == [P("x", P.UNCONSTRAINED)]
    assert constraints(lambda x: constrain({"p": x, "q": x}, {"p": P("a"), "q": None}, RULES, m)) == [P("x")]
    assert constraints(lambda x: constrain({"p": x, "q": x}, ("a", "b"), RULES, m)) == [P("x", "y")] * 2
    assert constrain(X, ("a", "b")) is X
    assert constrain(X, ("a", "b"), RULES) is X
    assert constrain(X, None, RULES, m) is X
    with jax.set_mesh(m), spmd.logical_axis_rules(RULES):
        assert constraints(lambda x: constrain(x, ("a", "b"))) == [P("x", "y")]


def test_fallbacks():
    m, fallback = mesh(), spmd.RulesFallback
    no_constraint = lambda x: spmd.with_logical_constraint(x, ("a", "nope"), RULES, m, fallback.NO_CONSTRAINT)  # noqa: E731
    assert constraints(no_constraint) == []
    with pytest.raises(ShardingRuleError, match="did not match a rule: nope"):
        spmd.with_logical_constraint(X, ("a", "nope"), RULES, m, fallback.RAISE_ERROR)


class Kernel(nn.Module):
    @nn.compact
    def __call__(self, x):
        init = spmd.with_logical_partitioning(jax.nn.initializers.ones, ("a", "b"), mesh=mesh(), rules=RULES)
        return x @ self.param("kernel", init, (2, 3))


def test_boxes():
    variables = Kernel().init(jax.random.key(0), X)
    box = variables["params"]["kernel"]
    assert isinstance(box, meta.Partitioned)
    assert box.add_axis(0, {meta.PARTITION_NAME: "layers"}).names == ("layers", "a", "b")
    assert meta.get_partition_spec(variables) == {"params": {"kernel": P("a", "b")}}
    assert constraints(lambda x: Kernel().apply(variables, x)) == [P("x", "y")]
    metadata = box.to_nnx_metadata()
    assert metadata["sharding_rules"] == RULES
    again = spmd.LogicallyPartitioned.from_nnx_metadata(metadata)
    assert again.replace(value=0) == box.replace(value=0)
    assert again.value is box.value
    assert box.unbox(apply_constraint=False) is box.value
    assert box.replace(mesh=None).unbox() is box.value
