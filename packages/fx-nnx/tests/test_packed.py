import pickle
import typing

import fx_nnx as nnx
import jax
import jax.numpy as jnp
import pytest
from fx_nnx.errors import ArgumentTypeError, SharedReferenceError, StateStructureError


def model():
    return nnx.BatchNorm(2, rngs=nnx.Rngs(0))


def test_packed_models_go_through_jax_alone():
    packed = nnx.unpack(model())
    doubled = jax.jit(lambda packed: jax.tree.map(lambda x: 2 * x, packed))(packed)
    assert isinstance(doubled, nnx.GraphState)
    assert nnx.merge(doubled).scale[0] == 2
    assert nnx.merge(nnx.GraphState(*nnx.split(model()))).scale[0] == 1
    assert jax.tree_util.tree_flatten_with_path(packed)[0][0][0] == (
        jax.tree_util.DictKey("bias"),
        jax.tree_util.GetAttrKey("value"),
    )


def test_packed_models_are_mappings():
    packed = nnx.unpack(model())
    assert list(packed) == ["bias", "mean", "scale", "var"]
    packed["scale"] = nnx.Param(jnp.full(2, 5.0))
    assert (len(packed), nnx.merge(packed).scale[0]) == (4, 5)
    del packed["bias"]
    with pytest.raises(StateStructureError, match="no value for a variable"):
        nnx.merge(packed)
    target = model()
    nnx.update(target, packed)
    assert target.scale[0] == 5
    assert repr(packed).startswith("GraphState(\n  _graphdef=GraphDef(BatchNorm")


def test_packed_by_filters():
    params, stats = nnx.unpack(model(), nnx.Param, ...)
    assert (list(params), list(stats)) == (["bias", "scale"], ["mean", "var"])
    assert nnx.merge(params, stats).mean.shape == (2,)
    assert typing.get_args(nnx.PureState) == (nnx.GraphDef, nnx.State)


def test_variables_alone():
    v = nnx.Param(jnp.ones(2))
    graphdef, state = nnx.split(v)
    assert state is v
    assert nnx.merge(graphdef, v) is v
    assert nnx.merge(graphdef, 3.0).get_value() == 3
    none, same = nnx.split(v, nnx.BatchStat, ...)[1:]
    assert (len(none), same is v) == (0, True)
    assert nnx.state(v) is v
    assert nnx.variables(v) is v
    assert nnx.clone(v) is not v
    nnx.update(v, nnx.Param(jnp.zeros(2), tag="a"))
    assert (v[0], v.tag) == (0, "a")
    assert [path for path, _ in nnx.iter_graph(v)] == [()]


def test_options_of_the_variables_of_a_model():
    node = nnx.Dict(a=nnx.Param(jnp.ones(2)), s=nnx.BatchStat(jnp.ones(1)), x=jnp.ones(1))
    node.b = node.a
    with pytest.raises(SharedReferenceError, match=r"at /a and /b(.|\n)*allow_duplicates=True"):
        nnx.with_vars(node, ref=True)
    made = nnx.with_vars(node, ref=True, allow_duplicates=True)
    assert made.a is made.b
    assert (made.a.ref, node.a.ref, made.x is node.x) == (True, False, True)
    assert isinstance(made.a.get_raw_value(), jax.Ref)
    some = nnx.with_vars(node, ref=True, only=nnx.BatchStat)
    assert (some.a is node.a, some.s.ref) == (True, True)
    back = nnx.vars_as(made, mutable=False, allow_duplicates=True)
    assert (back.a.ref, back.a[0]) == (False, 1)
    assert nnx.with_vars(node).a is node.a
    with pytest.raises(ArgumentTypeError, match="older name mutable"):
        nnx.with_vars(node, ref=True, mutable=False)


def test_packed_states_have_attributes_and_keep_apart():
    model = nnx.Dict(linear=nnx.Linear(2, 3, rngs=nnx.Rngs(0)))
    packed = nnx.unpack(model)
    assert isinstance(packed.linear, nnx.State)
    packed.linear.kernel = 0
    assert nnx.merge(packed).linear.kernel.get_value() == 0
    assert nnx.graphdef(nnx.merge(pickle.loads(pickle.dumps(packed)))) == nnx.graphdef(model)
    for other in (nnx.state(model), nnx.unpack(nnx.Dict(linear=nnx.Linear(2, 3, use_bias=False, rngs=nnx.Rngs(0))))):
        with pytest.raises(StateStructureError, match="of the same unpack only"):
            nnx.merge(packed, other)
