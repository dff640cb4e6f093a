"""Modules in the terms of one library or the other, and the forms in which a transform takes them."""

import functools
from types import SimpleNamespace

import jax
import jax.numpy as jnp

KEY = jax.random.key(7)
X = jnp.linspace(-1.0, 1.0, 12).reshape(4, 3)
OWN = {"variable_axes": {"params": 0}, "split_rngs": {"params": True}}
SHARED = {"variable_axes": {"params": None}, "split_rngs": {"params": False}}


@functools.cache
def kit(nn):
    """The same modules, in terms of one library or the other."""

    class Layer(nn.Module):
        features: int = 3

        @nn.compact
        def __call__(self, x):
            return nn.tanh(nn.Dense(self.features)(x))

    class Made(nn.Module):
        def setup(self):
            self.dense = nn.Dense(3)
            self.scale = self.param("scale", nn.initializers.normal(1.0), ())

        def __call__(self, x):
            return self.encode(x) + self.decode(x)

        def encode(self, x):
            return self.dense(x) * self.scale

        def decode(self, x):
            return self.encode(x) - self.scale

    class Noisy(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = nn.Dropout(0.5, deterministic=False)(nn.Dense(3)(x))
            count = self.variable("counts", "calls", lambda: jnp.zeros(()))
            count.value += 1
            return x

    class Step(nn.Module):
        inner: type = Layer

        @nn.compact
        def __call__(self, carry, x=None):
            y = self.inner()(carry if x is None else carry + x)
            return y, y.sum()

    class NoisyStep(nn.Module):
        @nn.compact
        def __call__(self, carry, x=None):
            carry = nn.Dropout(0.5, deterministic=False)(nn.Dense(3)(carry))
            return carry + jax.random.normal(self.make_rng("params"), carry.shape), None

    class Counting(nn.Module):
        @nn.compact
        def __call__(self, carry, x):
            total = self.variable("state", "total", lambda: jnp.zeros(3))
            total.value += x
            return carry + nn.Dense(3)(total.value), total.value

    class Named(nn.Module):
        @nn.compact
        def __call__(self, x):
            init = nn.with_partitioning(nn.initializers.lecun_normal(), ("embed", "mlp"))
            return nn.Dense(3, kernel_init=init)(x)

    class NamedStep(nn.Module):
        @nn.compact
        def __call__(self, carry, _=None):
            return Named()(carry), None

    class Holder(nn.Module):
        inner: nn.Module

        @nn.compact
        def __call__(self, x):
            return self.inner(x) + nn.Dense(3)(x)

    class Net(nn.Module):
        """A transformed class between two layers."""

        cls: type

        @nn.compact
        def __call__(self, *args):
            made = self.cls()
            first = nn.Dense(3)(args[0])
            out = made(first, *args[1:])
            return out, nn.Dense(3)(first)

    class Direct(nn.Module):
        """Runs a function of itself."""

        fn: object

        @nn.compact
        def __call__(self, *args):
            return self.fn(self, *args)

    return SimpleNamespace(**{k: v for k, v in locals().items() if isinstance(v, type)}, nn=nn)


def net(k, cls):
    return k.Net(cls)


def step_scan(k, cls, **options):
    return k.nn.scan(cls, **{**OWN, "length": 3, **options})


def fn_form(transform, **options):
    """The transform of a function of a submodule that is made outside."""

    def build(k):
        def run(self, x):
            layer = k.Layer(name="inner")
            call = getattr(k.nn, transform)(lambda layer, x: layer(x) * 2, **options)
            return call(layer, x) + k.nn.Dense(3)(x)

        return k.Direct(run)

    return build


def on_self(transform, **options):
    """The transform of a function of the module whose compact method is running."""

    def build(k):
        def body(self, x):
            return k.nn.Dense(3)(x)

        def run(self, x):
            x = k.nn.Dense(3)(x)
            x = getattr(k.nn, transform)(body, **options)(self, x)
            return k.nn.Dense(3)(x)

        return k.Direct(run)

    return build


def decorated(transform, **options):
    def build(k):
        nn = k.nn

        class Decorated(nn.Module):
            @functools.partial(getattr(nn, transform), **options)
            @nn.compact
            def __call__(self, x):
                return nn.Dense(3)(nn.Dense(3)(x))

        return Decorated()

    return build


def shared_argument(k):
    """A submodule goes in as an argument and as a field of another one."""

    def run(self, x):
        inner = k.Layer(name="shared")
        holder = k.Holder(inner)
        call = k.nn.remat(lambda holder, inner, x: holder(x) + inner(x))
        return call(holder, inner, x) + inner(x)

    return k.Direct(run)


def remat_over_layers(k):
    def run(self, x):
        for _ in range(3):
            x = k.nn.remat(k.Layer)()(x)
        return x

    return k.Direct(run)


def branches(pick):
    def build(k):
        def run(self, x):
            layers = [k.nn.Dense(3, name=f"d{i}") for i in range(3)]
            fns = [lambda self, *_, i=i: layers_of(_)[i](_[-1]) * (i + 1) for i in range(3)]

            def layers_of(args):
                return args[0]

            if self.is_initializing():
                for layer in layers:
                    layer(x)
            if pick == "cond":
                return k.nn.cond(x.sum() > 100, fns[0], fns[1], self, layers, x)
            return k.nn.switch(jnp.asarray(2), fns, self, layers, x)

        return k.Direct(run)

    return build


def derivatives(kind):
    def build(k):
        nn = k.nn

        def run(self, x):
            dense = nn.Dense(3)
            dense(x)

            def fn(dense, x):
                return nn.tanh(dense(x))

            def loss(dense, x, y):
                return (fn(dense, x) * y).sum(), y

            if kind == "vjp":
                y, backward = nn.vjp(fn, dense, x)
                return y, backward(y)
            if kind == "vjp_aux":
                y, backward, aux = nn.vjp(lambda d, x: (fn(d, x), x.sum()), dense, x, has_aux=True)
                return y, backward(y), aux
            if kind == "jvp":
                tangents = {"params": jax.tree.map(jnp.ones_like, dense.variables["params"])}
                return nn.jvp(fn, dense, (x,), (x,), tangents)
            if kind == "grad":
                return nn.grad(lambda *args: loss(*args)[0], dense, x, 2.0)
            if kind == "grad_aux":
                return nn.grad(loss, dense, x, 2.0, has_aux=True)
            if kind == "value_and_grad":
                return nn.value_and_grad(lambda *args: loss(*args)[0], dense, x, 2.0)
            return nn.value_and_grad(loss, dense, x, 2.0, has_aux=True)

        return k.Direct(run)

    return build


def vjp_of_many(k):
    nn = k.nn

    def run(self, x):
        holder = k.Holder(nn.Dense(3, name="outside"))
        holder(x)
        y, backward = nn.vjp(lambda m, x: m(x), holder, x, multi_scope=True)
        return y, backward(y)

    return k.Direct(run)


def own_rule(k):
    nn = k.nn

    def fn(dense, x):
        return dense(x)

    def forward(dense, x):
        return nn.vjp(fn, dense, x)

    def backward(vjp_fn, y_t):
        params_t, x_t = vjp_fn(y_t)
        return jax.tree.map(jnp.sign, params_t), x_t * 3

    def run(self, x):
        return nn.Dense(3)(nn.custom_vjp(fn, forward, backward)(nn.Dense(3), x))

    return k.Direct(run)


def loop(k):
    nn = k.nn

    def run(self, x):
        count = self.variable("state", "count", lambda: jnp.zeros((), jnp.int32))
        dense = nn.Dense(3, name="dense")
        dense(x)

        def condition(self, c):
            return self.get_variable("state", "count") < 4

        def body(self, c):
            self.put_variable("state", "count", self.get_variable("state", "count") + 1)
            return nn.tanh(c @ self.get_variable("params", "w"))

        self.param("w", nn.initializers.normal(1.0), (3, 3))
        if self.is_initializing():
            return body(self, x)
        return nn.while_loop(condition, body, self, x, carry_variables="state"), count.value

    return k.Direct(run)


def transposed(k):
    nn = k.nn

    def run(self, x):
        swap = functools.partial(jax.tree.map, lambda p: p.T if p.ndim == 2 else p)
        mapped = nn.map_variables(nn.Dense, "params", swap, swap, init=self.is_initializing())
        return mapped(2)(x)

    return k.Direct(run)


def mutable_mapped(k):
    nn = k.nn
    halved = functools.partial(jax.tree.map, lambda p: p / 2)
    doubled = functools.partial(jax.tree.map, lambda p: p * 2)

    def run(self, x):
        options = {"init": self.is_initializing(), "mutable": True}
        return nn.map_variables(k.Layer, "params", halved, doubled, **options)()(x)

    return k.Direct(run)


def mapped_function(k):
    def run(self, x):
        halved = functools.partial(jax.tree.map, lambda p: p / 2)
        doubled = functools.partial(jax.tree.map, lambda p: p * 2)
        options = {"trans_in_fn": halved, "trans_out_fn": doubled, "init": self.is_initializing()}
        layer = k.Layer(name="inner")
        return k.nn.map_variables(lambda layer, x: layer(x), "params", **options)(layer, x)

    return k.Direct(run)


def several_methods(k):
    nn = k.nn
    cls = nn.vmap(k.Made, **OWN, methods=["encode", "decode"])

    def run(self, x):
        made = cls(name="made")
        return made.encode(x) + made.decode(x)

    return k.Direct(run)


def counting_scan(k):
    """A carried variable exists before the loop."""

    def run(self, x):
        cls = k.nn.scan(
            k.Counting, variable_broadcast="params", variable_carry="state", split_rngs={"params": False}, out_axes=0
        )
        return cls(name="counting")(jnp.zeros(3), x)

    return k.Direct(run)
