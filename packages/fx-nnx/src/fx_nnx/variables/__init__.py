"""Variables, their kinds, and the collections they stand for."""

from fx_nnx.variables.defaults import var_defaults
from fx_nnx.variables.initial import VariableMetadata, with_metadata
from fx_nnx.variables.kinds import BatchStat, Cache, HijaxVariable, Intermediate, Loss, Param, Perturbation
from fx_nnx.variables.names import register_variable_name, variable_name_from_type, variable_type_from_name
from fx_nnx.variables.variable import Variable

VariableState = Variable
"""The type of what states hold: variables."""

__all__ = [
    "BatchStat",
    "Cache",
    "HijaxVariable",
    "Intermediate",
    "Loss",
    "Param",
    "Perturbation",
    "Variable",
    "VariableMetadata",
    "VariableState",
    "register_variable_name",
    "var_defaults",
    "variable_name_from_type",
    "variable_type_from_name",
    "with_metadata",
]
