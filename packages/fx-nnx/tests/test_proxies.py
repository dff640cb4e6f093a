"""Layers that are called with another object in their place, which has what a layer computes with and no methods."""

import types
from typing import Any

import fx_nnx as nnx
import jax
import numpy as np
import pytest

ROWS, IMAGE = np.ones((2, 4), np.float32), np.arange(40, dtype=np.float32).reshape(2, 5, 4)
CARRY = np.full((2, 3), 0.5, np.float32)
LAYERS: dict[str, tuple[Any, ...]] = {
    "Linear": (lambda rngs: nnx.Linear(4, 3, rngs=rngs), ROWS),
    "LinearGeneral": (lambda rngs: nnx.LinearGeneral(4, (2, 3), rngs=rngs), ROWS),
    "Conv": (lambda rngs: nnx.Conv(4, 3, (3,), strides=2, kernel_dilation=2, rngs=rngs), IMAGE),
    "ConvTranspose": (lambda rngs: nnx.ConvTranspose(4, 3, (3,), strides=2, rngs=rngs), IMAGE),
    "LayerNorm": (lambda rngs: nnx.LayerNorm(4, rngs=rngs), IMAGE),
    "LayerNorm of axes": (lambda rngs: nnx.LayerNorm(20, feature_axes=(1, 2), reduction_axes=-1, rngs=rngs), IMAGE),
    "RMSNorm": (lambda rngs: nnx.RMSNorm(4, rngs=rngs), IMAGE),
    "GroupNorm": (lambda rngs: nnx.GroupNorm(4, 2, rngs=rngs), IMAGE),
    "InstanceNorm": (lambda rngs: nnx.InstanceNorm(4, rngs=rngs), IMAGE),
    "SimpleCell": (lambda rngs: nnx.SimpleCell(4, 3, rngs=rngs), CARRY, ROWS),
    "GRUCell": (lambda rngs: nnx.GRUCell(4, 3, rngs=rngs), CARRY, ROWS),
    "LSTMCell": (lambda rngs: nnx.LSTMCell(4, 3, rngs=rngs), (CARRY, CARRY), ROWS),
    "OptimizedLSTMCell": (lambda rngs: nnx.OptimizedLSTMCell(4, 3, rngs=rngs), (CARRY, CARRY), ROWS),
}


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_called_with_an_object_of_its_attributes_computes_the_same(name: str):
    make, *inputs = LAYERS[name]
    layer = make(nnx.Rngs(0))
    attributes = {key: value for key, value in vars(layer).items() if not key.startswith("_")}
    result = type(layer).__call__(types.SimpleNamespace(**attributes), *inputs)
    jax.tree.map(np.testing.assert_array_equal, result, layer(*inputs))
