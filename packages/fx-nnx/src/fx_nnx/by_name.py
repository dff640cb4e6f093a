"""Layers by the names that plugins register, and modules from descriptions."""

import os
from collections.abc import Mapping
from typing import Any

from fx_core import descriptions

from fx_nnx.modules.module import Module
from fx_nnx.rngs.rngs import Rngs

__all__ = ["build", "describe", "layer"]


def layer(name: str, /, *, rngs: Rngs | None = None, **arguments: Any) -> Any:
    """Returns a layer by the name under which fx or a plugin registers it.

    Only the plugin's module that holds the layer is imported.

    >>> import fx_nnx as nnx
    >>> nnx.layer("Linear", in_features=2, out_features=3, rngs=nnx.Rngs(0)).kernel.shape
    (2, 3)

    Args:
      name: of the layer, such as ``"Linear"``, or ``"acme.GatedMLP"`` of a plugin. ``fx plugins`` lists them.
      rngs: PRNG streams, for a layer that takes them.
      **arguments: keyword arguments of the layer.

    Raises:
      UnknownEntryError: it is not registered.
      EntryLoadError: it cannot be imported.
      DescriptionError: it has no such parameter, or needs one that is not given.
    """
    return descriptions.make_layer(name, "nnx", arguments, {"rngs": rngs})


def build(description: Mapping[str, Any] | str | os.PathLike[str], *, rngs: Rngs | None = None) -> Any:
    """Returns the module that a description names.

    A description is plain data: it can be stored as JSON or TOML. Nothing in it is evaluated or imported; see
    `fx_core.descriptions` for its form. Layers are made in the order in which the description names them, so that the
    same seed draws the same parameters.

    >>> import fx_nnx as nnx
    >>> model = nnx.build({"layer": "Sequential", "layers": [
    ...     {"layer": "Linear", "in_features": 2, "out_features": 3}, {"function": "relu"}]}, rngs=nnx.Rngs(0))
    >>> model.layers[0].kernel.shape
    (2, 3)

    Args:
      description: a dict, or the path of a ``.json`` or ``.toml`` file.
      rngs: PRNG streams, for the layers that take them.

    Raises:
      DescriptionError: with every mistake and its place; nothing is made then.
    """
    return descriptions.build(description, "nnx", {"rngs": rngs})


def describe(module: Module) -> dict[str, Any]:
    """Returns the description of a module, from which `build` makes one of the same structure.

    An argument is read from the attribute of its name, so a layer of one's own keeps its arguments as attributes.
    Initializers and metadata of variables that a layer does not keep are left out, and so is what has its default.

    >>> import fx_nnx as nnx
    >>> nnx.describe(nnx.Linear(2, 3, use_bias=False, rngs=nnx.Rngs(0)))
    {'layer': 'Linear', 'in_features': 2, 'out_features': 3, 'use_bias': False}

    Raises:
      DescriptionError: it holds what no description can say, such as a lambda or a layer that is not registered.
    """
    return descriptions.describe(module, "nnx")
