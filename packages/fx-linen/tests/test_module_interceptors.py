"""Calls that are intercepted, named in profiles, or found from outside."""

from typing import Any

import fx_linen as nn
import jax
import jax.numpy as jnp
from fx_core import config
from fx_linen.module._context import context

KEY = jax.random.key(0)


X = jnp.ones((1, 3))


class Affine(nn.Module):
    features: int = 2

    def setup(self):
        self.w = self.param("w", jax.nn.initializers.normal(), (3, self.features))

    def __call__(self, x):
        return x @ self.w

    def sum(self, x):
        return self(x).sum()


class Net(nn.Module):
    def setup(self):
        self.inner = Affine()

    def __call__(self, x):
        return self.inner(x)

    def encode(self, x, scale=1.0):
        return self.inner(x) * scale


def test_interceptors_nest():
    log: list[Any] = []

    def noting(label):
        def interceptor(next_fun, args, kwargs, context):
            log.append((label, type(context.module).__name__, context.method_name, len(args)))
            return next_fun(*args, **kwargs)

        return interceptor

    class Intercepted(nn.Module):
        def setup(self):
            self.inner = Affine()

        @nn.nowrap
        def quiet(self):
            return 1

        def run(self, x):
            self.quiet()
            return self.inner(x)

    with nn.intercept_methods(noting("outer")), nn.intercept_methods(noting("inner")):
        Intercepted().init(KEY, X, method="run")
    assert log == [
        (label, *call)
        for call in [("Intercepted", "setup", 0), ("Intercepted", "run", 1), ("Affine", "setup", 0),
                     ("Affine", "__call__", 1)]
        for label in ("outer", "inner")
    ]  # fmt: skip
    before = len(log)
    Intercepted().init(KEY, X, method="run")
    assert len(log) == before


def test_an_interceptor_may_change_arguments_and_results():
    def interceptor(next_fun, args, kwargs, context):
        if context.method_name != "__call__":
            return next_fun(*args, **kwargs)
        assert jnp.array_equal(context.orig_method(*args), next_fun(*args))
        return next_fun(2 * args[0]) + 1

    variables = Affine().init(KEY, X)
    with nn.intercept_methods(interceptor):
        y = Affine().apply(variables, X)
    assert jnp.allclose(y, 2 * Affine().apply(variables, X) + 1)


def hlo(**override):
    variables = Net().init(KEY, X)
    with nn.override_named_call(**override):
        lowered = jax.jit(lambda v, x: Net().apply(v, x, method="encode")).lower(variables, X)
    return lowered.as_text(debug_info=True)


def test_calls_are_named_in_profiles():
    assert "Net.encode/inner/dot_general" in hlo()
    assert "Net.encode/inner" not in hlo(enable=False)


def test_named_calls_can_be_switched():
    nn.disable_named_call()
    try:
        assert "inner/dot" not in jax.jit(Net().apply).lower(Net().init(KEY, X), X).as_text(debug_info=True)
    finally:
        nn.enable_named_call()
    assert "inner/dot" in jax.jit(Net().apply).lower(Net().init(KEY, X), X).as_text(debug_info=True)


def test_the_profile_flag_decides_unless_told_otherwise():
    variables = Net().init(KEY, X)
    before, context.named_call = context.named_call, None
    try:
        for flag in (True, False):
            with config.override(profile=flag):
                text = jax.jit(lambda v, x: Net().apply(v, x)).lower(variables, X).as_text(debug_info=True)
            assert ("Net/inner/dot_general" in text) is flag
    finally:
        context.named_call = before


def test_libraries_find_the_running_module_and_its_path():
    seen = []

    def spying(*args, **options):
        seen.append(nn.current_module())
        return jax.lax.dot_general(*args, **options)

    class Net(nn.Module):
        @nn.compact
        def __call__(self, x):
            seen.append(nn.current_module())
            x = nn.remat(nn.Dense)(3, dot_general=spying, name="kept")(x)
            return nn.Dense(3, dot_general=spying)(x)

    assert nn.current_module() is None
    Net().init_with_output(KEY, X)
    assert [type(module).__name__ for module, _ in seen] == ["Net", "Dense", "Dense"]
    assert [path for _, path in seen] == [(), ("kept",), ("Dense_0",)]
    assert nn.current_module() is None


def test_libraries_find_the_methods_of_a_class_and_replace_them():
    class Net(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.Dense(3)(x)

        def helper(self, x):
            return x

        @nn.nowrap
        def alone(self, x):
            return x

    for name in ("__call__", "helper"):
        assert getattr(Net, name).method_handler_wrapped
        assert not hasattr(getattr(Net, name).__wrapped__, "method_handler_wrapped")
    assert not hasattr(Net.alone, "method_handler_wrapped")
    original = Net.__call__.__wrapped__

    def doubled(self, x):
        return 2 * original(self, x)

    doubled.compact = True
    model = Net().copy()
    model.__class__ = type("Net", (Net,), {"__call__": nn.wrap_method_once(doubled)})
    variables = Net().init(KEY, X)
    assert jnp.allclose(model.apply(variables, X), 2 * Net().apply(variables, X))
