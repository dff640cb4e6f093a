"""Layers compute with whatever stands where a parameter was: an array, or a node that stands in for one."""

import dataclasses
from typing import Any

import fx_nnx as nnx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fx_core.array_node import ArrayNode


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class Halved(ArrayNode):
    """A node of our own kind: half of the array."""

    half: Any

    shape = property(lambda self: self.half.shape)
    dtype = property(lambda self: self.half.dtype)

    def astype(self, dtype):
        return Halved(self.half.astype(dtype))

    def materialize(self):
        return self.half * 2


class Foreign:
    """What others make: no class of ours, no pytree."""

    def __init__(self, array):
        self.array = array

    shape = property(lambda self: self.array.shape)
    dtype = property(lambda self: self.array.dtype)
    ndim = property(lambda self: self.array.ndim)

    def __jax_array__(self):
        return self.array

    def __getitem__(self, index):
        return self.array[index]


class Boxed:
    """Gives its array when it is indexed, and in no other way."""

    def __init__(self, array):
        self.array = array

    shape = property(lambda self: self.array.shape)
    dtype = property(lambda self: self.array.dtype)
    ndim = property(lambda self: self.array.ndim)

    def __getitem__(self, index):
        return self.array[index]


KINDS = {"boxed": Boxed, "array": lambda v: v, "numpy": np.asarray, "node": lambda v: Halved(v / 2), "foreign": Foreign}
R = nnx.Rngs
CELL = {"in_features": 3, "hidden_features": 4}


def cell_call(layer, x):
    return layer(layer.initialize_carry(x.shape, rngs=R(1)), x)[1]


LAYERS = {
    "Linear": (lambda: nnx.Linear(3, 2, rngs=R(0)), None),
    "LinearGeneral": (lambda: nnx.LinearGeneral((3,), (2, 2), rngs=R(0)), None),
    "Einsum": (lambda: nnx.Einsum("ab,bc->ac", (3, 2), (2,), rngs=R(0)), None),
    "Embed": (lambda: nnx.Embed(5, 3, rngs=R(0)), lambda m, x: (m(jnp.arange(2)), m.attend(x))),
    "Conv": (lambda: nnx.Conv(3, 2, (2,), rngs=R(0)), lambda m, x: m(x[None])),
    "ConvTranspose": (lambda: nnx.ConvTranspose(3, 2, (2,), rngs=R(0)), lambda m, x: m(x[None])),
    "LayerNorm": (lambda: nnx.LayerNorm(3, rngs=R(0)), None),
    "RMSNorm": (lambda: nnx.RMSNorm(3, rngs=R(0)), None),
    "GroupNorm": (lambda: nnx.GroupNorm(3, num_groups=1, rngs=R(0)), None),
    "InstanceNorm": (lambda: nnx.InstanceNorm(3, rngs=R(0)), lambda m, x: m(x[None])),
    "BatchNorm": (lambda: nnx.BatchNorm(3, use_running_average=True, rngs=R(0)), None),
    "PReLU": (lambda: nnx.PReLU(), lambda m, x: m(-x)),
    "LoRA": (lambda: nnx.LoRA(3, 2, 4, rngs=R(0)), None),
    "LoRALinear": (lambda: nnx.LoRALinear(3, 4, lora_rank=2, rngs=R(0)), None),
    "MultiHeadAttention": (
        lambda: nnx.MultiHeadAttention(2, 3, 4, use_bias=True, decode=False, normalize_qk=True, rngs=R(0)),
        None,
    ),
    "SimpleCell": (lambda: nnx.SimpleCell(**CELL, rngs=R(0)), cell_call),
    "GRUCell": (lambda: nnx.GRUCell(**CELL, rngs=R(0)), cell_call),
    "LSTMCell": (lambda: nnx.LSTMCell(**CELL, rngs=R(0)), cell_call),
    "OptimizedLSTMCell": (lambda: nnx.OptimizedLSTMCell(**CELL, rngs=R(0)), cell_call),
}


def replace_all(model, make):
    """Put something in the place of every variable."""
    count = 0
    for _, module in list(nnx.iter_modules(model)):
        for name, value in list(vars(module).items()):
            if isinstance(value, nnx.Variable):
                setattr(module, name, make(value.get_value()))
                count += 1
    return count


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", LAYERS)
def test_layers_read_what_is_there(name, kind):
    make, call = LAYERS[name]
    call = call or (lambda m, x: m(x))
    x = jax.random.normal(jax.random.key(0), (2, 3))
    model = make()
    wanted = call(model, x)
    assert replace_all(model, KINDS[kind]) > 0
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), call(model, x), wanted)
    if kind in ("array", "node"):
        got = nnx.jit(call)(model, x)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), got, wanted)


def test_nodes_are_values_of_a_state():
    layer = nnx.Linear(3, 2, rngs=R(0))
    layer.kernel = Halved(layer.kernel[...] / 2)
    fresh = nnx.Dict(w=Halved(jnp.ones(2)), v=nnx.Param(Halved(jnp.ones(2))))
    assert nnx.to_flat_state(nnx.state(layer)).paths == (("bias",), ("kernel",))
    assert nnx.to_flat_state(nnx.state(fresh)).paths == (("v",), ("w",))
    copy = nnx.merge(*nnx.split(layer))
    assert isinstance(copy.kernel, Halved)
    doubled = nnx.jit(lambda m: setattr(m, "kernel", Halved(m.kernel.half * 2)) or m)(layer)
    np.testing.assert_array_equal(doubled.kernel.half, copy.kernel.half * 2)
    grads = nnx.grad(lambda m: m(jnp.ones((1, 3))).sum(), argnums=nnx.DiffState(0, ...))(copy)
    np.testing.assert_array_equal(grads["kernel"].half, jnp.full((3, 2), 2.0))
