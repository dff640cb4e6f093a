"""The variable type of the collection ``moe.router``."""

import fx_nnx as nnx


class RouterLoad(nnx.Variable):
    """Which part of the tokens each expert got."""
