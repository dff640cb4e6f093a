"""Axis names in collections of their own."""

import fx_linen as nn
import jax
import jax.numpy as jnp
import pytest
from fx_core.errors import ShardingRuleError
from fx_linen import partitioning
from jax.sharding import PartitionSpec as P

KEY = jax.random.key(0)
X = jnp.ones((4, 3))
OWN = {"variable_axes": {"params": 0, "stats": 0}, "split_rngs": {"params": True}}


class Layer(nn.Module):
    axes: tuple = ("embed", "mlp")

    @nn.compact
    def __call__(self, x):
        w = partitioning.param_with_axes("w", nn.initializers.ones, (3, 3), axes=self.axes)
        mean = partitioning.variable_with_axes("stats", "mean", jnp.zeros, (3,), axes=("mlp",))
        mean.value = mean.value + 1
        return x @ w


class Step(nn.Module):
    @nn.compact
    def __call__(self, x):
        return Layer()(x), None


def names(variables, collection="params"):
    return partitioning.get_axis_names(variables[f"{collection}_axes"]).unfreeze()


def test_names_stand_next_to_the_variables():
    variables = Layer().init(KEY, X)
    assert names(variables) == {"w": P("embed", "mlp")}
    assert names(variables, "stats") == {"mean": P("mlp")}
    assert jax.tree.leaves(variables["params_axes"]) == []
    _, state = Layer().apply(variables, X, mutable=["stats"])
    assert jnp.array_equal(state["stats"]["mean"], jnp.full(3, 2.0))


def test_without_names_nothing_is_noted():
    class Plain(nn.Module):
        @nn.compact
        def __call__(self):
            w = partitioning.param_with_axes("w", nn.initializers.ones, (2,))
            return w + partitioning.variable_with_axes("stats", "m", jnp.zeros, (2,)).value

    assert sorted(Plain().init(KEY)) == ["params", "stats"]


def test_scan_names_the_axis_of_its_layers():
    collections = ("params", "stats")
    stack = partitioning.scan_with_axes(Step, **OWN, length=2, axis_name="layers", axes_collections=collections)()
    variables = stack.init(KEY, X)
    assert variables["params"]["Layer_0"]["w"].shape == (2, 3, 3)
    assert names(variables) == {"Layer_0": {"w": P("layers", "embed", "mlp")}}
    assert names(variables, "stats") == {"Layer_0": {"mean": P("layers", "mlp")}}
    # Inside the loop the axis is gone again, so the names agree when they are given.
    _, state = stack.apply(variables, X, mutable=["params_axes", "stats", "stats_axes"])
    assert names(state) == names(variables)
    renamed = partitioning.scan_with_axes(Step, **OWN, length=2, axis_name="depth", axes_collections=collections)()
    with pytest.raises(ShardingRuleError, match=r"Axis 0 of a variable with partition names .*is not 'depth'"):
        renamed.apply(variables, X, mutable=["params_axes", "stats", "stats_axes"])


def test_vmap_names_its_axis():
    axes = {"params": 1, "stats": 0}
    cls = partitioning.vmap_with_axes(
        Layer, axes, split_rngs={"params": True}, partitioning_axis_names={"params": "heads", "stats": "heads"}
    )
    variables = cls().init(KEY, X)
    assert variables["params"]["w"].shape == (3, 4, 3)
    assert names(variables) == {"w": P("embed", "heads", "mlp")}
    assert names(variables, "stats") == {"mean": P("heads", "mlp")}


def test_remat_counts_without_the_module():
    class Flagged(nn.Module):
        @nn.compact
        def __call__(self, x, double):
            return Layer()(x) * (2 if double else 1)

    model = partitioning.remat(Flagged, static_argnums=(1,))()
    y, variables = model.init_with_output(KEY, X, True)
    assert jnp.array_equal(y, jnp.full((4, 3), 6.0))
    assert names(variables) == {"Layer_0": {"w": P("embed", "mlp")}}


def test_remat_counts_static_arguments_after_the_module():
    traced = []

    class Counted(nn.Module):
        @nn.compact
        def __call__(self, x, factor):
            traced.append(factor)
            return jnp.tanh(x @ self.param("w", nn.initializers.normal(), (3, 3))) * factor

    class Stack(nn.Module):
        @nn.compact
        def __call__(self, x):
            for factor in (1, 1, 1, 2):
                x = partitioning.remat(Counted, static_argnums=1)()(x, factor)
            return x

    variables = Stack().init(KEY, X)
    expected = X
    for index, factor in enumerate((1, 1, 1, 2)):
        expected = jnp.tanh(expected @ variables["params"][f"Core_remat_staticCounted_{index}"]["w"]) * factor
    traced.clear()
    assert jnp.allclose(jax.jit(Stack().apply)(variables, X), expected)
    assert traced == [1, 1, 1, 2]


def test_names_may_not_change():
    variables = Layer().init(KEY, X)
    with pytest.raises(ShardingRuleError, match="'w' has other axis names already") as caught:
        Layer(axes=("embed", None)).apply(variables, X, mutable=["params_axes", "stats"])
    assert "('embed', 'mlp')" in str(caught.value)
    assert "('embed', None)" in str(caught.value)


def test_names_need_a_module():
    with pytest.raises(partitioning.NoRunningModuleError, match="no module to make the variable 'w' in"):
        partitioning.param_with_axes("w", nn.initializers.ones, (2,), axes=("a",))


def test_values_are_laid_out():
    mesh = jax.make_mesh((1,), ("model",), axis_types=(jax.sharding.AxisType.Auto,))
    with jax.set_mesh(mesh), partitioning.axis_rules((("embed", None), ("mlp", "model"))):
        text = jax.jit(Layer().init).lower(KEY, X).as_text()
    assert "sharding" in text


NAMES = {"a": ("foo", "bar"), "b": (("foo", "bar"), ("bar", None))}


class TreeOfParameters(nn.Module):
    @nn.compact
    def __call__(self, x):
        def first(key, shape):
            return {"a": jnp.ones(shape), "b": (jnp.ones(shape), jnp.zeros(shape))}

        tree = partitioning.param_with_axes("tree", first, (3, 3), axes=NAMES)
        return x @ tree["a"] + tree["b"][1]


def test_a_tree_of_parameters_has_a_tree_of_names():
    variables = TreeOfParameters().init(KEY, jnp.ones((3, 3)))
    assert variables["params_axes"]["tree_axes"] == partitioning.AxisMetadata(NAMES)
    spec = jax.sharding.PartitionSpec
    expected = {"a": spec("foo", "bar"), "b": (spec("foo", "bar"), spec("bar", None))}
    assert partitioning.get_axis_names(variables["params_axes"])["tree"] == expected
    assert jnp.allclose(jax.jit(TreeOfParameters().apply)(variables, jnp.ones((3, 3))), 3.0)
    mapped = partitioning.vmap_with_axes(
        TreeOfParameters,
        variable_axes={"params": 0},
        split_rngs={"params": True},
        partitioning_axis_names={"params": "layers"},
    )
    variables = mapped().init(KEY, jnp.ones((2, 3, 3)))
    names = partitioning.get_axis_names(variables["params_axes"])["tree"]
    assert names["b"] == (spec("layers", "foo", "bar"), spec("layers", "bar", None))
    assert mapped().apply(variables, jnp.ones((2, 3, 3))).shape == (2, 3, 3)


def test_rules_that_leave_an_axis_to_the_compiler():
    free = jax.sharding.PartitionSpec.UNCONSTRAINED
    rules = (("foo", None), ("bar", free), ("baz", free), ("qux", "data"))
    found = partitioning.logical_to_mesh_axes(("foo", "bar", "baz", "qux", free), rules)
    assert tuple(found) == (None, free, free, "data", free)
    mesh = jax.make_mesh((1,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    laid = jax.jit(lambda x: nn.with_logical_constraint(x, ("qux", "bar"), rules=rules, mesh=mesh))(jnp.ones((2, 3)))
    assert jnp.array_equal(laid, jnp.ones((2, 3)))
