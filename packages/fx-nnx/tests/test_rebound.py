"""Compiled functions whose globals, closures, attributes and items lead to another module than before."""

import contextvars
import functools
import logging
import sys
import types
import weakref
from collections import UserDict

import fx_nnx as nnx
import jax
import jax.numpy as jnp
import pytest

ONE = jnp.ones(())


class Scale(nnx.Module):
    def __init__(self, value):
        self.w = nnx.Param(jnp.array(value))

    def __call__(self, x):
        return self.w[...] * x


def space_of(source, **names):
    """Gives the globals of a program."""
    space = {"nnx": nnx, **names}
    exec(source, space)
    return space


def in_global():
    space = space_of("def f(x): return model(x)", model=Scale(2.0))
    return space["f"], lambda new: space.update(model=new)


def in_global_of_a_function_that_is_called():
    space = space_of("def g(x): return model(x)\ndef f(x): return [g(y) for y in [x]][0]", model=Scale(2.0))
    return space["f"], lambda new: space.update(model=new)


def in_python_module():
    module = types.ModuleType("models_of_this_test")
    module.model = Scale(2.0)
    return space_of("def f(x): return m.model(x)", m=module)["f"], lambda new: setattr(module, "model", new)


def in_python_module_in_a_package():
    package, module = types.ModuleType("package_of_this_test"), types.ModuleType("package_of_this_test.inner")
    package.inner, module.model = module, Scale(2.0)
    return space_of("def f(x): return p.inner.model.w * x", p=package)["f"], lambda new: setattr(module, "model", new)


def in_python_module_in_a_closure():
    module = types.ModuleType("models_of_this_test")
    module.model = Scale(2.0)
    return (lambda x: module.model(x)), lambda new: setattr(module, "model", new)


def imported_inside(of="from models_inside_of_this_test import model\n    return model(x)"):
    module = sys.modules["models_inside_of_this_test"] = types.ModuleType("models_inside_of_this_test")
    module.model = Scale(2.0)
    return space_of(f"def f(x):\n    {of}")["f"], lambda new: setattr(module, "model", new)


def imported_inside_as_a_module():
    return imported_inside("import models_inside_of_this_test as m\n    return m.model(x)")


def in_function_of_another_file():
    module = types.ModuleType("functions_of_this_test")
    exec("def apply(x): return model(x)", vars(module))
    module.model = Scale(2.0)
    return space_of("def f(x): return m.apply(x)", m=module)["f"], lambda new: setattr(module, "model", new)


def in_closure():
    model = Scale(2.0)

    def rebind(new):
        nonlocal model
        model = new

    return (lambda x: model(x)), rebind


def in_attribute_of_an_object():
    held = types.SimpleNamespace(inner=types.SimpleNamespace(model=Scale(2.0)))
    return (lambda x: held.inner.model(x)), lambda new: setattr(held.inner, "model", new)


def in_object_of_an_object():
    held = types.SimpleNamespace(inner=types.SimpleNamespace(model=Scale(2.0)))
    return (lambda x: held.inner.model(x)), lambda new: setattr(held, "inner", types.SimpleNamespace(model=new))


def in_attribute_of_a_class():
    class Held:
        model = Scale(2.0)

    return (lambda x: Held.model(x)), lambda new: setattr(Held, "model", new)


class Trainer:
    def __init__(self):
        self.model = Scale(2.0)
        self.calls = []

    def forward(self, x):
        return self.model(x)

    def step(self, x):
        return self.forward(x)


def in_object_of_a_method():
    trainer = Trainer()
    return trainer.step, lambda new: setattr(trainer, "model", new)


def in_list():
    models = [Scale(2.0)]
    return (lambda x: models[0](x)), lambda new: models.__setitem__(0, new)


def in_dict():
    models = {"a": Scale(2.0)}
    return (lambda x: models["a"](x)), lambda new: models.update(a=new)


def in_other_mapping():
    models = UserDict(a=Scale(2.0))
    return (lambda x: models["a"](x)), lambda new: models.update(a=new)


WAYS = [value for name, value in list(globals().items()) if name.startswith(("in_", "imported_inside"))]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_new_module_is_used(way, caplog):
    f, rebind = way()
    f = nnx.jit(f)
    assert (f(ONE), f(ONE)) == (2, 2)
    new = Scale(5.0)
    rebind(new)
    assert f(ONE) == 5
    assert "compiled anew" in caplog.text
    caplog.clear()
    assert (f(ONE), f(ONE)) == (5, 5)
    assert not caplog.records
    new.w[...] = 7.0
    assert f(ONE) == 7


def test_module_where_none_was():
    space = space_of("def f(x): return x if model is None else model(x)", model=None)
    f = nnx.jit(space["f"])
    assert f(ONE) == 1
    space["model"] = Scale(5.0)
    assert f(ONE) == 5
    space["model"] = None
    assert f(ONE) == 1


def test_one_module_more_in_a_list():
    models = [Scale(2.0)]
    f = nnx.jit(lambda x: sum(model(x) for model in models))
    assert f(ONE) == 2
    models.append(Scale(3.0))
    assert f(ONE) == 5


def test_two_names_of_one_module():
    model = Scale(2.0)
    space = space_of("def f(x): return first(x) + second(x)", first=model, second=model)
    f = nnx.jit(space["f"])
    assert f(ONE) == 4
    space["second"] = Scale(3.0)
    assert f(ONE) == 5


def test_loop_outside_of_jit():
    space = space_of("def body(i, x): return model(x)", model=Scale(2.0))
    assert nnx.fori_loop(0, 1, space["body"], ONE) == 2
    space["model"] = Scale(5.0)
    assert nnx.fori_loop(0, 1, space["body"], ONE) == 5


def test_program_compiled_ahead_refuses():
    space = space_of("def f(x): return model(x)", model=Scale(2.0))
    compiled = nnx.jit(space["f"]).lower(ONE).compile()
    assert compiled(ONE) == 2
    space["model"] = Scale(5.0)
    with pytest.raises(ValueError, match="old values"):
        compiled(ONE)


def test_attributes_that_the_function_does_not_read_are_no_matter(caplog):
    trainer, other = Trainer(), Trainer()
    trainer.other = other
    f = nnx.jit(lambda x: trainer.step(x))
    assert f(ONE) == 2
    trainer.other, trainer.calls, trainer.best = Trainer(), [Scale(1.0)], Scale(3.0)
    with caplog.at_level(logging.WARNING, "fx.nnx.jit"):
        assert f(ONE) == 2
    assert not caplog.records


@pytest.mark.parametrize("name", ["model", "best"])
def test_variables_that_are_gone_have_been_replaced(name):
    held = types.SimpleNamespace(**{name: Scale(2.0)})
    f = nnx.jit(lambda x: getattr(held, f"{name}")(x))  # by a name that is not in the code
    assert f(ONE) == 2
    setattr(held, name, Scale(5.0))
    assert f(ONE) == 5


def test_variables_made_and_dropped_during_the_trace_are_no_matter(caplog):
    traces = []

    def f(x):
        traces.append(1)
        with jax.ensure_compile_time_eval():
            factor = float(nnx.Param(2.0)[...])
        return x * factor

    f = nnx.jit(f)
    assert (f(ONE), f(ONE), len(traces)) == (2, 2, 1)


def given_as_a_static_argument(model):
    f, call = (lambda x: model(x)), nnx.jit(lambda f, x: f(x), static_argnums=0)
    return lambda x: call(f, x)


def given_by_name_as_a_static_argument(model):
    f, call = (lambda x: model(x)), nnx.jit(lambda x, f: f(x), static_argnames="f")
    return lambda x: call(x, f=f)


def held_in_a_function_that_a_module_has(model):
    holder, call = nnx.Dict(), nnx.jit(lambda holder, x: holder.f(x))
    holder.f = nnx.static(lambda x: model(x))
    return lambda x: call(holder, x)


def held_in_a_partial_that_a_module_has(model):
    holder, call = nnx.Dict(), nnx.jit(lambda holder, x: holder.f(x))
    holder.f = nnx.static(functools.partial(lambda model, x: model(x), model))
    return lambda x: call(holder, x)


def seen_by_a_method_of_a_module(model):
    class Other(nnx.Module):
        def __call__(self, x):
            return model(x)

    other, call = Other(), nnx.jit(lambda other, x: other(x))
    return lambda x: call(other, x)


def seen_by_a_method_that_is_bound(model):
    class Other(nnx.Module):
        def __call__(self, x):
            return model(x)

    return nnx.jit(Other().__call__)


def seen_by_a_module_that_is_called(model):
    class Other(nnx.Module):
        def __call__(self, x):
            return model(x)

    return nnx.jit(Other())


def held_in_a_class(model):
    held = type("Held", (), {"model": model})()
    return nnx.jit(lambda x: held.model(x))


def held_in_a_slot(model):
    held = type("Held", (), {"__slots__": ("model",)})()
    held.model = model
    return nnx.jit(lambda x: held.model(x))


def held_in_a_weak_reference(model):
    held = weakref.ref(model)
    return nnx.jit(lambda x: held()(x))


def held_in_a_context_variable(model):
    held = contextvars.ContextVar("held", default=model)
    return nnx.jit(lambda x: held.get()(x))


HELD = [value for name, value in list(globals().items()) if name.startswith(("given_", "seen_by", "held_in_"))]


class Factor(Scale):
    def __init__(self, value):
        super().__init__(value)
        self.factor = 1

    def __call__(self, x):
        return super().__call__(x) * self.factor


@pytest.mark.parametrize("way", HELD, ids=lambda way: way.__name__)
def test_attributes_and_variables_of_a_module_that_is_held(way):
    model = Factor(2.0)
    f = way(model)
    assert f(ONE) == 2
    model.factor = 2
    assert f(ONE) == 4
    model.w[...] = 3.0
    assert f(ONE) == 6
    model.w = nnx.Param(jnp.array(5.0))
    assert f(ONE) == 10
