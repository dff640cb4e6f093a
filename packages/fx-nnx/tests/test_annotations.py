"""Names that programs use in annotations, and small tools of inner modules."""

import collections.abc
import copy

import fx_nnx as nnx
import jax.numpy as jnp
from fx_nnx import ids
from fx_nnx.states import mappings
from fx_nnx.transforms.references import RefMap


def test_types_for_annotations():
    assert nnx.VariableState is nnx.Variable
    assert isinstance(nnx.to_flat_state(nnx.state(nnx.Dict(a=nnx.Param(1)))).leaves[0], nnx.VariableState)
    assert nnx.GraphDef[nnx.Linear].__origin__ is nnx.GraphDef
    assert nnx.PureState[nnx.Linear].__args__ == (nnx.GraphDef[nnx.Linear], nnx.State)
    assert nnx.Initializer.__origin__ is collections.abc.Callable
    assert nnx.A.__name__ == "A"


class Annotated(nnx.Module):
    layers: nnx.Data[list]
    later: "nnx.Data[int | None]"
    size: nnx.Static[int]
    unknown: "Zork[int]" = 4  # type: ignore[name-defined]  # noqa: F821

    def __init__(self):
        self.layers = [nnx.Param(jnp.ones(1))]
        self.later = None
        self.size = 3


def test_annotations_declare_attributes():
    model = Annotated()
    assert nnx.to_flat_state(nnx.state(model)).paths == (("layers", 0),)
    model.later = nnx.Param(jnp.ones(1))
    assert nnx.to_flat_state(nnx.state(model)).paths == (("later",), ("layers", 0))

    @nnx.dataclass
    class Table(nnx.Pytree):
        rows: nnx.Data[list]
        size: nnx.Static[int] = 3

    assert nnx.to_flat_state(nnx.state(Table([nnx.Param(jnp.ones(1))]))).paths == (("rows", 0),)


def test_unique_names():
    one, two = ids.uuid(), ids.uuid()
    assert one == one
    assert len({one, two, copy.copy(one), copy.deepcopy(one)}) == 4


def test_mappings():
    state = nnx.State({"a": {"b": 1}, "c": 2})
    flat = mappings.flatten_mapping(state)
    assert flat == {("a", "b"): 1, ("c",): 2}
    assert mappings.unflatten_mapping(flat) == {"a": {"b": 1}, "c": 2}
    assert mappings.flatten_to_sequence(state) == [(("a", "b"), 1), (("c",), 2)]
    assert mappings.flatten_mapping({"a": {}}, keep_empty_nodes=True, sep="/") == {"a": mappings.empty_node}
    assert mappings.diff(state, nnx.State({"c": 5})).to_pure_dict() == {"a": {"b": 1}}


def test_references_count_variables_by_their_place():
    shared = nnx.Param(1)
    known = RefMap()
    nnx.flatten(nnx.List([shared]), ref_index=known)
    assert known[shared] == 1
