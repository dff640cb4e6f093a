"""Transforms of modules against Flax Linen: names, parameters, results and gradients, over transforms and forms."""

import functools
from types import SimpleNamespace

import flax.linen
import fx_linen
import jax
import jax.numpy as jnp
import numpy as np
import pytest

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


MODELS = {
    # Classes
    "jit": lambda k: net(k, k.nn.jit(k.Layer)),
    "jit_setup": lambda k: net(k, k.nn.jit(k.Made)),
    "remat": lambda k: net(k, k.nn.remat(k.Layer)),
    "checkpoint": lambda k: net(k, k.nn.checkpoint(k.Made, policy=jax.checkpoint_policies.dots_saveable)),
    "vmap": lambda k: net(k, k.nn.vmap(k.Layer, **OWN)),
    "vmap_shared": lambda k: net(k, k.nn.vmap(k.Layer, **SHARED)),
    "vmap_setup": lambda k: net(k, k.nn.vmap(k.Made, **OWN, in_axes=1, out_axes=1)),
    "vmap_axis": lambda k: net(k, k.nn.vmap(k.Layer, variable_axes={"params": -1}, split_rngs={"params": True})),
    "vmap_size": lambda k: net(k, k.nn.vmap(k.Layer, **OWN, in_axes=None, axis_size=5)),
    "vmap_partitioned": lambda k: net(k, k.nn.vmap(k.Named, **OWN, metadata_params={k.nn.PARTITION_NAME: "heads"})),
    "scan": lambda k: net(k, step_scan(k, k.Step)),
    "scan_unroll_reverse": lambda k: net(k, step_scan(k, k.Step, unroll=2, reverse=True)),
    "scan_axis": lambda k: net(k, step_scan(k, k.Step, variable_axes={"params": 1})),
    "scan_partitioned": lambda k: net(k, step_scan(k, k.NamedStep, metadata_params={k.nn.PARTITION_NAME: "layers"})),
    "scan_shared": lambda k: net(
        k, k.nn.scan(k.Step, variable_broadcast="params", split_rngs={"params": False}, length=3)
    ),
    "remat_scan": lambda k: net(k, k.nn.remat_scan(k.Layer, lengths=(2, 2))),
    "fold_rngs": lambda k: net(k, k.nn.fold_rngs(k.Layer)),
    "map_variables": transposed,
    "map_variables_mutable": mutable_mapped,
    "add_metadata_axis": lambda k: net(
        k, k.nn.add_metadata_axis(k.Named, {"params": 0}, {k.nn.PARTITION_NAME: "layers"})
    ),
    "methods": several_methods,
    "remat_layers": remat_over_layers,
    # Functions of a submodule
    "fn_jit": fn_form("jit"),
    "fn_remat": fn_form("remat"),
    "fn_vmap": fn_form("vmap", **OWN),
    "fn_fold_rngs": fn_form("fold_rngs"),
    "fn_map_variables": mapped_function,
    # Functions of the running module
    "self_jit": on_self("jit"),
    "self_remat": on_self("remat"),
    "self_vmap": on_self("vmap", **SHARED),
    # Decorated methods
    "method_jit": decorated("jit"),
    "method_remat": decorated("remat"),
    "method_vmap": decorated("vmap", **OWN),
    # Nested
    "jit_of_vmap": lambda k: net(k, k.nn.jit(k.nn.vmap(k.Layer, **OWN))),
    "scan_of_remat": lambda k: net(k, step_scan(k, k.nn.remat(k.Step, prevent_cse=False))),
    "vmap_of_scan": lambda k: net(k, k.nn.vmap(step_scan(k, k.Step), **OWN)),
    "scan_of_vmap": lambda k: net(k, step_scan(k, k.nn.vmap(k.Step, **OWN))),
    "remat_of_scan_of_jit": lambda k: net(k, k.nn.remat(step_scan(k, k.nn.jit(k.Step)))),
    "scan_of_scan": lambda k: net(
        k, step_scan(k, k.nn.scan(k.Step, **OWN, length=2), metadata_params={k.nn.PARTITION_NAME: "outer"})
    ),
    # Modules as arguments and fields
    "shared_argument": shared_argument,
    "cond": branches("cond"),
    "switch": branches("switch"),
    "while_loop": loop,
    "vjp_many": vjp_of_many,
    "custom_vjp": own_rule,
    **{
        kind: derivatives(kind)
        for kind in ("vjp", "vjp_aux", "jvp", "grad", "grad_aux", "value_and_grad", "value_and_grad_aux")
    },
}


def plain(tree):
    """Boxes as dicts, so that the trees of both libraries can be compared."""

    def open_box(x):
        return {"value": x.value, "names": np.asarray([str(n) for n in x.names])} if hasattr(x, "names") else x

    boxed = jax.tree.map(open_box, tree, is_leaf=lambda x: hasattr(x, "names"))
    return {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(boxed)}


def compare(ours, theirs, exact=False):
    ours, theirs = plain(ours), plain(theirs)
    assert list(ours) == list(theirs)
    for path, value in ours.items():
        if exact or np.asarray(value).dtype.kind == "U":
            np.testing.assert_array_equal(np.asarray(value), np.asarray(theirs[path]), err_msg=path)
        else:
            np.testing.assert_allclose(value, theirs[path], rtol=2e-6, atol=2e-6, err_msg=path)


@pytest.mark.parametrize("case", MODELS)
def test_models(case):
    results = []
    for nn in (fx_linen, flax.linen):
        model = MODELS[case](kit(nn))
        y, variables = model.init_with_output(KEY, X)
        unboxed = nn.unbox(variables)
        # Gradients through boxes have boxes of the one library or the other: differentiate the arrays.
        out, state = model.apply(variables, X, mutable=["state"])

        def loss(unboxed, nn=nn, model=model, variables=variables):
            boxed = jax.tree.map(
                lambda box, x: box.replace_boxed(x) if hasattr(box, "names") else x,
                variables,
                unboxed,
                is_leaf=lambda x: hasattr(x, "names"),
            )
            out, _ = model.apply(boxed, X, mutable=["state"])
            return sum(jnp.sum(leaf) for leaf in jax.tree.leaves(out))

        # A while loop has no gradient.
        grads = () if case == "while_loop" else jax.grad(loss, allow_int=True)(unboxed)
        results.append((variables, y, out, state, grads))
    (variables, *rest), (their_variables, *their_rest) = results
    compare(variables, their_variables, exact="jit" not in case)
    compare(rest, their_rest)


KEYS = {"params": KEY, "dropout": jax.random.key(3)}


@pytest.mark.parametrize("split", [True, False])
@pytest.mark.parametrize("form", ["vmap", "scan", "jit", "remat", "fold_rngs"])
def test_streams_split_or_shared(form, split):
    results = []
    for nn in (fx_linen, flax.linen):
        k = kit(nn)
        rngs = {"params": True, "dropout": split}
        if form == "vmap":
            axes = {"params": 0, "counts": 0}
            model = net(k, nn.vmap(k.Noisy, variable_axes=axes, split_rngs=rngs))
        elif form == "scan":
            model = net(k, step_scan(k, k.NoisyStep, split_rngs=rngs))
        else:
            model = net(k, getattr(nn, form)(k.Noisy))
        (y, variables) = model.init_with_output(KEYS, X)
        out = model.apply(variables, X, rngs=KEYS, mutable=["counts"])
        results.append((variables, y, out))
    compare(*results)


def test_carried_variables():
    results = []
    for nn in (fx_linen, flax.linen):
        model = counting_scan(kit(nn))
        before = {"state": {"counting": {"total": jnp.ones(3)}}}
        params = kit(nn).nn.Dense(3).init(KEY, jnp.ones(3))["params"]
        variables = {"params": {"counting": {"Dense_0": params}}, **before}
        results.append(model.apply(variables, X, mutable=["state"]))
    compare(*results)
