import threading

import fx_nnx as nnx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fx_nnx.errors import ArgumentTypeError
from fx_nnx.modules.intercept import watched

X = jnp.arange(2.0)[None]


class Block(nnx.Module):
    def __init__(self):
        self.layer = nnx.Linear(2, 3, rngs=nnx.Rngs(0))

    def inner(self, x):
        return self.layer(x)

    def __call__(self, x):
        y = self.inner(x)
        self.sow(nnx.Intermediate, "hidden", y)
        return self.perturb("shift", y).sum()


def paths(state):
    return ["/".join(map(str, path)) for path, _ in nnx.to_flat_state(state)]


def test_a_call_also_gives_what_it_sows():
    model = Block()
    y, found = nnx.capture(model, nnx.Intermediate)(X)
    assert y == model.inner(X).sum()
    np.testing.assert_array_equal(found["hidden"].get_value()[0], model.inner(X))
    y, zeros, seen = nnx.capture(model, nnx.Perturbation, nnx.Intermediate)(X)
    assert (paths(zeros), paths(seen)) == (["shift"], ["hidden"])
    assert nnx.capture(model)(X) == y
    assert paths(nnx.state(model)) == ["layer/bias", "layer/kernel"]


def test_functions_methods_and_decorators():
    model = Block()
    twice = lambda first, model, second: model(first) + model(second)  # noqa: E731
    _, found = nnx.capture(twice, nnx.Intermediate)(X, model, second=X)
    assert len(found["hidden"].get_value()) == 2
    decorated = nnx.capture(nnx.Intermediate)(lambda model: model(X))
    assert paths(decorated(model)[1]) == ["hidden"]
    _, found = nnx.capture(model.inner, nnx.Intermediate, method_outputs=nnx.Intermediate)(X)
    assert paths(found) == ["inner", "layer/__call__"]
    _, found = nnx.capture(lambda parts, model: (parts["a"](X), model(X)), nnx.Intermediate)(
        {"a": Block()}, model=model
    )
    assert paths(found) == ["0/a/hidden", "model/hidden"]


def test_what_was_there_stays():
    model = Block()
    model(X)
    _, found = nnx.capture(model, nnx.Intermediate)(X)
    assert len(found["hidden"].get_value()) == len(model.hidden.get_value()) == 1

    class Failing(Block):
        def __call__(self, x):
            super().__call__(x)
            raise ValueError("no")

    failing = Failing()
    with pytest.raises(ValueError, match="no"):
        nnx.capture(failing, nnx.Intermediate)(X)
    assert paths(nnx.state(failing)) == ["layer/bias", "layer/kernel"]


def test_gradients_with_respect_to_activations():
    model = Block()
    _, zeros = nnx.capture(model, nnx.Perturbation)(X)

    def loss(model, zeros):
        return nnx.capture(model, nnx.Intermediate, init=zeros)(X)[0] ** 2

    grads = nnx.grad(loss, argnums=1)(model, zeros)
    np.testing.assert_allclose(grads["shift"][...], jnp.full((1, 3), 2 * model(X)), rtol=1e-6)
    with pytest.raises(
        ArgumentTypeError, match="init must be a State of variables at paths of the modules, got ArrayImpl"
    ):
        nnx.capture(model, init=nnx.State({"shift": X}))(X)


def test_outputs_of_methods_come_through_transforms_and_only_once_per_call():
    class Derived(Block):
        def __call__(self, x):
            layer = nnx.jit(lambda layer, x: layer(x))
            return super().__call__(x) + layer(self.layer, x).sum()

    model = Derived()
    original = Derived.__call__
    y, found = nnx.capture(model, nnx.Intermediate, method_outputs=nnx.Intermediate)(X)
    assert paths(found) == ["__call__", "hidden", "inner", "layer/__call__"]
    assert found["__call__"].get_value() == (y,)
    assert len(found["layer"]["__call__"].get_value()) == 2
    assert Derived.__call__ is original


class Named(nnx.Module):
    """Sows, and perturbs, under the names of its methods."""

    def features(self, x):
        x = self.perturb("features", x)
        self.sow(nnx.Intermediate, "features", x + 1)
        return x

    def __call__(self, x):
        return self.features(x) + self.features(2 * x)


class First(nnx.Intermediate):
    pass


class Second(nnx.Intermediate):
    pass


def test_names_of_methods_serve_what_is_captured():
    model = Named()
    y, sown, zeros = nnx.capture(model, nnx.Intermediate, nnx.Perturbation)(X)
    np.testing.assert_array_equal(y, 3 * X)
    np.testing.assert_array_equal(sown["features"].get_value(), [X + 1, 2 * X + 1])
    loss = lambda model, zeros: nnx.capture(model, nnx.Intermediate, init=zeros)(X)[0].sum()  # noqa: E731
    np.testing.assert_array_equal(nnx.grad(loss, argnums=1)(model, zeros)["features"][...], [[2.0, 2.0]])
    jitted = nnx.jit(lambda model: nnx.capture(model, nnx.Intermediate, method_outputs=nnx.Intermediate)(X)[1])(model)
    np.testing.assert_array_equal(jitted["features"].get_value(), [X + 1, X, 2 * X + 1, 2 * X])
    assert paths(nnx.state(model)) == []
    assert callable(model.features)


def test_one_name_serves_several_types_that_are_captured():
    class Twice(nnx.Module):
        def __call__(self, x):
            self.sow(First, "a", x)
            self.sow(Second, "a", -x)

    model = Twice()
    _, first, second = nnx.capture(model, First, Second)(X)
    np.testing.assert_array_equal(first["a"].get_value()[0], X)
    np.testing.assert_array_equal(second["a"].get_value()[0], -X)
    _, both = nnx.capture(model, nnx.Intermediate)(X)
    np.testing.assert_array_equal(both["a"].get_value(), [X, -X])
    with pytest.raises(ArgumentTypeError, match=r"Twice\.a: expected Second, got First"):
        model(X)


def test_captures_go_through_states_that_a_function_splits_off():
    class Perturbed(nnx.Module):
        def __init__(self):
            self.w = nnx.Param(jnp.arange(4.0))

        def __call__(self, x):
            x = self.perturb("shift", x)
            self.sow(nnx.Intermediate, "y", x @ self.w)
            return x @ self.w

    @nnx.capture(nnx.Perturbation)
    def first(model, x):
        graphdef, captured, params = nnx.split(model, nnx.Intermediate, nnx.Param)
        return nnx.vmap(lambda captured, params, x: nnx.merge(graphdef, captured, params)(x), in_axes=(0, None, 0))(
            captured, params, x
        )

    @nnx.jit
    def step(model, x):
        def loss(model, zeros, x):
            return nnx.capture(model, nnx.Intermediate, init=zeros)(x)

        _, zeros = first(model, x)
        grads = nnx.grad(loss, argnums=1, has_aux=True)
        return nnx.vmap(grads, in_axes=(None, 0, 0))(model, zeros, x)

    model, x = Perturbed(), jnp.ones((3, 4))
    grads, sown = step(model, x)
    np.testing.assert_array_equal(grads["shift"][...], jnp.tile(model.w, (3, 1)))
    np.testing.assert_array_equal(sown["y"].get_value()[0], [6.0, 6.0, 6.0])
    assert paths(nnx.state(model)) == ["w"]


def test_values_for_modules_that_are_not_there_are_refused():
    _, zeros = nnx.capture(nnx.List([Block()])[0], nnx.Perturbation)(X)
    nested = nnx.State({"other": {"shift": zeros["shift"]}})
    with pytest.raises(ArgumentTypeError, match="where: /other/shift"):
        nnx.capture(Block(), nnx.Intermediate, init=nested)(X)


def test_captures_nest():
    model = Named()

    def inner(model):
        return nnx.capture(model, nnx.Intermediate)(X)[1], model.sow(nnx.Intermediate, "outer", X)

    (found, kept), outer = nnx.capture(inner, nnx.Intermediate)(model)
    assert (paths(found), kept, paths(outer)) == (["features"], True, ["outer"])


def test_a_method_is_not_replaced_by_what_is_sown():
    for sow in (lambda m: m.sow(nnx.Intermediate, "features", 1), lambda m: m.perturb("features", 1.0)):
        model = Named()
        with pytest.raises(
            ArgumentTypeError, match=r"Named\.features: expected (Intermediate|Perturbation), got function"
        ):
            sow(model)
        assert callable(model.features)


def test_watching_concerns_one_thread_only():
    seen, model = [], Block()

    def watch(module, name, args, kwargs, proceed):
        seen.append(name)
        return proceed()

    with watched([Block], watch):
        thread = threading.Thread(target=model.inner, args=(X,))
        thread.start()
        thread.join()
        assert not seen
        with watched([Block, nnx.Linear], watch):
            model.inner(X)
    assert seen == ["inner", "inner", "__call__"]


def test_capture_needs_a_module():
    with pytest.raises(ArgumentTypeError, match=r"needs the module[\s\S]*pass the module as an argument"):
        nnx.capture(lambda x: x, nnx.Intermediate)(X)


def test_sow_says_whether_it_kept():
    model = Block()
    assert model.sow(nnx.Intermediate, "a", 1) is True
    assert model.sow(nnx.Intermediate, "a", 2, capture_noop=True) is False
    assert model.a.get_value() == (1,)
    assert jax.tree.leaves(nnx.state(model, nnx.Intermediate)) == [1]
