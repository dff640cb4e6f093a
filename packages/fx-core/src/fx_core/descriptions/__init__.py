"""Models as plain data: built from dicts, JSON or TOML by the names of registered layers, and written back.

A description names a layer and its arguments; arguments may be layers again, alone, in lists or in dicts::

    {"layer": "Sequential", "layers": [
        {"layer": "Dense", "features": 32, "kernel_init": {"initializer": "normal", "stddev": 0.02}},
        {"function": "relu"},
        {"layer": "acme.GatedMLP", "features": 4, "dtype": {"dtype": "bfloat16"}}]}

Only layers of installed plugins, functions of `fx_core.ops.activations` and initializers of `fx_core.ops.initializers`
can be named: nothing in a description is evaluated, and nothing is imported by a path that it spells. `fx_linen` and
`fx_nnx` have `layer`, `build` and `describe`, which stand on this package.
"""

from fx_core.descriptions.arguments import make_layer
from fx_core.descriptions.reading import build, read
from fx_core.descriptions.schema import schema
from fx_core.descriptions.writing import describe

__all__ = ["build", "describe", "make_layer", "read", "schema"]
