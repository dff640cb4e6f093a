"""Objects that make up models."""

from fx_nnx.objects.dataclass import dataclass
from fx_nnx.objects.fields import Data, Static, data, has_data, is_data, register_data_type, static
from fx_nnx.objects.pytree import Object, Pytree, check_pytree

__all__ = [
    "Data",
    "Object",
    "Pytree",
    "Static",
    "check_pytree",
    "data",
    "dataclass",
    "has_data",
    "is_data",
    "register_data_type",
    "static",
]
