"""Which arguments a derivative is for, and what is said where there is none."""

import fx_nnx as nnx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fx_nnx.errors import ArgumentNumberError, ArgumentTypeError, StaticArgumentError
from fx_transforms.errors import TransformError

MODES = [{}, {"graph_updates": False}, {"graph": False}]


def loss(m, x):
    return (m(x) ** 2).sum()


def layer():
    return nnx.Linear(2, 2, rngs=nnx.Rngs(0))


X = jnp.ones((1, 2))


@pytest.mark.parametrize("mode", MODES, ids=str)
@pytest.mark.parametrize("argnums", [3, (0, 3), -3, "m", (), (0, "x"), 1.0, True, (1, 1), (1, 0, -1)])
@pytest.mark.parametrize("transform", [nnx.grad, nnx.value_and_grad])
def test_arguments_that_are_not_there(transform, argnums, mode):
    with pytest.raises(ArgumentNumberError, match="argnums of") as caught:
        transform(loss, argnums=argnums, **mode)(layer(), X)
    assert isinstance(caught.value, TypeError | ValueError)
    assert repr(argnums) in str(caught.value)


def test_arguments_are_counted_and_named():
    with pytest.raises(ArgumentNumberError, match=r"argnums of grad (?s:.)*0: Linear, 1: ArrayImpl(?s:.)*argnums=3"):
        nnx.grad(loss, argnums=3)(layer(), X)
    with pytest.raises(ArgumentNumberError, match="argnums=1"):
        nnx.grad(loss, argnums=1)(layer(), x=X)
    with pytest.raises(ArgumentNumberError):
        nnx.grad(loss, argnums=nnx.DiffState(5, nnx.Param))(layer(), X)
    with pytest.raises(StaticArgumentError, match="static argument 1 of jit"):
        nnx.jit(lambda m, x: m, static_argnums=1)(layer(), [])


@pytest.mark.parametrize("mode", MODES, ids=str)
def test_modules_by_name(mode):
    model = layer()
    want = nnx.grad(loss, **mode)(model, X)
    for args, kwargs in (((model,), {"x": X}), ((), {"m": model, "x": X}), ((), {"x": X, "m": model})):
        got = nnx.grad(loss, **mode)(*args, **kwargs)
        np.testing.assert_array_equal(got["kernel"][...] if not mode else got.kernel, np.asarray(want.kernel[...]))
        value, _ = nnx.value_and_grad(loss, **mode)(*args, **kwargs)
        assert float(value) == float(loss(model, X))
    assert nnx.grad(loss, argnums=1, **mode)(m=model, x=X).shape == X.shape
    nnx.grad(lambda m, *, x: m(x).sum(), **mode)(m=model, x=X)


@pytest.mark.parametrize("mode", MODES, ids=str)
def test_integers_have_no_derivative(mode):
    model = layer()
    model.kernel.set_value(jnp.ones((2, 2), jnp.int8))
    with pytest.raises(ArgumentTypeError, match=r"(?s)argument 0/kernel.*int8"):
        nnx.grad(loss, **mode)(model, X)
    with pytest.raises(ArgumentTypeError, match=r"(?s)argument 1.*int32"):
        nnx.grad(loss, argnums=1, **mode)(layer(), jnp.ones((1, 2), int))
    nnx.grad(loss, allow_int=True, **mode)(model, X)


@pytest.mark.parametrize("mode", MODES, ids=str)
def test_linearizing_as_decorators(mode):
    @nnx.vjp(**mode)
    def f(m, x):
        return loss(m, x)

    model = layer()
    out, backward = f(model, X)
    assert float(out) == float(loss(model, X))
    of_model, of_x = backward(jnp.array(1.0))
    want = nnx.grad(loss, argnums=(0, 1), **mode)(model, X)
    np.testing.assert_allclose(of_model.kernel[...], want[0].kernel[...], rtol=1e-6)
    np.testing.assert_allclose(of_x, want[1], rtol=1e-6)

    @nnx.jvp(has_aux=True, **mode)
    def g(x):
        return x**2, "aux"

    assert g((3.0,), (1.0,)) == (9.0, 6.0, "aux")
    assert nnx.vjp(has_aux=True)(lambda x: (x, 1))(2.0)[2] == 1
    assert float(jax.jit(lambda x: nnx.jvp(jnp.sin)((x,), (1.0,))[1])(0.0)) == 1.0


def test_named_axes_to_sum_over_are_refused():
    for make in (nnx.grad, nnx.value_and_grad):
        with pytest.raises(TransformError, match="got reduce_axes"):
            make(lambda x: x, reduce_axes=("batch",))
    with pytest.raises(TransformError, match="vjp got reduce_axes"):
        nnx.vjp(lambda x: x, 1.0, reduce_axes=("batch",))


def test_what_is_met_again_in_a_tree_has_one_derivative():
    w, b = nnx.Param(jnp.array(3.0)), nnx.Param(jnp.array(5.0))
    layer = nnx.Dict(w=w)
    tree = {"a": [w, b], "again": w, "layer": layer, "same": layer, "empty": nnx.Dict()}

    def loss(tree):
        return tree["a"][0] * tree["a"][1] + tree["again"] ** 2 + tree["same"].w

    whole = nnx.grad(loss)(tree)
    assert (whole["a"][0].get_value(), whole["a"][1].get_value()) == (12.0, 3.0)
    assert all(isinstance(whole[name], nnx.State) and not whole[name] for name in ("again", "layer", "same", "empty"))
    nnx.update(tree, nnx.state(whole))
    assert (w.get_value(), b.get_value()) == (12.0, 3.0)

    values = nnx.grad(loss, graph_updates=False)(tree)
    assert values["again"] is values["a"][0] is values["layer"].w
    assert values["layer"] is values["same"]
    assert (values["again"].get_value(), values["a"][1].get_value()) == (28.0, 12.0)
    assert isinstance(values["empty"], nnx.Dict)


class Scaled(nnx.Module):
    def __init__(self, w):
        self.w, self.own, self.calls = w, nnx.Param(jnp.ones(2)), nnx.BatchStat(jnp.array(0))

    def __call__(self, x):
        self.calls[...] += 1
        return self.w * self.own * x


AUXILIARY = {
    "the model": lambda m: m,
    "the model in a dict": lambda m: {"model": m},
    "a variable": lambda m: m.w,
    "its state": nnx.state,
    "its parts": nnx.split,
    "another model with its variable": lambda m: Scaled(m.w),
}


@pytest.mark.parametrize("auxiliary", AUXILIARY.values(), ids=AUXILIARY)
@pytest.mark.parametrize("compiled", [False, True])
def test_what_is_differentiated_may_be_in_the_auxiliary_result(auxiliary, compiled):
    model = Scaled(nnx.Param(jnp.full(2, 3.0)))

    def loss(m):
        value = m(1.0).sum()
        return value, auxiliary(m)

    transform = nnx.value_and_grad(loss, has_aux=True)
    (value, aux), grads = (nnx.jit(transform) if compiled else transform)(model)
    assert float(value) == 6.0
    assert int(model.calls[...]) == 1
    np.testing.assert_array_equal(grads["own"][...], [3.0, 3.0])
    found = [leaf for leaf in jax.tree.leaves(aux) if jnp.shape(leaf) == (2,)]
    assert found
    assert any(np.array_equal(leaf, [3.0, 3.0]) for leaf in found)
    if auxiliary is AUXILIARY["the model"]:
        assert aux is model
    out, backward, again = nnx.vjp(loss, model, has_aux=True)
    assert float(out) == 6.0
    assert jax.tree.structure(again) == jax.tree.structure(aux)
    np.testing.assert_array_equal(backward(jnp.array(1.0))[0]["w"][...], [1.0, 1.0])


def test_shared_variables_have_their_whole_derivative_in_the_first_argument():
    shared = nnx.Param(jnp.full(2, 3.0))
    encoder, decoder = Scaled(shared), Scaled(shared)

    def loss(m, n, x):
        return (m(x) * n(x)).sum()

    first, second = nnx.grad(loss, argnums=(0, 1))(encoder, decoder, 1.0)
    assert (sorted(first), sorted(second)) == (["own", "w"], ["own"])
    np.testing.assert_array_equal(first["w"][...], [6.0, 6.0])
    np.testing.assert_array_equal(second["own"][...], [9.0, 9.0])
    both, none = nnx.grad(loss, argnums=(0, 1))(encoder, encoder, 1.0)
    assert (sorted(both), len(none)) == (["own", "w"], 0)
    np.testing.assert_array_equal(both["own"][...], [18.0, 18.0])
    with pytest.raises(TransformError, match=r"'argnums=0' and .* with 'no derivative'"):
        nnx.grad(loss)(encoder, decoder, 1.0)
    wanted = (nnx.DiffState(0, nnx.Param), nnx.DiffState(1, nnx.PathContains("w")))
    with pytest.raises(TransformError, match="the same state twice"):
        nnx.grad(loss, argnums=wanted)(encoder, decoder, 1.0)
