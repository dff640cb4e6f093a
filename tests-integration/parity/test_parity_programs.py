"""Programs as people write them with Flax Linen: with the imports changed they give the same."""

import functools
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.core
import flax.linen
import flax.serialization
import flax.struct
import flax.training.train_state
import flax.traverse_util
import fx_ckpt
import fx_core
import fx_core.struct
import fx_core.traverse_util
import fx_linen
import fx_train.train_state
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

KEY = jax.random.key(0)
X = jnp.linspace(-1.0, 1.0, 15).reshape(3, 5)
IMAGES = jnp.linspace(-1.0, 1.0, 2 * 4 * 4 * 3).reshape(2, 4, 4, 3)

THEIRS = types.SimpleNamespace(
    nn=flax.linen,
    core=flax.core,
    struct=flax.struct,
    traverse=flax.traverse_util,
    to_bytes=flax.serialization.to_bytes,
    TrainState=flax.training.train_state.TrainState,
)
OURS = types.SimpleNamespace(
    nn=fx_linen,
    core=fx_core,
    struct=fx_core.struct,
    traverse=fx_core.traverse_util,
    to_bytes=fx_ckpt.to_bytes,
    TrainState=fx_train.train_state.TrainState,
)


def residual_network(lib):
    nn = lib.nn

    class Block(nn.Module):
        filters: int
        conv: Any
        norm: Any
        strides: tuple[int, int] = (1, 1)

        @nn.compact
        def __call__(self, x):
            y = nn.relu(self.norm()(self.conv(self.filters, (3, 3), self.strides)(x)))
            y = self.norm(scale_init=nn.initializers.zeros_init())(self.conv(self.filters, (3, 3))(y))
            if x.shape != y.shape:
                x = self.norm(name="norm_proj")(self.conv(self.filters, (1, 1), self.strides, name="conv_proj")(x))
            return nn.relu(x + y)

    class Net(nn.Module):
        sizes: Sequence[int]

        @nn.compact
        def __call__(self, x, train: bool = True):
            conv = functools.partial(nn.Conv, use_bias=False)
            norm = functools.partial(nn.BatchNorm, use_running_average=not train, momentum=0.9)
            for i, size in enumerate(self.sizes):
                x = Block(size, strides=(2, 2) if i else (1, 1), conv=conv, norm=norm)(x)
            return nn.Dense(2)(x.mean((1, 2)))

    model = Net([5, 6])
    variables = model.init(KEY, IMAGES)
    return (
        variables,
        model.apply(variables, IMAGES, mutable=["batch_stats"]),
        model.apply(variables, IMAGES, train=False),
    )


def autoencoder(lib):
    nn = lib.nn

    class Encoder(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = nn.relu(nn.Dense(6, name="fc1")(x))
            return nn.Dense(2, name="mean")(x), nn.Dense(2, name="logvar")(x)

    class Auto(nn.Module):
        def setup(self):
            self.encoder = Encoder()
            self.decoder = nn.Sequential([nn.Dense(6), nn.relu, lambda x: 2 * x, nn.Dense(5)])

        def __call__(self, x, key):
            mean, logvar = self.encoder(x)
            return self.decode(mean + jnp.exp(0.5 * logvar) * jax.random.normal(key, mean.shape))

        def decode(self, z):
            return nn.sigmoid(self.decoder(z))

    model = Auto()
    variables = model.init(KEY, X, jax.random.key(1))
    z = jnp.ones((1, 2))
    bound = model.bind(variables)
    decoder, inner = bound.decoder.unbind()
    return (
        variables,
        model.apply(variables, X, jax.random.key(2)),
        [model.apply(variables, z, method=method) for method in ("decode", Auto.decode, model.decode)],
        model.apply(variables, X, method=lambda module, x: module.encoder(x)[0]),
        bound.decode(z),
        decoder.apply(inner, z),
    )


def shared_and_tied(lib):
    nn = lib.nn

    class Apply(nn.Module):
        layers: Mapping[str, nn.Module]
        functions: Sequence[Callable]
        head: nn.Module

        def __call__(self, x):
            for name in sorted(self.layers):
                x = self.layers[name](x)
            for function in self.functions:
                x = function(x)
            return self.head(x)

    class Model(nn.Module):
        def setup(self):
            self.embed = nn.Embed(7, 5)
            self.blocks = [nn.Dense(5) for _ in range(2)]
            self.heads = {"a": nn.Dense(1), "b": nn.Dense(2)}

        def __call__(self, ids):
            x = self.embed(ids)
            for block in self.blocks:
                x = block(x)
            return self.embed.attend(x), {name: head(x) for name, head in self.heads.items()}

    shared = nn.Dense(5)
    out = []
    for model, x in [
        (Apply({"a": shared, "b": shared}, [nn.relu, nn.Dense(6), jnp.tanh], nn.Dense(2)), X),
        (Model(), jnp.array([[1, 2], [3, 0]])),
    ]:
        variables = model.init(KEY, x)
        out.append((variables, model.apply(variables, x)))
    return out


def lora_by_shared_scope(lib):
    nn = lib.nn

    class LoRA(nn.Module):
        inner: nn.Module
        rank: int = 2

        def setup(self):
            nn.share_scope(self, self.inner)

        @nn.compact
        def __call__(self, x):
            a = self.param("A", nn.initializers.uniform(), (x.shape[-1], self.rank))
            b = self.param("B", nn.initializers.ones_init(), (self.rank, self.inner.features))
            return self.inner(x) + x @ a @ b

    model = LoRA(nn.Dense(2))
    variables = model.init(KEY, X)
    return variables, model.apply(variables, X)


def observed(lib):
    nn = lib.nn

    class Net(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = self.perturb("hidden", nn.Dense(6)(x))
            self.sow("intermediates", "hidden", x)
            count = self.variable("state", "count", jnp.zeros, (), jnp.int32)
            if self.is_mutable_collection("state"):
                count.value += 1
            return nn.Dense(2)(x)

    def double(call, args, kwargs, context):
        seen.append((type(context.module).__name__, context.method_name))
        return call(*(2 * x for x in args), **kwargs)

    seen: list[Any] = []
    model = Net()
    variables = model.init(KEY, X)
    captured = model.apply(variables, X, capture_intermediates=True, mutable=["intermediates", "state"])
    with nn.intercept_methods(double):
        doubled = model.apply(variables, X)
    gradient = jax.grad(lambda p: model.apply({**variables, "perturbations": p}, X).sum())(variables["perturbations"])
    return variables, captured, doubled, seen, gradient


def trained(lib):
    nn = lib.nn

    class State(lib.TrainState):
        batch_stats: Any
        rate: float = lib.struct.field(pytree_node=False, default=0.5)

    class Net(nn.Module):
        @nn.compact
        def __call__(self, x, train):
            x = nn.relu(nn.BatchNorm(use_running_average=not train)(nn.Dense(6, name="backbone")(x)))
            return nn.Dense(2, name="head")(nn.Dropout(0.5, deterministic=not train)(x))

    model = Net()
    variables = model.init(KEY, X, train=False)
    labels = lib.traverse.path_aware_map(
        lambda path, _: "frozen" if "backbone" in path else "free", variables["params"]
    )
    tx = optax.multi_transform({"free": optax.adam(1e-2), "frozen": optax.set_to_zero()}, labels)
    state = State.create(apply_fn=model.apply, tx=tx, **variables)

    @jax.jit
    def step(state, key):
        def loss(params):
            y, updates = state.apply_fn(
                {"params": params, "batch_stats": state.batch_stats},
                X,
                train=True,
                rngs={"dropout": jax.random.fold_in(key, state.step)},
                mutable=["batch_stats"],
            )
            return (y**2).mean(), updates

        (value, updates), grads = jax.value_and_grad(loss, has_aux=True)(state.params)
        return state.apply_gradients(grads=grads, **updates), value

    losses = []
    for _ in range(2):
        state, value = step(state, jax.random.key(1))
        losses.append(value)
    start = State.create(apply_fn=model.apply, tx=tx, **variables)
    flat = lib.traverse.flatten_dict(state.params, sep="/")
    return (
        variables, labels, losses, jax.tree.leaves(state), lib.to_bytes(start), state.rate,
        flat, lib.traverse.unflatten_dict(flat, sep="/"), lib.core.freeze(variables).pop("params")[1],
    )  # fmt: skip


def initialized_in_every_way(lib):
    model = lib.nn.Dense(2)
    return (
        model.init({"params": KEY}, X),
        jax.jit(model.init)(KEY, X),
        model.init(jax.random.PRNGKey(0), X),
        jax.vmap(model.init, (0, None))(jax.random.split(KEY, 2), X),
        model.init_with_output(KEY, X),
        model.lazy_init(KEY, jax.ShapeDtypeStruct((2, 5), jnp.float32)),
        [leaf.shape for leaf in jax.tree.leaves(jax.eval_shape(model.init, KEY, X))],
    )


def inherited(lib):
    nn = lib.nn

    class Base(nn.Module):
        width: int = 6
        double: int | None = None

        def __post_init__(self):
            if self.double is None:
                self.double = 2 * self.width
            super().__post_init__()

        @property
        def area(self):
            return self.width * self.double

        @nn.compact
        def __call__(self, x, mode: str = "a"):
            x = nn.Dense(self.double)(x)
            return self.after(x) if mode == "a" else x * self.area

        def after(self, x):
            return x

    class Child(Base, kw_only=True):
        depth: int

        def after(self, x):
            return nn.Dense(self.depth)(x)

    model = Child(depth=2)
    variables = model.init(KEY, X)
    apply = jax.jit(model.apply, static_argnames="mode")
    same = model == Child(depth=2), model == Child(depth=1), hash(model) == hash(Child(depth=2)), repr(model)
    return variables, apply(variables, X), apply(variables, X, mode="b"), same, model.clone(width=1).double


PROGRAMS = [
    residual_network, autoencoder, shared_and_tied, lora_by_shared_scope, observed, trained,
    initialized_in_every_way, inherited,
]  # fmt: skip


def plain(tree):
    """Frozen dictionaries of both libraries as dictionaries."""
    if isinstance(tree, Mapping):
        return {key: plain(value) for key, value in tree.items()}
    return type(tree)(map(plain, tree)) if type(tree) in (list, tuple) else tree


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.__name__)
def test_programs_give_the_same(program):
    theirs, ours = plain(program(THEIRS)), plain(program(OURS))
    expected, structure = jax.tree_util.tree_flatten_with_path(theirs)
    assert jax.tree.structure(ours) == structure
    for (path, want), have in zip(expected, jax.tree.leaves(ours)):
        if not isinstance(want, jax.Array):
            assert want == have, path
            continue
        assert (want.shape, want.dtype) == (have.shape, have.dtype), path
        if any(getattr(key, "key", None) == "params" for key in path):
            np.testing.assert_array_equal(have, want, str(path))
        else:
            np.testing.assert_allclose(have, want, 1e-6, 1e-6, err_msg=str(path))
