"""The functions of `fx_nnx` that look at models, as ones that take them for graphs whatever the settings say.

These are the functions of `fx_nnx` with an argument ``graph``, for which True is the default here, and likewise for
``graph_updates``: what programs were written for before there were settings.

>>> from fx_nnx import compat
>>> import fx_nnx as nnx
>>> shared = nnx.Dict()
>>> with nnx.set_graph_mode(False):
...     compat.graphdef(nnx.Dict(a=shared, b=shared))
GraphDef(Dict, nodes=3, leaves=0)
"""

import functools
import inspect
from typing import Any

from fx_nnx import graph, modules, rngs, sharding, transforms

_names: list[str] = []

for _rooms in (graph, modules, rngs, sharding, transforms):
    for _name in _rooms.__all__:
        _function: Any = getattr(_rooms, _name)
        _parameters = inspect.signature(_function).parameters if inspect.isfunction(_function) else {}
        _fixed = {_option: True for _option in ("graph", "graph_updates") if _option in _parameters}
        if _fixed:
            globals()[_name] = functools.partial(_function, **_fixed)
            _names.append(_name)

__all__ = _names  # pyright: ignore[reportUnsupportedDunderAll]
