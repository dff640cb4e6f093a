"""Names under which programs written for Flax find things."""

import collections.abc
import copy
import importlib
import subprocess
import sys

import fx_nnx as nnx
import jax.numpy as jnp
import pytest
from fx_nnx.aliases import TABLE


@pytest.mark.parametrize("name", TABLE)
def test_every_alias_gives_what_its_modules_have(name):
    module = importlib.import_module(f"fx_nnx.{name}")
    found = nnx
    for part in name.split("."):
        found = getattr(found, part)
    assert found is module
    assert len(dir(module)) > 1
    for attribute in dir(module):
        assert getattr(module, attribute) is not None
    with pytest.raises(AttributeError, match="has no 'zork'; it stands for fx_"):
        module.zork  # noqa: B018


EXPECTED = {
    "statelib": "State FlatState diff filter_state from_flat_state map_state merge_state to_pure_dict",
    "filterlib": "All Any Filter Not OfType WithTag filters_to_predicates to_predicate",
    "variablelib": "Variable Param BatchStat Cache VarDefaults VariableMetadata VariableState with_metadata",
    "graphlib": "GraphDef NodeDef NodeRef VariableDef split merge flatten unflatten update clone iter_graph call",
    "rnglib": "Rngs RngStream RngKey fork_rngs split_rngs restore_rngs reseed with_rngs",
    "traversals": "flatten_mapping unflatten_mapping flatten_to_sequence empty_node",
    "tracers": "TraceState current_jax_trace",
    "spmd": "PARTITION_NAME get_partition_spec get_named_sharding with_partitioning",
    "module": "Module capture iter_modules view with_attributes",
    "helpers": "Dict List Sequential TrainState",
    "ids": "UUID uuid",
    "reprlib": "Representable",
    "graph": "split merge state update graphdef",
    "pytreelib": "Pytree Object PytreeState data static dataclass check_pytree",
    "optimizer": "Optimizer",
    "training.optimizer": "Optimizer",
    "training.metrics": "Metric MultiMetric Average Accuracy",
    "nn.linear": "Linear LinearGeneral Einsum Conv ConvTranspose Embed default_kernel_init",
    "nn.normalization": "BatchNorm LayerNorm RMSNorm GroupNorm InstanceNorm SpectralNorm WeightNorm",
    "nn.attention": "MultiHeadAttention combine_masks make_causal_mask dot_product_attention",
    "nn.recurrent": "RNN LSTMCell GRUCell Bidirectional",
    "nn.stochastic": "Dropout",
    "nn.lora": "LoRA LoRALinear LoRAParam",
    "nn.dtypes": "promote_dtype canonicalize_dtype",
    "nn.initializers": "lecun_normal zeros",
    "nn.activations": "relu gelu",
}


@pytest.mark.parametrize("name", EXPECTED)
def test_modules_have_the_names_that_programs_use(name):
    module = importlib.import_module(f"fx_nnx.{name}")
    for attribute in EXPECTED[name].split():
        found = getattr(module, attribute)
        assert getattr(nnx, attribute, found) is found, attribute


def test_every_way_to_import():
    program = """
import fx_nnx.statelib
import fx_nnx.nn.linear as lin
from fx_nnx import graphlib, filterlib
from fx_nnx.nn import linear, dtypes
from fx_nnx.nn.recurrent import LSTMCell
import fx_nnx
assert lin is linear is fx_nnx.nn.linear
assert fx_nnx.statelib.State is fx_nnx.State
assert fx_nnx.Linear.__init__.__kwdefaults__["promote_dtype"] is dtypes.promote_dtype
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


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
    one, two = nnx.ids.uuid(), nnx.ids.uuid()
    assert one == one
    assert len({one, two, copy.copy(one), copy.deepcopy(one)}) == 4


def test_mappings():
    state = nnx.State({"a": {"b": 1}, "c": 2})
    flat = nnx.traversals.flatten_mapping(state)
    assert flat == {("a", "b"): 1, ("c",): 2}
    assert nnx.traversals.unflatten_mapping(flat) == {"a": {"b": 1}, "c": 2}
    assert nnx.traversals.flatten_to_sequence(state) == [(("a", "b"), 1), (("c",), 2)]
    assert nnx.traversals.flatten_mapping({"a": {}}, keep_empty_nodes=True, sep="/") == {"a": nnx.traversals.empty_node}
    assert nnx.statelib.diff(state, nnx.State({"c": 5})).to_pure_dict() == {"a": {"b": 1}}


def test_references_are_found_under_the_name_of_graphs():
    shared = nnx.Param(1)
    known = nnx.graphlib.RefMap()
    nnx.graphlib.flatten(nnx.List([shared]), ref_index=known)
    assert known[shared] == 1
