import jax.numpy as jnp
import pytest
from fx_core.scope import apply, bind, init
from fx_transforms import axes_scan, check_aliases, errors, lift
from jax import random

KEY = random.key(0)
XS = jnp.arange(6.0).reshape(2, 3)


def dense(scope, x):
    return x @ scope.param("w", random.normal, (x.shape[-1], 2))


def dense_body(scope, c, x):
    return c, dense(scope, x)


def test_vmap_names_the_argument_and_the_collection_whose_size_differs():
    mapped = lift.vmap(dense, {"params": 0}, {"params": True})
    variables = {"params": {"in": {"w": jnp.ones((4, 3, 2))}}}
    with pytest.raises(errors.AxisSizeError) as info:
        apply(lambda s, x: mapped(s, x))(variables, XS)
    assert "in/w of collection 'params' has 4" in str(info.value)
    assert "argument 1 of shape (2, 3) (axis 0) has 2" in str(info.value)
    assert "vmap got different sizes" in str(info.value)


def test_axis_sizes_against_a_given_size():
    with pytest.raises(errors.AxisSizeError, match="vmap got sizes that differ from axis_size=5"):
        init(lift.vmap(dense, {True: 0}, {True: True}, axis_size=5))(KEY, XS)
    with pytest.raises(errors.AxisSizeError, match="scan got sizes that differ from length=5"):
        init(lift.scan(dense_body, {True: 0}, length=5, split_rngs={True: True}))(KEY, 0.0, XS)


def test_an_argument_without_the_axis():
    with pytest.raises(
        errors.AxisSizeError, match=r"argument 2\['x'\] of shape \(\) \(axis 0\), of shape \(\), which lacks axis 0"
    ):
        init(lift.vmap(lambda s, x, y: x, {True: 0}, {True: True}))(KEY, XS, {"x": 1.0})


def test_nothing_to_tell_the_size():
    with pytest.raises(
        errors.AxisSizeError, match=r"cannot determine the number of steps(.|\n)*where: /\n.*pass axis_size="
    ):
        init(lift.vmap(lambda s: 0, {True: 0}, {True: True}))(KEY)
    with pytest.raises(errors.AxisSizeError, match=r"cannot determine the number of steps(.|\n)*pass length="):
        init(lift.scan(lambda s, c: (c, None)))(KEY, 0.0)
    with pytest.raises(errors.AxisSizeError, match="pass length="):
        axes_scan.scan(lambda b, c, x: (b, c, x), axes_scan.broadcast, 0)(0, 0, XS)


def test_axes_scan_sizes():
    loop = axes_scan.scan(lambda b, c, x, y: (b, c, x), 0, 0)
    with pytest.raises(errors.AxisSizeError, match=r"argument 2 .* has 2; argument 3 .* has 4"):
        loop(0, 0, XS, jnp.ones(4))


@pytest.mark.parametrize("col", ["params", "state"])
def test_a_collection_that_is_not_lifted(col):
    def use(scope, x):
        return (
            x + scope.push("in").get_variable(col, "a")
            if scope.has_variable(col, "a")
            else scope.push("in").variable(col, "a", lambda: 1.0).value
        )

    with pytest.raises(errors.CollectionNotLiftedError) as info:
        apply(lift.vmap(use, {"cache": 0}, {}), mutable=[])({col: {"in": {"a": 1.0}}}, XS)
    error = info.value
    assert (error.collection, error.transform) == (col, "vmap")
    assert "/vmap()/in" in error.path
    assert "one of the lifted collections: 'cache'" in str(error)
    assert f"name '{col}' among the variables of vmap: variable_axes={{'{col}': 0}} for one value per" in str(error)


def test_a_collection_that_is_written_but_not_lifted():
    def write(scope, x):
        scope.put_variable("state", "n", x)
        return x

    with pytest.raises(errors.CollectionNotLiftedError, match="given to remat uses the collection 'state'"):
        init(lift.remat(write, variables="params"))(KEY, XS)


def test_a_collection_that_is_missing_everywhere_keeps_its_own_error():
    from fx_core.errors import ScopeCollectionNotFound

    with pytest.raises(ScopeCollectionNotFound):
        apply(lift.remat(dense))({}, XS)


def test_a_stream_that_is_not_lifted():
    with pytest.raises(errors.RngNotLiftedError) as info:
        init(lift.vmap(dense, {"params": 0}, {"dropout": True}))(KEY, XS)
    assert "given to vmap needs an RNG stream that is not lifted" in str(info.value)
    assert "split_rngs={'params': True}" in str(info.value)


def test_no_stream_at_all_keeps_its_own_error():
    from fx_core.errors import InvalidRngError

    with pytest.raises(InvalidRngError):
        apply(lift.vmap(lambda s, x: s.make_rng("noise"), {}, {True: True}))({}, XS)


def test_a_carry_that_changes():
    with pytest.raises(errors.CarryChangedError, match=r"carry: float32\[\] in, float32\[2\] out") as caught:
        apply(lift.scan(lambda s, c, x: (jnp.ones(2), x)))({}, jnp.float32(0), XS)
    assert isinstance(caught.value, TypeError)  # what JAX raises
    assert isinstance(caught.value, ValueError)

    def grow(scope, c, x):
        scope.put_variable("state", "n", jnp.ones(2, jnp.int32))
        return c, x

    variables = {"state": {"n": jnp.zeros(())}}
    text = r"n of collection 'state': float32\[\] in, int32\[2\] out"
    with pytest.raises(errors.CarryChangedError, match=text):
        apply(lift.scan(grow, variable_carry="state"), mutable=True)(variables, 0.0, XS)
    scope = bind(variables, mutable=True)
    with pytest.raises(errors.CarryChangedError, match=text):
        lift.while_loop(lambda s, c: True, lambda s, c: grow(s, c, 0)[0], scope, 0, carry_variables="state")


def test_a_carried_variable_that_is_made_in_the_loop():
    def make(scope, c, x):
        return c, scope.variable("state", "n", lambda: jnp.zeros(())).value

    with pytest.raises(errors.CarryChangedError, match=r"n of collection 'state': absent in, float32\[\] out"):
        init(lift.scan(make, variable_carry="state"))(KEY, 0.0, XS)


def test_a_shared_variable_that_varies():
    def keep(scope, c, x):
        scope.put_variable("state", "x", x)
        return c, x

    with pytest.raises(errors.BroadcastVariableError, match=r"share depends on .*\n.*\n  got: x of collection 'state'"):
        init(lift.scan(keep, variable_broadcast="state"))(KEY, 0.0, XS)
    with pytest.raises(errors.BroadcastVariableError, match="w of collection 'params'"):
        init(lift.scan(dense_body, variable_broadcast="params", split_rngs={"params": True}))(KEY, 0.0, XS)
    with pytest.raises(errors.BroadcastVariableError, match="of vmap share depends"):
        init(lift.vmap(lambda s, x: keep(s, 0, x)[1], {"state": None}, {}))(KEY, XS)
    with pytest.raises(errors.BroadcastVariableError, match="a result whose out_axes is `broadcast`"):
        init(lift.scan(lambda s, c, x: (c, x), out_axes=axes_scan.broadcast))(KEY, 0.0, XS)


def test_shared_variables_need_the_check():
    fn = lift.scan(dense_body, variable_broadcast="params", split_rngs={True: False}, check_constancy_invariants=False)
    with pytest.raises(errors.BroadcastVariableError, match="created inside, without check_constancy_invariants"):
        init(fn)(KEY, 0.0, XS)
    loop = axes_scan.scan(lambda b, c, x: (b, c, b), 0, axes_scan.broadcast, check_constancy_invariants=False)
    with pytest.raises(errors.TransformError, match="needs check_constancy_invariants=True"):
        loop(0, 0, XS)


def test_branches_that_disagree():
    with pytest.raises(errors.BranchStateError) as info:
        init(lambda s, x: lift.cond(True, dense, lambda s, x: x, s, x))(KEY, XS)
    assert "w of collection 'params': float32[3, 2] in branch 0, absent in branch 1" in str(info.value)
    assert "result: float32[2, 2] in branch 0, float32[2, 3] in branch 1" in str(info.value)
    assert isinstance(info.value, TypeError)  # what JAX raises
    with pytest.raises(errors.BranchStateError, match="branches of switch"):
        init(lambda s, x: lift.switch(0, [dense, lambda s, x: x], s, x))(KEY, XS)


def test_results_that_a_transform_cannot_use():
    with pytest.raises(errors.TransformError, match=r"expected: a tuple \(carry, y\)"):
        init(lift.scan(lambda s, c, x: c))(KEY, 0.0, XS)
    with pytest.raises(errors.TransformError, match=r"expected: a tuple \(shared, carry, y\)"):
        axes_scan.scan(lambda b, c, x: (c, x), 0, 0)(0, 0, XS)
    with pytest.raises(errors.TransformError, match="a scalar, has_aux=False"):
        init(lambda s, x: lift.value_and_grad(lambda s, x: x, s, x))(KEY, XS)
    with pytest.raises(errors.TransformError, match=r"a tuple \(loss, aux\)"):
        init(lambda s, x: lift.value_and_grad(lambda s, x: x.sum(), s, x, has_aux=True))(KEY, XS)
    with pytest.raises(errors.TransformError, match=r"a tuple \(out, aux\)"):
        init(lambda s, x: lift.vjp(lambda s, x: x, s, x, has_aux=True))(KEY, XS)


def test_slots_that_a_transform_does_not_have():
    import fx_transforms

    carrier = fx_transforms.ScopeCarrier(["params"], ["params"], [])
    with pytest.raises(
        errors.TransformError, match=r"vmap has no such place for variables 'params'.\n.*KEYS.*an axis\n  got: CARRY"
    ):
        fx_transforms.vmap(dense, carrier, [fx_transforms.CARRY])
    with pytest.raises(errors.TransformError, match="got: 0"):
        fx_transforms.while_loop(dense, dense, carrier, [fx_transforms.axis(0)])


def test_writing_shared_state_in_a_while_loop():
    import fx_transforms

    carrier = fx_transforms.ScopeCarrier(["state"], ["state"], [], whole=(0,))
    loop = fx_transforms.while_loop(
        lambda s, c: c < 1, lambda s, c: s.put_variable("state", "n", 1.0) or c, carrier, [fx_transforms.SHARED]
    )
    with pytest.raises(
        errors.BroadcastVariableError, match=r"is written by a step.\n.*\n  got: n of collection 'state'"
    ):
        loop(bind({"state": {"n": 0.0}}, mutable=True), 0)


def test_one_state_with_two_slots():
    check_aliases("vmap", [(1, "model/a", 0), (1, "model/b", 0)])
    with pytest.raises(errors.TransformError, match="model/a with 0 and model/b with None"):
        check_aliases("vmap", [(1, "model/a", 0), (2, "model/c", 1), (1, "model/b", None)])


def test_a_scope_of_an_outer_trace():
    from fx_core.errors import JaxTransformError

    def leak(scope, x):
        return lift.vmap(lambda s, x: dense(scope, x), {True: 0}, {True: True})(scope, x)

    assert init(leak)(KEY, XS)[1]["params"]  # the outer scope's own, one for all examples

    def write(scope, x):
        return lift.vmap(lambda _, x: scope.put_variable("params", "w", x), {True: 0}, {True: True})(scope, x)

    with pytest.raises(JaxTransformError, match=r"write the variable 'w' .* from values in another JAX trace"):
        init(write)(KEY, XS)


def test_a_scope_that_got_out():
    from fx_core.errors import InvalidScopeError

    kept = []
    scope = bind({"params": {"w": jnp.ones((3, 2))}}, mutable=True)
    lift.fold_rngs(lambda s, x: kept.append(s) or dense(s, x))(scope, XS)
    with pytest.raises(InvalidScopeError):
        kept[0].put_variable("params", "w", 0)


def test_pack_without_keyword_arguments():
    fn = lift.pack(lambda *args: None, [True], [True], [True], name="mine")
    with pytest.raises(errors.TransformError, match="mine takes no keyword arguments"):
        fn(bind({}), n=3)


def test_errors_pickle():
    import pickle

    error = errors.CollectionNotLiftedError("scan", "params", "/a", "'state'")
    again = pickle.loads(pickle.dumps(error))
    assert str(again) == str(error)
    assert again.transform == "scan"
