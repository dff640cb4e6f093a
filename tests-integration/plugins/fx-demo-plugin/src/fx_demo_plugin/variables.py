"""The variable type of the collection ``demo.usage``."""

import fx_nnx as nnx


class Usage(nnx.Variable):
    """How often each piece of a maxout layer was the maximum."""
