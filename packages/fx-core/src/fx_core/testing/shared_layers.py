"""What every layer has to do that is written once for Linen and NNX."""

import importlib
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fx_core import layers


class SharedLayerSuite:
    """The contract of a `fx_core.layers.Layer`: Linen and NNX compute the same, to the bit.

    Subclass it and say which layer and with which arguments; it needs fx-linen and fx-nnx.
    """

    def layer(self) -> type[layers.Layer]:
        """The layer under test."""
        raise TypeError(f"{type(self).__name__} does not say what its layer is: define layer(self).")

    def arguments(self) -> dict[str, Any]:
        """Keyword arguments of the layer, those of NNX."""
        return {}

    def inputs(self) -> tuple[Any, ...]:
        """Positional arguments of a call."""
        return (jnp.linspace(-1.0, 1.0, 12).reshape(4, 3),)

    def kwargs(self) -> dict[str, Any]:
        """Keyword arguments of a call."""
        return {}

    def linen(self) -> Any:
        """The layer as a Linen module."""
        return importlib.import_module("fx_linen").from_layer(self.layer())(**self.arguments())

    def nnx(self) -> Any:
        """The layer as an NNX module."""
        nnx = importlib.import_module("fx_nnx")
        return nnx.from_layer(self.layer())(**self.arguments(), rngs=nnx.Rngs(0))

    def variables(self) -> dict[str, Any]:
        """Collections of the Linen module."""
        keys = {"params": jax.random.key(0), "dropout": jax.random.key(1)}
        return dict(self.linen().init(keys, *self.inputs(), **self.kwargs()))

    def test_both_faces_have_the_same_variables(self):
        fill(self.layer()(**self.arguments()), self.nnx(), self.variables())

    def test_both_faces_compute_the_same(self):
        variables, module = self.variables(), self.nnx()
        definition = self.layer()(**self.arguments())
        fill(definition, module, variables)
        if _draws(definition):
            return  # Streams of keys count in one face, and are folded with names in the other.
        mutable = [name for name in variables if name != "params"]
        expected, _ = self.linen().apply(variables, *self.inputs(), mutable=mutable, **self.kwargs())
        jax.tree.map(np.testing.assert_array_equal, expected, module(*self.inputs(), **self.kwargs()))

    def test_equal_arguments_make_equal_layers(self):
        assert self.layer()(**self.arguments()) == self.layer()(**self.arguments())


def fill(definition: layers.Layer, module: Any, variables: Mapping[str, Any]) -> None:
    """Puts the variables of a Linen module into an NNX module of the same layer.

    Raises:
      AssertionError: a variable has another shape or dtype there.
    """
    for name, spec in layers.checked_specs(definition).items():
        if isinstance(spec, layers.ParamSpec | layers.State):
            collection = spec.collection if isinstance(spec, layers.State) else "params"
            value, held = variables[collection][name], getattr(module, name)
            assert (value.shape, value.dtype) == (held.get_value().shape, held.get_value().dtype), name
            held.set_value(value)
            continue
        parts: dict[str, tuple[Any, Any]] = {}
        if isinstance(spec, layers.Layer):
            parts = {name: (spec, getattr(module, name))}
        elif isinstance(spec, list | tuple):
            parts = {f"{name}_{i}": (one, getattr(module, name)[i]) for i, one in enumerate(spec)}
        elif isinstance(spec, Mapping):
            parts = {f"{name}_{key}": (one, getattr(module, name)[key]) for key, one in spec.items()}
        for place, (inner, held) in parts.items():
            fill(inner, held, {kind: tree[place] for kind, tree in variables.items() if place in tree})


def _draws(definition: layers.Layer) -> bool:
    for spec in layers.checked_specs(definition).values():
        parts = list(spec.values()) if isinstance(spec, Mapping) else spec
        if isinstance(spec, layers.Stream):
            return True
        if any(
            isinstance(p, layers.Layer) and _draws(p) for p in (parts if isinstance(parts, list | tuple) else [parts])
        ):
            return True
    return False
