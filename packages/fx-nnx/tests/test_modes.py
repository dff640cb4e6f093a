import threading

import fx_nnx as nnx
import jax.numpy as jnp
import pytest
from fx_nnx.errors import ArgumentTypeError, SharedReferenceError


@pytest.mark.parametrize("mode", [nnx.set_graph_mode, nnx.set_graph_updates, nnx.use_eager_sharding])
def test_modes_nest_and_end(mode):
    assert mode.get_default() is True
    assert mode.get_stack() == []
    with mode(False):
        with mode(True):
            assert mode.get_stack() == [False, True]
            mode(False)
            assert mode.get_stack() == [False, False]
        assert mode.get_stack() == [False]
        assert mode.current_value() is False
    assert mode.get_stack() == []
    assert mode.current_value() is True


def test_a_call_lasts_until_the_next_one():
    setting = nnx.set_graph_mode(False)
    assert nnx.set_graph_mode.current_value() is False
    seen = []
    thread = threading.Thread(target=lambda: seen.append(nnx.set_graph_mode.current_value()))
    thread.start()
    thread.join()
    assert seen == [True]  # a thread has its own setting
    with setting:
        pass
    assert nnx.set_graph_mode.get_stack() == []


def test_decorated_functions_leave_the_setting_alone():
    @nnx.set_graph_mode(False)
    def f():
        return nnx.set_graph_mode.get_stack()

    assert nnx.set_graph_mode.get_stack() == []
    assert f() == [False]
    assert nnx.set_graph_mode.get_stack() == []


def test_only_bools():
    with pytest.raises(ArgumentTypeError, match=r"set_graph_mode is on or off(.|\n)*got: 3"):
        nnx.set_graph_mode(3)
    with pytest.raises(ArgumentTypeError, match=r"var_defaults\(ref=...\) is on or off"):
        nnx.var_defaults(ref=1)


def test_tree_mode_refuses_shared_references_everywhere():
    shared = nnx.Param(jnp.ones(1))
    model = nnx.Dict(a=shared, b=shared)
    functions = [
        nnx.split,
        nnx.state,
        nnx.variables,
        nnx.graphdef,
        nnx.clone,
        nnx.flatten,
        nnx.view,
        nnx.with_attributes,
        lambda node, **kw: nnx.map(lambda path, x: x, node, **kw),
        lambda node, **kw: nnx.recursive_map(lambda path, x: x, node, **kw),
        lambda node, **kw: list(nnx.iter_graph(node, **kw)),
        lambda node, **kw: list(nnx.iter_modules(node, **kw)),
        lambda node, **kw: nnx.with_rngs(node, **kw),
    ]
    for function in functions:
        function(model)
        with pytest.raises(SharedReferenceError, match="at /a and /b"):
            function(model, graph=False)
        with nnx.set_graph_mode(False):
            function(model, graph=True)
            with pytest.raises(SharedReferenceError, match="at /a and /b"):
                function(model)


def test_defaults_of_variables():
    with nnx.var_defaults(ref=True):
        assert nnx.Param(jnp.ones(1)).ref
        with nnx.var_defaults(ref=False, hijax=True):
            assert (nnx.var_defaults().ref, nnx.var_defaults().hijax) == (False, True)
        assert nnx.var_defaults().ref
    assert not nnx.Param(jnp.ones(1)).ref
    made = nnx.var_defaults(ref=True)(lambda: nnx.Param(jnp.ones(1)))
    assert not nnx.var_defaults().ref
    assert made().ref
    with nnx.use_eager_sharding(False):
        assert nnx.using_eager_sharding() is False
        assert nnx.Param(1.0).get_metadata("eager_sharding") is False
        assert nnx.Param(1.0, eager_sharding=True).get_metadata("eager_sharding") is True
    assert nnx.using_eager_sharding() is True


def test_axis_names_of_trees_are_not_changed_where_something_is_shared():
    param = nnx.Param(jnp.ones((2, 3)), out_sharding=("layers", "d"), eager_sharding=False)
    f = nnx.transform_metadata(lambda a, b: None, partition="layers", graph=False)
    f(param, 1.0)
    with pytest.raises(SharedReferenceError):
        f(param, param)
    nnx.transform_metadata(lambda a, b: None, partition="layers")(param, param)
    assert param.out_sharding == ("layers", "d")


def test_a_model_comes_out_of_apply_as_a_tree_if_it_is_asked_for():
    graphdef, state = nnx.split(nnx.Dict(a=nnx.Dict(w=nnx.Param(1.0))))

    def share(model):
        model.b = model.a

    nnx.Dict.share = share
    try:
        assert len(graphdef.apply(state).share()[1][1].flat_state()) == 1
        with pytest.raises(SharedReferenceError):
            graphdef.apply(state, graph=False).share()
    finally:
        del nnx.Dict.share
