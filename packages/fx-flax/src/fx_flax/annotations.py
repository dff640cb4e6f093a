"""Types that Flax has for its own annotations, which libraries write in theirs."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

__all__ = [
    "Activation",
    "AddAxisHook",
    "Annotation",
    "Args",
    "AttrType",
    "AxisIndex",
    "Carry",
    "CarryHistory",
    "CreateValueHook",
    "Default",
    "DtypeLikeInexact",
    "ExtractValueFn",
    "FieldName",
    "FilterLiteral",
    "GetValueHook",
    "GraphFlatState",
    "Index",
    "IsLeafCallable",
    "KeyPath",
    "Kwargs",
    "LeafType",
    "Leaves",
    "MultiprocessArrayType",
    "Names",
    "NextGetter",
    "NodeDefType",
    "Output",
    "Prefix",
    "PyTree",
    "RemoveAxisHook",
    "SetValueFn",
    "SetValueHook",
    "Size",
    "ellipsis",
]

Annotation = AttrType = Carry = CarryHistory = Default = DtypeLikeInexact = FilterLiteral = GraphFlatState = Any
LeafType = MultiprocessArrayType = NodeDefType = Output = Prefix = PyTree = ellipsis = Any
AxisIndex = Index = Size = int
FieldName = str
Args = tuple[Any]
Kwargs = dict[str, Any]
KeyPath = tuple[Hashable, ...]
Leaves = list[Any]
Names = Sequence[int]
Activation = NextGetter = Callable[..., Any]
IsLeafCallable = Callable[[tuple[Any, ...], Mapping[Any, Any]], bool]
ExtractValueFn = Callable[[Any], Any]
SetValueFn = CreateValueHook = GetValueHook = SetValueHook = Callable[[Any, Any], Any]
AddAxisHook = RemoveAxisHook = Callable[[Any, int, str | None], None]
