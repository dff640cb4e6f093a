"""Names that programs import from inner modules of Flax, where they are defined in another module here.

Flax's modules also show what they import themselves: `flax.linen.linear` has ``Conv`` and ``PrecisionLike``, say, and
programs have come to rely on it. The table below is all that is done about it: a module that is named in it finds the
names on its first use. New programs import from `fx_linen` and `fx_core.typing`.

>>> from fx_linen.linear import Conv, PrecisionLike
"""

import importlib
from collections.abc import Callable
from typing import Any, Final

__all__ = ["ALIASES", "finder"]

_TYPES = ("Array", "Dtype", "Initializer", "PRNGKey", "Shape", "PrecisionLike", "DotGeneralT")
_CONV_TYPES = ("ConvGeneralDilatedT", "LaxPadding", "PaddingLike", "PromoteDtypeFn")
_TYPED: dict[str, str] = {name: f"fx_core.typing:{name}" for name in _TYPES}
_MODULE: dict[str, str] = {name: f"fx_linen.module:{name}" for name in ("Module", "compact", "nowrap", "merge_param")}
_SCOPE = ("DenyList", "FrozenVariableDict", "LazyRng", "Scope", "Variable", "union_filters")
_DTYPES = {name: f"fx_core.ops.dtypes:{name}" for name in ("canonicalize_dtype", "promote_dtype")}

ALIASES: Final[dict[str, dict[str, str]]] = {
    "attention": {
        **_TYPED,
        **_MODULE,
        **_DTYPES,
        "DenseGeneral": "fx_linen.linear:DenseGeneral",
        "LayerNorm": "fx_linen.normalization:LayerNorm",
    },
    "batch_apply": {"BatchApply": "fx_linen.combinators:BatchApply"},
    "fp8_ops": {
        "OVERWRITE_WITH_GRADIENT": "fx_core.ops.lowp:OVERWRITE_WITH_GRADIENT",
        "Fp8DirectDotGeneralOp": "fx_linen.fp8:Fp8DirectDotGeneralOp",
        "Fp8DotGeneralOp": "fx_linen.fp8:Fp8DotGeneralOp",
        "Fp8Einsum": "fx_linen.fp8:Fp8Einsum",
        "NANOOFp8DotGeneralOp": "fx_linen.fp8:NANOOFp8DotGeneralOp",
    },
    "linear": {
        **_TYPED,
        **_MODULE,
        **_DTYPES,
        **{
            name: f"fx_core.typing:{name}"
            for name in ("ConvGeneralDilatedT", "LaxPadding", "PaddingLike", "PromoteDtypeFn")
        },
        **{name: f"fx_linen.conv:{name}" for name in ("Conv", "ConvLocal", "ConvTranspose")},
    },
    "module": {**{name: f"fx_core.scope:{name}" for name in _SCOPE}, "FrozenDict": "fx_core.frozen_dict:FrozenDict"},
    "normalization": {
        **_TYPED,
        **_MODULE,
        **_DTYPES,
        "SpectralNorm": "fx_linen.weight_normalization:SpectralNorm",
        "WeightNorm": "fx_linen.weight_normalization:WeightNorm",
        "map_variables": "fx_linen.transforms:map_variables",
    },
    "partitioning": {
        **{name: f"fx_core.frozen_dict:{name}" for name in ("freeze", "unfreeze")},
        **{name: f"fx_core.traverse_util:{name}" for name in ("flatten_dict", "unflatten_dict")},
        **{f"Scan{name}": f"fx_transforms.lift:{name}" for name in ("In", "Out")},
        **{name: f"fx_linen.spmd:{name}" for name in ("LogicalPartitionSpec", "LogicalPartitionSpecPytree")},
        **{name: f"fx_core.typing:{name}" for name in ("Array", "ArrayPytree", "LogicalRules", "PartitionSpecPytree")},
    },
    "recurrent": {
        **_TYPED,
        **_MODULE,
        **_DTYPES,
        "Conv": "fx_linen.conv:Conv",
        "Dense": "fx_linen.linear:Dense",
        "FrozenDict": "fx_core.frozen_dict:FrozenDict",
    },
    "transforms": {
        **{name: f"fx_core.scope:{name}" for name in ("LazyRng", "Scope", "Variable")},
        "FrozenDict": "fx_core.frozen_dict:FrozenDict",
        "Module": "fx_linen.module:Module",
        "wrap_method_once": "fx_linen.module:wrap_method_once",
    },
}
"""For each module of `fx_linen` the names that it finds elsewhere, and where."""


def finder(module: str) -> Callable[[str], Any]:
    """The ``__getattr__`` of a module in `ALIASES`.

    Args:
      module: its ``__name__``.
    """
    names = ALIASES[module.rpartition(".")[2]]

    def find(name: str) -> Any:
        if name not in names:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        place, _, attribute = names[name].partition(":")
        return getattr(importlib.import_module(place), attribute)

    return find
