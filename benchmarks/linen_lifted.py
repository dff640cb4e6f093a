"""What lifted transforms cost: tracing and lowering twelve layers, against the same written by hand."""

import importlib
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.linen_trace import lowering
from benchmarks.measure import Ratio, side_by_side, wanted

LAYERS, WIDTH = 12, 16


def layer_class(nn: ModuleType) -> Any:
    """A residual block."""

    class Layer(nn.Module):
        @nn.compact
        def __call__(self, x):
            y = nn.gelu(nn.Dense(4 * WIDTH)(nn.LayerNorm()(x)))
            return x + nn.Dense(WIDTH)(y)

    return Layer


def norm_by_hand(params, x):
    """The formula of fx, whose moments do not cancel: it is what transforms cost that is measured, not the norm."""
    size = x.shape[-1]
    first, middle, last = (jax.lax.slice_in_dim(x, at, at + 1, axis=-1) for at in (0, size // 2, size - 1))
    near = jax.lax.clamp(jax.lax.min(first, middle), last, jax.lax.max(first, middle))
    centered = x - jax.lax.stop_gradient(near)
    mean = jnp.mean(centered, -1, keepdims=True)
    var = jnp.maximum(0.0, jnp.mean(jnp.square(centered), -1, keepdims=True) - jnp.square(mean))
    scale, bias = (params[name].reshape((1, -1)) for name in ("scale", "bias"))
    return (centered - mean) * (jax.lax.rsqrt(var + 1e-6) * scale) + bias


def layer_by_hand(params, x):
    y = norm_by_hand(params["LayerNorm_0"], x)
    for number in (0, 1):
        dense = params[f"Dense_{number}"]
        y = y @ dense["kernel"] + dense["bias"].reshape((1, -1))
        y = y if number else jax.nn.gelu(y)
    return x + y


def scanned(nn: ModuleType) -> Any:
    class Body(nn.Module):
        @nn.compact
        def __call__(self, x, _):
            return layer_class(nn)(name="layer")(x), None

    class Net(nn.Module):
        @nn.compact
        def __call__(self, x):
            loop = nn.scan(Body, variable_axes={"params": 0}, split_rngs={"params": True}, length=LAYERS)
            return loop(name="loop")(x, None)[0]

    return Net()


def scanned_by_hand(params, x):
    return jax.lax.scan(lambda x, layer: (layer_by_hand(layer, x), None), x, params["loop"]["layer"])[0]


def rematerialized(nn: ModuleType) -> Any:
    class Net(nn.Module):
        @nn.compact
        def __call__(self, x):
            layer = nn.remat(layer_class(nn))
            for number in range(LAYERS):
                x = layer(name=f"layer_{number}")(x)
            return x

    return Net()


def rematerialized_as_one(nn: ModuleType) -> Any:
    """The same, with the trace of one layer used for all: what `jit` promises of layers with equal fields."""

    class Net(nn.Module):
        @nn.compact
        def __call__(self, x):
            layer = nn.remat(nn.jit(layer_class(nn)))
            for number in range(LAYERS):
                x = layer(name=f"layer_{number}")(x)
            return x

    return Net()


def rematerialized_by_hand(params, x):
    for number in range(LAYERS):
        # A new function each time: JAX traces each layer.
        x = jax.checkpoint(lambda *args: layer_by_hand(*args))(params[f"layer_{number}"], x)
    return x


def rematerialized_as_one_by_hand(params, x):
    # One function for all layers, so that JAX traces one of them; a new one in each trace, as it is the trace that is
    # measured: JAX keeps what it traced of a function as long as there is the function.
    layer = jax.checkpoint(lambda *args: layer_by_hand(*args))
    for number in range(LAYERS):
        x = layer(params[f"layer_{number}"], x)
    return x


def mapped(nn: ModuleType) -> Any:
    class Net(nn.Module):
        @nn.compact
        def __call__(self, x):
            layer = nn.vmap(layer_class(nn), variable_axes={"params": 0}, split_rngs={"params": True})
            for number in range(LAYERS):
                x = layer(name=f"layer_{number}")(x)
            return x

    return Net()


def mapped_by_hand(params, x):
    for number in range(LAYERS):
        x = jax.vmap(layer_by_hand)(params[f"layer_{number}"], x)
    return x


def gradient(fn: Callable[..., Any]) -> Callable[..., Any]:
    """The gradient of the sum of an output by the variables."""
    return jax.grad(lambda variables, x: fn(variables, x).sum())


CASES: dict[str, tuple[Callable[..., Any], Callable[..., Any], tuple[int, ...], float | None]] = {
    "scan over 12 layers": (scanned, scanned_by_hand, (2, WIDTH), 1.15),
    "gradient of a scan over 12 layers": (scanned, scanned_by_hand, (2, WIDTH), 1.15),
    "remat of 12 layers": (rematerialized, rematerialized_by_hand, (2, WIDTH), 1.15),
    "remat of jit of 12 layers": (rematerialized_as_one, rematerialized_as_one_by_hand, (2, WIDTH), None),
    "vmap of 12 layers": (mapped, mapped_by_hand, (4, 2, WIDTH), 1.15),
}


def cases(libraries: tuple[str, ...] = ("fx_linen",)) -> Iterator[Ratio]:
    for name, (build, by_hand, shape, aim) in CASES.items():
        case = f"trace and lower, {name}"
        if not wanted(case):
            continue
        sides: dict[str, Callable[[], object]] = {}
        for library in libraries:
            model, x = build(importlib.import_module(library)), jnp.linspace(-1, 1, int(np.prod(shape))).reshape(shape)
            variables = model.init(jax.random.key(0), x)

            def apply(variables, x, model=model):
                return model.apply(variables, x)

            def raw(variables, x, by_hand=by_hand):
                return by_hand(variables["params"], x)

            np.testing.assert_allclose(apply(variables, x), raw(variables, x), rtol=1e-3, atol=1e-4)
            fns = [gradient(fn) if name.startswith("gradient") else fn for fn in (apply, raw)]
            sides[library], sides["raw"] = (lowering(fn, variables, x) for fn in fns)
        yield from side_by_side(case, sides, rounds=25, aims={} if aim is None else {"fx_linen": aim})
