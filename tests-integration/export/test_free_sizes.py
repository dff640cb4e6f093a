"""What needs a number where a size is free is told with the module that it is in."""

import fx_export
import fx_linen as nn
import fx_nnx as nnx
import jax
import jax.numpy as jnp
import pytest
from fx_export.errors import UnsupportedProgramError


def looped(x):
    return x * jax.lax.scan(lambda c, _: (c + 1, None), 0.0, None, length=x.shape[0])[0]


class LoopedNNX(nnx.Module):
    def __call__(self, x):
        return looped(x)


class OuterNNX(nnx.Module):
    def __init__(self):
        self.blocks = nnx.List([nnx.Linear(2, 2, rngs=nnx.Rngs(0)), LoopedNNX()])

    def __call__(self, x):
        for block in self.blocks:
            x = block(x)
        return x


class LoopedLinen(nn.Module):
    @nn.compact
    def __call__(self, x):
        return looped(nn.Dense(2)(x))


class BlockLinen(nn.Module):
    @nn.compact
    def __call__(self, x):
        return LoopedLinen(name="inner")(x)


class OuterLinen(nn.Module):
    @nn.compact
    def __call__(self, x):
        return BlockLinen(name="block")(x)


@pytest.mark.parametrize("format", ["stablehlo", "onnx"])
@pytest.mark.parametrize("face", ["nnx", "linen"])
def test_the_module_is_named(face, format, tmp_path):
    model, variables, place = OuterNNX(), None, "blocks/1"
    if face == "linen":
        model, place = OuterLinen(), "block/inner"
        variables = model.init(jax.random.key(0), jnp.ones((1, 2)))
    with pytest.raises(UnsupportedProgramError, match="A size cannot stay free here") as caught:
        fx_export.export(tmp_path / "net", model, variables, ["float32[batch, 2]"], format=format)
    line = looped.__code__.co_firstlineno + 1
    assert caught.value.path == f"{place}: looped (test_free_sizes.py:{line})"
    assert not list(tmp_path.iterdir())


def test_a_network_itself_has_its_class(tmp_path):
    with pytest.raises(UnsupportedProgramError) as caught:
        fx_export.export(tmp_path / "net", LoopedNNX(), None, ["float32[batch]"])
    assert caught.value.path.startswith("LoopedNNX: looped ")
