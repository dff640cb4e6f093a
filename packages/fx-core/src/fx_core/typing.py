"""Names for the types that signatures of fx speak of.

>>> from fx_core.typing import Array, Shape
>>> def zeros(shape: Shape) -> Array: ...
"""

import dataclasses
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, Generic, Protocol, TypeAlias, TypeVar, runtime_checkable

import jax
import numpy as np

from fx_core.frozen_dict import FrozenDict

T = TypeVar("T")

# Arrays and random numbers
Array: TypeAlias = jax.Array | Any
ArrayPytree: TypeAlias = Any
Leaf: TypeAlias = Any
PRNGKey: TypeAlias = jax.Array
PRNGFoldable: TypeAlias = int | str
RNGSequences: TypeAlias = dict[str, PRNGKey]
Dtype: TypeAlias = str | type[Any] | np.dtype | Any
Shape: TypeAlias = Sequence[int]
Axes: TypeAlias = int | Sequence[int]
Initializer: TypeAlias = jax.nn.initializers.Initializer | Callable[..., Any]
PrecisionLike: TypeAlias = (
    str | jax.lax.Precision | tuple[str, str] | tuple[jax.lax.Precision, jax.lax.Precision] | None
)
DotGeneralT: TypeAlias = Callable[..., Array]
ConvGeneralDilatedT: TypeAlias = Callable[..., Array]
EinsumT: TypeAlias = Callable[..., Array]
PaddingLike: TypeAlias = str | int | Sequence[int | tuple[int, int]]
LaxPadding: TypeAlias = str | Sequence[tuple[int, int]]

# Variables
Collection: TypeAlias = Mapping[str, Any]
MutableCollection: TypeAlias = dict[str, Any]
VariableDict: TypeAlias = Mapping[str, Collection]
FrozenVariableDict: TypeAlias = FrozenDict[str, Collection]
MutableVariableDict: TypeAlias = dict[str, MutableCollection]

# Paths
Path: TypeAlias = str


@runtime_checkable
class Key(Hashable, Protocol):
    """A key of a tree that can be sorted among its siblings."""

    def __lt__(self: T, value: T, /) -> bool:
        """Orders among the keys of one dict."""
        ...


PathParts: TypeAlias = tuple[Key, ...]

# Sharding
LogicalNames: TypeAlias = tuple[str | None, ...]
AxisName: TypeAlias = str | tuple[str, ...] | None
LogicalRules: TypeAlias = Sequence[tuple[str, AxisName]]
Sharding: TypeAlias = tuple[AxisName, ...]
LogicalPartitionSpec: TypeAlias = Any
LogicalPartitionSpecPytree: TypeAlias = Any
PartitionSpecPytree: TypeAlias = Any


# Lifted transforms
@dataclasses.dataclass(frozen=True)
class In(Generic[T]):
    """An axis that a lifted transform uses on the way in only."""

    axis: T


@dataclasses.dataclass(frozen=True)
class Out(Generic[T]):
    """An axis that a lifted transform uses on the way out only."""

    axis: T


Axis: TypeAlias = int | None
InOutAxis: TypeAlias = Axis | In[Axis] | Out[Axis]
ScanAxis: TypeAlias = int
InOutScanAxis: TypeAlias = ScanAxis | In[ScanAxis] | Out[ScanAxis]


class PromoteDtypeFn(Protocol):
    """Gives arrays one dtype before a layer computes, as `fx_core.ops.dtypes.promote_dtype` does."""

    def __call__(self, *args: Any, dtype: Dtype | None = None, inexact: bool = True) -> list[Any]:
        """Converts ``args``: to ``dtype``, or to the one they have in common."""
        ...


class ShapeDtype(Protocol):
    """Anything with a shape and a dtype: arrays, tracers, `jax.ShapeDtypeStruct`."""

    shape: Shape
    dtype: Dtype
