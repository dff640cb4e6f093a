"""remat traces equal layers once, and nothing but the trace is shared: each test compares with the same network without
remat."""

import dataclasses

import fx_linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest


@dataclasses.dataclass(frozen=True)
class Config:
    by: object


KEYS = {"params": jax.random.key(0), "dropout": jax.random.key(1)}
X = jnp.linspace(-1.0, 1.0, 8).reshape(2, 4)


def test_equal_layers_are_traced_once(same, counted, stack):
    layer, traces = counted()

    def make(transform):
        cls = transform(layer)
        return stack(cls, count=5)

    same(make, grads=True)
    assert len(traces) == 1 + 5


@pytest.mark.parametrize("where", ["in the loop", "before"])
def test_classes_made_anew_share_a_trace(counted, where):
    layer, traces = counted()
    before = nn.remat(layer)

    class Net(nn.Module):
        @nn.compact
        def __call__(self, x):
            for _ in range(3):
                x = (nn.remat(layer) if where == "in the loop" else before)()(x)
            return x

    variables = Net().init(KEYS, X)
    Net().apply(variables, X)
    assert len(traces) == 1
    Net().apply(variables, X)
    assert len(traces) == 2


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("kind", ["typed", "raw"])
def test_each_layer_draws_its_own_keys(same, counted, stack, compiled, kind, monkeypatch):
    key = jax.random.key(1) if kind == "typed" else jax.random.PRNGKey(1)
    monkeypatch.setitem(KEYS, "dropout", key)
    drawn = []

    def body(module, x):
        x = nn.Dropout(0.5, deterministic=False)(x)
        key = module.make_rng("dropout")
        module.make_rng("params" if module.has_rng("params") else "dropout")  # drawn for nothing
        drawn.append(key)
        # A function that is compiled by itself must not keep the key of one layer.
        noise = jax.jit(lambda: jax.random.normal(key, (2, 4)))()
        return x + noise + jax.random.uniform(key, (2, 4))

    layer, traces = counted(body)

    def make(transform):
        cls = transform(layer)
        return stack(cls)

    same(make, compiled=compiled, grads=compiled)
    assert len(traces) == 1 + 3


def test_calling_a_layer_again_draws_new_keys(same, counted):
    layer, _ = counted(lambda module, x: nn.Dropout(0.5, deterministic=False)(x))

    def make(transform):
        cls = transform(layer)

        class Twice(nn.Module):
            @nn.compact
            def __call__(self, x):
                first, second = cls(name="first"), cls(name="second")
                return second(first(second(first(x))))

        return Twice()

    same(make)


def test_variables_are_each_layers_own(same, counted, stack):
    def body(module, x):
        module.sow("intermediates", "seen", jnp.sum(x[0]))
        x = nn.BatchNorm(use_running_average=False)(x)
        calls = module.variable("counts", "calls", lambda: jnp.zeros(()))
        if not module.is_initializing():
            calls.value += jnp.sum(x[0])
        return x

    layer, traces = counted(body)

    def make(transform):
        cls = transform(layer)
        return stack(cls)

    state = same(make, mutable=["batch_stats", "intermediates", "counts"], steps=2, grads=True)
    assert len(traces) == 1 + 3
    assert len({float(layer["seen"][0]) for layer in state["intermediates"].values()}) == 3


def _number(text):
    return float(sum(map(ord, str(text))))


@pytest.mark.parametrize(
    "look",
    [
        lambda module: _number(module.name),
        lambda module: _number(module.path),
        lambda module: _number(nn.Dense(3).path),
        lambda module: _number(module.scope.path_text.replace("remat(", "").replace(")", "")),
        lambda module: _number(module.scope.name),
        lambda module: _number(module.scope.rngs["dropout"].suffix),
        lambda module: _number(module.parent.scope.path) + _number(module.clone().name),
        lambda module: float(len(module.parent._state.children)),
        lambda module: _number(getattr(module, "name")),  # noqa: B009
        lambda module: _number(_shown(module.variable)),
    ],
    ids=[
        "name",
        "path",
        "path below",
        "path as text",
        "name of scope",
        "streams",
        "parent",
        "children",
        "getattr",
        "repr",
    ],
)
def test_layers_that_ask_where_they_are_are_traced_for_themselves(same, counted, stack, look):
    layer, traces = counted(lambda module, x: x + 0.001 * look(module))

    def make(transform):
        cls = transform(layer)
        return stack(cls)

    same(make)
    assert len(traces) == 3 + 3


def _shown(variable):
    return repr(variable("counts", "some", lambda: 0)).replace("remat(", "").replace(")", "")


def test_other_layers_have_other_traces(same, counted):
    def body(module, x):
        return x * (2.0 if True in (module.offset is True, getattr(module.config, "by", 0) is True) else 1.0)

    layer, traces = counted(body)
    table = jnp.full((1, 4), 0.5)
    offsets = [1, 1.0, True, 1, np.float32(0.0), np.float32(-0.0), table, table]
    configs = [Config(1), Config(True), Config(1)]

    def make(transform):
        cls = transform(layer)

        class Net(nn.Module):
            @nn.compact
            def __call__(self, x):
                for n, offset in enumerate(offsets):
                    x = cls(offset=offset, name=f"layer_{n}")(x)
                for n, box in enumerate(configs):
                    x = cls(config=box, name=f"other_{n}")(x)
                return x

        return Net()

    same(make)
    assert len(traces) == 8 + 11


def test_other_inputs_have_other_traces(same, counted):
    layer, traces = counted()

    def make(transform):
        cls = transform(layer)

        class Net(nn.Module):
            @nn.compact
            def __call__(self, x):
                a, b, c = cls(name="a"), cls(name="b"), cls(name="c")
                x = a(x)
                x = b(x.astype(jnp.bfloat16)).astype(jnp.float32)
                with jax.default_matmul_precision("highest"):
                    x = c(x)
                return c(a(x)) + c(x[:1])

        return Net()

    same(make)
    assert len(traces) == 4 + 6


def test_arguments_that_are_no_arrays(same):
    traces = []

    class Layer(nn.Module):
        @nn.compact
        def __call__(self, x, mode, *, scale):
            if not self.is_initializing():
                traces.append(mode)
            return nn.Dense(4)(x) * (scale if mode == "scaled" else 1.0)

    def make(transform):
        cls = transform(Layer, static_argnums=(2,))

        class Net(nn.Module):
            @nn.compact
            def __call__(self, x):
                for number, mode in enumerate(["scaled", "plain", "scaled", "plain"]):
                    x = cls(name=f"layer_{number}")(x, mode, scale=float(number + 1))
                return x

        return Net()

    same(make)
    assert traces == ["scaled", "plain", "scaled", "plain", "scaled", "plain"]
