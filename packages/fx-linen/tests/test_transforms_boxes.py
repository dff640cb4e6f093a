"""Boxes of users under transforms: told about axes with the whole value, once for each transform."""

from collections.abc import Mapping
from typing import Any

import fx_linen as nn
import jax
import jax.numpy as jnp
import pytest
from fx_core import struct
from fx_core.meta import AxisMetadata

KEY = jax.random.key(0)
X = jnp.ones((3, 2, 4))
told = []


class Noting(struct.PyTreeNode, AxisMetadata):
    value: Any

    def unbox(self) -> Any:
        return self.value

    def replace_boxed(self, val: Any) -> "Noting":
        return self.replace(value=val)

    def add_axis(self, index: int, params: Mapping[Any, Any]) -> "Noting":
        told.append(("add", index, dict(params), self.value.shape))
        return self

    def remove_axis(self, index: int, params: Mapping[Any, Any]) -> "Noting":
        told.append(("remove", index, dict(params), self.value.shape))
        return self


class Averaged(Noting):
    """Stored without the axis: as the mean over it."""

    def add_axis(self, index: int, params: Mapping[Any, Any]) -> "Averaged":
        return self.replace(value=self.value.mean(index))

    def remove_axis(self, index: int, params: Mapping[Any, Any]) -> "Averaged":
        return self.replace(value=jnp.repeat(jnp.expand_dims(self.value, index), params["size"], index))


class Layer(nn.Module):
    box: type[Noting] = Noting

    @nn.compact
    def __call__(self, x, *rest):
        y = x @ self.param("w", lambda key: self.box(jax.random.normal(key, (4, 5))))
        return (x, y) if rest else y


def lifted(form, axis, box, **params):
    options = {"variable_axes": {"params": axis}, "split_rngs": {"params": True}, "metadata_params": params}
    if form == "vmap":
        return nn.vmap(Layer, **options)(box), (X,)
    return nn.scan(Layer, length=3, **options)(box), (X[0], X)


@pytest.mark.parametrize("form", ["vmap", "scan"])
@pytest.mark.parametrize(("axis", "shape"), [(0, (3, 4, 5)), (1, (4, 3, 5)), (-1, (4, 5, 3))])
def test_boxes_see_the_whole_value(form, axis, shape):
    model, args = lifted(form, axis, Noting, a=1)
    told.clear()
    variables = model.init(KEY, *args)
    assert told == [("add", axis, {"a": 1}, shape)]
    told.clear()
    model.apply(variables, *args)
    assert told == [("remove", axis, {"a": 1}, shape)]


@pytest.mark.parametrize("form", ["vmap", "scan"])
@pytest.mark.parametrize("axis", [0, -1])
def test_boxes_may_change_what_is_stored(form, axis):
    model, args = lifted(form, axis, Averaged, size=3)
    variables = model.init(KEY, *args)
    w = variables["params"]["w"].value
    assert w.shape == (4, 5)
    out = model.apply(variables, *args)
    rows = out if form == "vmap" else out[1]
    assert jnp.allclose(rows, jnp.stack([X[0] @ w] * 3), atol=1e-5)


def test_remat_scan_tells_each_loop():
    class Deep(nn.Module):
        @nn.compact
        def __call__(self, x):
            return x @ self.param("w", lambda key: Noting(jnp.ones((4, 4))))

    told.clear()
    nn.remat_scan(Deep, lengths=(2, 3), metadata_params={"a": 1})().init(KEY, X[0])
    assert ("add", 0, {"a": 1}, (2, 3, 4, 4)) in told
    assert ("add", 0, {"a": 1}, (3, 4, 4)) in told
