"""Objects that make up models."""

from fx_nnx.objects.containers import Dict, List, Sequential
from fx_nnx.objects.dataclass import dataclass
from fx_nnx.objects.fields import data, has_data, is_data, register_data_type, static
from fx_nnx.objects.module import Module, iter_children, iter_modules
from fx_nnx.objects.pytree import Object, Pytree, check_pytree

__all__ = [
    "Dict",
    "List",
    "Module",
    "Object",
    "Pytree",
    "Sequential",
    "check_pytree",
    "data",
    "dataclass",
    "has_data",
    "is_data",
    "iter_children",
    "iter_modules",
    "register_data_type",
    "static",
]
