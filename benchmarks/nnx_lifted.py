"""Lifted transforms of object modules: twelve residual layers, against the same written by hand."""

import importlib
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks.linen_lifted import LAYERS, WIDTH, layer_by_hand
from benchmarks.measure import Ratio, side_by_side, wanted
from benchmarks.nnx_networks import lstm_over_time
from benchmarks.nnx_trace import tracing


def layer_class(nnx: Any) -> Any:
    """A residual block, with the names of `benchmarks.linen_lifted`."""

    class Layer(nnx.Module):
        def __init__(self, rngs: Any):
            self.LayerNorm_0 = nnx.LayerNorm(WIDTH, rngs=rngs)
            self.Dense_0 = nnx.Linear(WIDTH, 4 * WIDTH, rngs=rngs)
            self.Dense_1 = nnx.Linear(4 * WIDTH, WIDTH, rngs=rngs)

        def __call__(self, x: jax.Array) -> jax.Array:
            return x + self.Dense_1(nnx.gelu(self.Dense_0(self.LayerNorm_0(x))))

    return Layer


def listed(nnx: Any) -> tuple[Any, list[Any]]:
    """A list of layers, and their parameters."""
    layers = nnx.List([layer_class(nnx)(nnx.Rngs(i)) for i in range(LAYERS)])
    return layers, [nnx.to_pure_dict(nnx.state(layer)) for layer in layers]


def stacked(nnx: Any) -> tuple[Any, Any]:
    """Layers in one, whose parameters have an axis for them, and the parameters."""
    rngs = nnx.Rngs(0).fork(split=LAYERS)
    layers = nnx.vmap(layer_class(nnx), in_axes=0, out_axes=0)(rngs)
    return layers, nnx.to_pure_dict(nnx.state(layers, nnx.Param))


def _run(nnx: Any, model: Any, run: Callable[..., Any], x: jax.Array) -> Callable[[], object]:
    graphdef, state = nnx.split(model)
    return tracing(lambda state, x: run(nnx.merge(graphdef, state), x), state, x)


def one_function(nnx: Any) -> Callable[..., Any]:
    """All layers through one function under remat."""

    def run(layers: Any, x: jax.Array) -> jax.Array:
        call = nnx.remat(lambda layer, x: layer(x))
        for layer in layers:
            x = call(layer, x)
        return x

    return run


def one_function_by_hand(layers: Any, x: jax.Array) -> jax.Array:
    call = jax.checkpoint(lambda *args: layer_by_hand(*args))
    for layer in layers:
        x = call(layer, x)
    return x


def own_functions(nnx: Any) -> Callable[..., Any]:
    """A function under remat for each layer."""

    def run(layers: Any, x: jax.Array) -> jax.Array:
        for layer in layers:
            x = nnx.remat(lambda layer, x: layer(x))(layer, x)
        return x

    return run


def own_functions_by_hand(layers: Any, x: jax.Array) -> jax.Array:
    for layer in layers:
        x = jax.checkpoint(lambda *args: layer_by_hand(*args))(layer, x)
    return x


def _call(x: jax.Array, layer: Any) -> jax.Array:
    return layer(x)


def scan(nnx: Any, body: Callable[..., Any] = _call) -> Callable[..., Any]:
    """A loop over layers."""
    return nnx.scan(body, in_axes=(nnx.Carry, 0), out_axes=nnx.Carry)


def _body(x: jax.Array, layer: Any) -> tuple[jax.Array, None]:
    return layer_by_hand(layer, x), None


def scan_by_hand(layers: Any, x: jax.Array) -> jax.Array:
    return jax.lax.scan(_body, x, layers)[0]


def gradient(nnx: Any) -> Callable[..., Any]:
    """The gradient of a loop over layers, which is made anew at each call."""
    return lambda layers, x: nnx.grad(lambda layers: scan(nnx, lambda x, layer: layer(x))(x, layers).sum())(layers)


def gradient_by_hand(layers: Any, x: jax.Array) -> Any:
    def loop(layers: Any) -> jax.Array:
        return jax.lax.scan(lambda x, layer: (layer_by_hand(layer, x), None), x, layers)[0]

    return jax.grad(lambda layers: loop(layers).sum())(layers)


def gradient_again(nnx: Any) -> Callable[..., Any]:
    """The same of a loop that was made once, whose body JAX may know from the call before."""
    loop = scan(nnx)
    return lambda layers, x: nnx.grad(lambda layers: loop(x, layers).sum())(layers)


def gradient_again_by_hand(layers: Any, x: jax.Array) -> Any:
    return jax.grad(lambda layers: scan_by_hand(layers, x).sum())(layers)


def without_graph_updates(nnx: Any) -> Callable[..., Any]:
    """A cell over time, whose updates of structure are not wanted."""

    def run(cell: Any, x: jax.Array) -> jax.Array:
        loop = nnx.scan(
            lambda cell, carry, x: cell(carry, x),
            in_axes=(None, nnx.Carry, 1),
            out_axes=(nnx.Carry, 1),
            graph_updates=False,
        )
        return loop(cell, (jnp.zeros((2, WIDTH)),) * 2, x)[1]

    return run


def lstm_by_hand(cell: Any, x: jax.Array) -> jax.Array:
    return lstm_over_time(cell, x, WIDTH)


TRACED: dict[str, tuple[Callable[..., Any], Callable[..., Any], Callable[..., Any], float | None]] = {
    "remat of 12 layers, a function for each": (listed, own_functions, own_functions_by_hand, 1.15),
    "remat of 12 layers, one function for all, which JAX traces once": (
        listed,
        one_function,
        one_function_by_hand,
        None,
    ),
    "scan over 12 layers": (
        stacked,
        lambda nnx: lambda layers, x: scan(nnx, lambda x, layer: layer(x))(x, layers),
        lambda layers, x: jax.lax.scan(lambda x, layer: (layer_by_hand(layer, x), None), x, layers)[0],
        1.15,
    ),
    "gradient of a scan over 12 layers": (stacked, gradient, gradient_by_hand, 1.15),
    "gradient of a scan over 12 layers that was traced before": (stacked, gradient_again, gradient_again_by_hand, None),
}


def cases(libraries: tuple[str, ...] = ("fx_nnx",)) -> Iterator[Ratio]:
    x = jnp.linspace(-1, 1, 2 * WIDTH).reshape(2, WIDTH)
    for name, (build, make, by_hand, aim) in TRACED.items():
        case = f"trace, {name}"
        if wanted(case):
            sides: dict[str, Callable[[], object]] = {}
            for library in libraries:
                nnx = importlib.import_module(library)
                model, params = build(nnx)
                sides[library] = _run(nnx, model, make(nnx), x)
                sides["raw"] = tracing(by_hand, params, x)
            yield from side_by_side(case, sides, rounds=25, aims={} if aim is None else {"fx_nnx": aim})
    yield from _eager(libraries, x)
    yield from _eager(libraries, x, anew=True)
    yield from _cell(libraries)


def _eager(libraries: tuple[str, ...], x: jax.Array, anew: bool = False) -> Iterator[Ratio]:
    how = ", made anew at each call" if anew else ", called again"
    case = f"scan over 12 layers outside of jit{how}"
    if wanted(case):
        sides: dict[str, Callable[[], object]] = {}
        for library in libraries:
            nnx = importlib.import_module(library)
            (layers, params), loop = stacked(nnx), scan(nnx)
            sides[library] = lambda loop=loop, layers=layers: jax.block_until_ready(loop(x, layers))
            if anew:
                sides[library] = lambda nnx=nnx, layers=layers: jax.block_until_ready(scan(nnx)(x, layers))
            sides["raw"] = lambda params=params: jax.block_until_ready(scan_by_hand(params, x))
        yield from side_by_side(case, sides, rounds=9 if anew else 51)


def _cell(libraries: tuple[str, ...]) -> Iterator[Ratio]:
    case = "trace, LSTM through scan with graph_updates=False"
    if wanted(case):
        sides: dict[str, Callable[[], object]] = {}
        xs = jnp.ones((2, 5, WIDTH))
        for library in libraries:
            nnx = importlib.import_module(library)
            cell = nnx.LSTMCell(WIDTH, WIDTH, rngs=nnx.Rngs(0))
            sides[library] = _run(nnx, cell, without_graph_updates(nnx), xs)
            sides["raw"] = tracing(lstm_by_hand, nnx.to_pure_dict(nnx.state(cell, nnx.Param)), xs)
        yield from side_by_side(case, sides, rounds=25)
