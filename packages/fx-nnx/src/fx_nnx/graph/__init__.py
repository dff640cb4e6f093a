"""Models as graphs: structure and values."""

from fx_nnx.graph.calls import call
from fx_nnx.graph.definition import GraphDef, NodeDef, NodeRef, VariableDef
from fx_nnx.graph.functions import clone, graphdef, merge, split, state, unflatten, unpack, variables
from fx_nnx.graph.functions import flatten_node as flatten
from fx_nnx.graph.iterate import find_duplicates, iter_graph, pop
from fx_nnx.graph.maps import map_leaves as map
from fx_nnx.graph.maps import recursive_map, set_metadata, vars_as, with_vars
from fx_nnx.graph.packed import GraphState, PureState
from fx_nnx.graph.updating import update

__all__ = [
    "GraphDef",
    "GraphState",
    "NodeDef",
    "NodeRef",
    "PureState",
    "VariableDef",
    "call",
    "clone",
    "find_duplicates",
    "flatten",
    "graphdef",
    "iter_graph",
    "map",
    "merge",
    "pop",
    "recursive_map",
    "set_metadata",
    "split",
    "state",
    "unflatten",
    "unpack",
    "update",
    "variables",
    "vars_as",
    "with_vars",
]
