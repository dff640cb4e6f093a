"""Variables of whole models from one package to the other."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from fx_core.meta import AxisMetadata
from fx_nnx import Pytree, RngState, State, Variable, from_flat_state, state, to_flat_state, variable_name_from_type

from fx_bridge.boxes import to_linen_var, variable_of
from fx_bridge.report import ConversionReport
from fx_bridge.structure import ARRAYS
from fx_bridge.trees import CollectionPath, Path, leaves_of, nest

__all__ = ["convert_variables", "to_linen_variables", "to_nnx_state"]

Rename = Callable[[str, Path], Path]


def convert_variables(
    variables: Any, *, like: Any = None, rename: Rename | None = None, strict: bool = True, allow_register: bool = False
) -> tuple[Any, ConversionReport]:
    """Converts the variables of a Linen model into an NNX state, or an NNX state (or model) into Linen variables.

    A collection and a variable type belong together by name, as `fx_nnx.variable_type_from_name` and plugins say; boxes
    of Linen, such as partition names, become metadata of variables and back. RNG streams stay where they are: Linen
    keeps none. Arrays that are attributes without a variable are the collection ``arrays``, if the other side has it.

    >>> import jax.numpy as jnp
    >>> linen = {"params": {"out": {"kernel": jnp.ones((2, 3))}}}
    >>> nnx_state, report = convert_variables(linen)
    >>> type(nnx_state.out.kernel).__name__, report.complete
    ('Param', True)
    >>> convert_variables(nnx_state)[0]["params"]["out"]["kernel"].shape
    (2, 3)

    Args:
      variables: what Linen's ``init`` gives, or an NNX state or module.
      like: the model to convert for: an NNX module or state, or Linen variables. With it the result has exactly the
        places of that model that the source has values for; without it every place is taken over.
      rename: gives the path in the result for a collection and a path in the source.
      strict: whether a place without a counterpart or with another shape is an error.
      allow_register: whether an unknown collection gets a variable type of its own.

    Returns:
      The state or the variables, and a report.

    Raises:
      VariableConversionError: ``strict``, and something does not match.
      NnxError: a collection has no variable type, or the other way round.
    """
    options: dict[str, Any] = {"like": like, "rename": rename, "strict": strict, "allow_register": allow_register}
    if isinstance(variables, Mapping) and not isinstance(variables, State | Pytree):
        return to_nnx_state(variables, **options)
    return to_linen_variables(variables, **options)


def to_nnx_state(
    variables: Mapping[str, Any],
    *,
    like: Any = None,
    rename: Rename | None = None,
    strict: bool = True,
    allow_register: bool = False,
) -> tuple[State, ConversionReport]:
    """Converts the variables of a Linen model into an NNX state; see `convert_variables`.

    >>> import jax, jax.numpy as jnp
    >>> import fx_bridge
    >>> import fx_linen as nn
    >>> variables = nn.Dense(2).init(jax.random.key(0), jnp.ones(3))
    >>> state, report = fx_bridge.to_nnx_state(variables)
    >>> type(state["kernel"]).__name__, state["kernel"].shape
    ('Param', (3, 2))
    """
    found = {
        (collection, _renamed(rename, collection, path)): leaf
        if collection == ARRAYS
        else variable_of(collection, leaf, allow_register=allow_register)
        for (collection, path), leaf in leaves_of(variables).items()
    }
    if like is None:
        # Linen has text for the numbers of items; only a model to compare with tells which are numbers.
        return _nested(found), ConversionReport(tuple(found))
    kept, report = _compare(found, _nnx_leaves(like, allow_register, arrays=ARRAYS in variables))
    if strict:
        report.check()
    return _nested(kept), report


def to_linen_variables(
    source: Any,
    *,
    like: Mapping[str, Any] | None = None,
    rename: Rename | None = None,
    strict: bool = True,
    allow_register: bool = False,
) -> tuple[dict[str, Any], ConversionReport]:
    """Converts an NNX state or module into the variables of a Linen model; see `convert_variables`.

    >>> import fx_bridge
    >>> import fx_nnx as nnx
    >>> variables, report = fx_bridge.to_linen_variables(nnx.BatchNorm(2, rngs=nnx.Rngs(0)))
    >>> {collection: sorted(entries) for collection, entries in sorted(variables.items())}
    {'batch_stats': ['mean', 'var'], 'params': ['bias', 'scale']}
    """
    found: dict[CollectionPath, Any] = {}
    for (collection, path), variable in _nnx_leaves(
        source, allow_register, arrays=like is None or ARRAYS in like
    ).items():
        found[collection, tuple(str(key) for key in _renamed(rename, collection, path))] = variable
    report = ConversionReport(tuple(found))
    if like is not None:
        found, report = _compare(found, leaves_of(like))
        if strict:
            report.check()
    return nest(found, lambda x: to_linen_var(x) if isinstance(x, Variable) else x), report


def _nnx_leaves(source: Any, allow_register: bool, *, arrays: bool) -> dict[CollectionPath, Any]:
    leaves: dict[CollectionPath, Any] = {}
    for path, leaf in to_flat_state(source if isinstance(source, State) else state(source)):
        if not isinstance(leaf, Variable):
            if arrays:
                leaves[ARRAYS, path] = leaf
        elif not isinstance(leaf, RngState):
            leaves[variable_name_from_type(type(leaf), allow_register=allow_register), path] = leaf
    return leaves


def _compare(
    found: Mapping[CollectionPath, Any], wanted: Mapping[CollectionPath, Any]
) -> tuple[dict[CollectionPath, Any], ConversionReport]:
    """Give what is found at the wanted places, under the keys that those have."""
    by_text = {(collection, tuple(map(str, path))): value for (collection, path), value in found.items()}
    kept: dict[CollectionPath, Any] = {}
    missing: list[CollectionPath] = []
    shapes: list[tuple[CollectionPath, tuple[int, ...], tuple[int, ...]]] = []
    for (collection, path), target in wanted.items():
        value = by_text.pop((collection, tuple(map(str, path))), None)
        if value is None:
            missing.append((collection, path))
            continue
        want, got = _shape(target), _shape(value)
        if want != got:
            shapes.append(((collection, path), want, got))
        else:
            kept[collection, path] = value
    return kept, ConversionReport(tuple(kept), tuple(missing), tuple(by_text), tuple(shapes))


def _shape(leaf: Any) -> tuple[int, ...]:
    if isinstance(leaf, Variable):
        leaf = leaf.get_raw_value()
    if isinstance(leaf, AxisMetadata):
        leaf = leaf.unbox()
    return tuple(leaf.shape) if hasattr(leaf, "shape") else np.shape(leaf)


def _renamed(rename: Rename | None, collection: str, path: Path) -> Path:
    return path if rename is None else rename(collection, path)


def _nested(leaves: Mapping[CollectionPath, Any]) -> State:
    return from_flat_state([(path, leaf) for (_, path), leaf in leaves.items()])
