"""Scopes: variables by collection, RNG streams by name, and the functions that give and take them.

>>> import jax
>>> from fx_core import apply, init
>>> def dense(scope, x):
...     w = scope.param("w", jax.nn.initializers.ones, (x.shape[-1], 2))
...     calls = scope.variable("state", "calls", lambda: 0)
...     calls.value += 1
...     return x @ w
>>> y, variables = init(dense)(jax.random.key(0), jax.numpy.ones(3))
>>> y, updates = apply(dense, mutable=["state"])(variables, jax.numpy.ones(3))
>>> updates
{'state': {'calls': 2}}
"""

from fx_core.scope._bare import FrozenVariableDict, MutableCollection, MutableVariableDict, VariableDict
from fx_core.scope._entry import apply, bind, init, lazy_init
from fx_core.scope._filters import (
    CollectionFilter,
    DenyList,
    Filter,
    PRNGSequenceFilter,
    filter_to_set,
    group_collections,
    in_filter,
    intersect_filters,
    is_filter_empty,
    subtract_filters,
    union_filters,
)
from fx_core.scope._rng import LazyRng, PRNGKey, RngCounters, RNGSequences, fold_in_static
from fx_core.scope._scope import Scope
from fx_core.scope._variable import Variable

__all__ = [
    "CollectionFilter",
    "DenyList",
    "Filter",
    "FrozenVariableDict",
    "LazyRng",
    "MutableCollection",
    "MutableVariableDict",
    "PRNGKey",
    "PRNGSequenceFilter",
    "RNGSequences",
    "RngCounters",
    "Scope",
    "Variable",
    "VariableDict",
    "apply",
    "bind",
    "filter_to_set",
    "fold_in_static",
    "group_collections",
    "in_filter",
    "init",
    "intersect_filters",
    "is_filter_empty",
    "lazy_init",
    "subtract_filters",
    "union_filters",
]
