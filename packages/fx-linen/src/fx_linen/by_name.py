"""Layers by the names that plugins register, and modules from descriptions."""

import os
from collections.abc import Mapping
from typing import Any

from fx_core import descriptions

from fx_linen.module import Module

__all__ = ["build", "describe", "layer"]


def layer(name: str, /, **arguments: Any) -> Any:
    """Returns a layer by the name under which fx or a plugin registers it.

    Only the plugin's module that holds the layer is imported.

    >>> import fx_linen as nn
    >>> nn.layer("Dense", features=3) == nn.Dense(3)
    True

    Args:
      name: of the layer, such as ``"Dense"``, or ``"acme.GatedMLP"`` of a plugin. ``fx plugins`` lists them.
      **arguments: fields of the layer.

    Raises:
      UnknownEntryError: it is not registered.
      EntryLoadError: it cannot be imported.
      DescriptionError: it has no such field, or needs one that is not given.
    """
    return descriptions.make_layer(name, "linen", arguments)


def build(description: Mapping[str, Any] | str | os.PathLike[str]) -> Any:
    """Returns the module that a description names.

    A description is plain data: it can be stored as JSON or TOML. Nothing in it is evaluated or imported; see
    `fx_core.descriptions` for its form.

    >>> import fx_linen as nn
    >>> model = nn.build({"layer": "Sequential", "layers": [{"layer": "Dense", "features": 3}, {"function": "relu"}]})
    >>> model.layers[0] == nn.Dense(3)
    True

    Args:
      description: a dict, or the path of a ``.json`` or ``.toml`` file.

    Raises:
      DescriptionError: with every mistake and its place; nothing is made then.
    """
    return descriptions.build(description, "linen")


def describe(module: Module) -> dict[str, Any]:
    """Returns the description of a module, from which `build` makes an equal one.

    Fields that have their default are left out.

    >>> import fx_linen as nn
    >>> nn.describe(nn.Dense(3, use_bias=False))
    {'layer': 'Dense', 'features': 3, 'use_bias': False}

    Raises:
      DescriptionError: it holds what no description can say, such as a lambda or a layer that is not registered.
    """
    return descriptions.describe(module, "linen")
