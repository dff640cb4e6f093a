"""Carries with bare arrays, cotangents of results, ahead-of-time programs and options of jit, beside Flax."""

from typing import Any

import fx_nnx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx as flax_nnx

BOTH = {"flax": flax_nnx, "fx": fx_nnx}


def pair(nnx: Any) -> Any:
    class Pair(nnx.Module):
        def __init__(self, x: Any):
            self.x, self.y = nnx.Param(x), nnx.Param(x * 3)

    return Pair


@pytest.mark.parametrize("mode", [{"graph_updates": False}, {"graph": False}], ids=str)
def test_functional_scan_that_sows_next_to_a_carry_with_arrays(mode: dict[str, bool]) -> None:
    def run(nnx: Any) -> Any:
        class Carried(nnx.Pytree):
            def __init__(self, x: Any):
                self.x = nnx.data(x)

        class Net(nnx.Module):
            def __init__(self) -> None:
                self.w = nnx.Param(jnp.array(2.0))

            def __call__(self, x: Any) -> Any:
                self.sow(nnx.Intermediate, "seen", x)
                return self.w * x

        def step(net: Any, c: Any, x: Any) -> Any:
            c.x = c.x + net(x)
            return c

        loop = nnx.scan(step, in_axes=(None, nnx.Carry, 0), out_axes=nnx.Carry, **mode)
        return loop(Net(), Carried(jnp.array(0.0)), jnp.arange(3.0)).x

    with pytest.warns(DeprecationWarning, match="capture"):  # that Flax wants around it
        want = run(flax_nnx)
    np.testing.assert_array_equal(run(fx_nnx), want)


@pytest.mark.parametrize("mode", [{}, {"graph_updates": False}, {"graph": False}], ids=str)
def test_cotangents_of_modules_in_results(mode: dict[str, bool]) -> None:
    def run(nnx: Any) -> Any:
        make = pair(nnx)
        f = nnx.custom_vjp(lambda model: make(model.x * 2), **mode)

        def backward(model: Any, g: Any) -> Any:
            out = g if mode else g[1]
            cotangent = nnx.clone(model) if mode else nnx.state(nnx.clone(model))
            cotangent.x[...], cotangent.y[...] = out.x * 10, out.y * 1
            return (cotangent,)

        f.defvjp(lambda model: (f(model), model), backward)

        def loss(model: Any) -> Any:
            made = f(model)
            return made.x * 2 + made.y * 5

        grads = nnx.grad(loss, **mode)(make(jnp.array(1.0)))
        return [float(np.asarray(leaf)) for leaf in jax.tree.leaves(grads)]

    assert run(fx_nnx) == run(flax_nnx) == [20.0, 5.0]


@pytest.mark.parametrize("library", BOTH)
def test_shardings_with_static_arguments_and_programs_ahead_of_time(library: str) -> None:
    nnx = BOTH[library]
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:1]), ("data",))
    rows = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    model, x = nnx.Linear(2, 2, rngs=nnx.Rngs(0)), jnp.ones((1, 2))
    f = nnx.jit(lambda m, x, flag: m(x) if flag else x, in_shardings=(None, rows), static_argnums=2)
    np.testing.assert_allclose(f(model, x, True), model(x), rtol=1e-6)
    np.testing.assert_array_equal(f(model, x, False), x)
    compiled = nnx.jit(lambda m, x: m(x)).lower(model, x).compile()
    np.testing.assert_allclose(compiled(model, x), model(x), rtol=1e-6)


@pytest.mark.parametrize("mode", [{}, {"graph_updates": False}, {"graph": False}], ids=str)
def test_capture_around_transforms(mode: dict[str, bool]) -> None:
    def run(nnx: Any) -> Any:
        class Net(nnx.Module):
            def __init__(self) -> None:
                self.w = nnx.Param(jnp.array(2.0))

            def __call__(self, x: Any) -> Any:
                self.sow(nnx.Intermediate, "seen", self.w * x)
                return self.w * x

        y, found = nnx.capture(nnx.jit(lambda net, x: net(x), **mode), nnx.Intermediate)(Net(), 3.0)
        return float(y), float(found["seen"][0])

    assert run(fx_nnx) == run(flax_nnx) == (6.0, 6.0)


REFUSED = {
    "attribute of a carry": lambda nnx, mode: nnx.scan(replace(nnx), **mode)(pair(nnx)(jnp.ones(())), jnp.arange(3)),
    "exchange in a carry": lambda nnx, mode: nnx.scan(exchange, **mode)(pair(nnx)(jnp.ones(())), jnp.arange(3)),
    "shapes of an argument": lambda nnx, mode: nnx.eval_shape(lambda v: v, nnx.Param(jnp.ones(())), **mode),
    "program of an argument": lambda nnx, mode: nnx.make_jaxpr(lambda v: v, **mode)(nnx.Param(jnp.ones(()))),
    "variable as axis": lambda nnx, mode: nnx.vmap(lambda v: v, in_axes=(nnx.Param(0),), **mode),
}


def replace(nnx: Any) -> Any:
    def step(model: Any, x: Any) -> Any:
        model.x = nnx.Param(model.x + 1)
        return model, x

    return step


def exchange(model: Any, x: Any) -> Any:
    model.x, model.y = model.y, model.x
    return model, x


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("mode", [{"graph_updates": False}, {"graph": False}], ids=str)
def test_functional_transforms_refuse_what_has_no_meaning(name: str, mode: dict[str, bool]) -> None:
    for nnx in BOTH.values():
        with pytest.raises(ValueError):  # the texts are other ones
            REFUSED[name](nnx, mode)


def test_prefixes_hold_entries_in_the_places_of_variables() -> None:
    for nnx in BOTH.values():
        model = pair(nnx)(jnp.arange(3.0))
        axes = nnx.prefix(model, lambda path, leaf: 0 if path[-1] == "x" else None, graph=False)
        assert (axes.x, axes.y) == (0, None)
        axes.y = 0
        out = nnx.vmap(lambda m: m.x + m.y, in_axes=(axes,), graph=False)(model)
        np.testing.assert_array_equal(out, [0.0, 4.0, 8.0])
