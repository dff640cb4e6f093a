"""Which dtype a layer computes in: `fx_core.ops.dtypes`."""

from fx_core.ops.dtypes import Dtype, canonicalize_dtype, promote_dtype

__all__ = ["Dtype", "canonicalize_dtype", "promote_dtype"]
