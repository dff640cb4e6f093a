"""The dtypes that files may name.

A table, not NumPy's parser: a name from a file must not reach objects, records, or anything clever.
"""

import ml_dtypes
import numpy as np

_STANDARD = "bool int8 int16 int32 int64 uint8 uint16 uint32 uint64 float16 float32 float64 complex64 complex128"
_EXTENDED = """
    bfloat16 int1 int2 int4 uint1 uint2 uint4 float4_e2m1fn float6_e2m3fn float6_e3m2fn float8_e3m4 float8_e4m3
    float8_e4m3b11fnuz float8_e4m3fn float8_e4m3fnuz float8_e5m2 float8_e5m2fnuz float8_e8m0fnu
"""

NUMBERS: dict[str, np.dtype] = {
    **{name: np.dtype(name) for name in _STANDARD.split()},
    **{name: np.dtype(getattr(ml_dtypes, name)) for name in _EXTENDED.split() if hasattr(ml_dtypes, name)},
}
"""Numbers of the same bits everywhere, by name; older releases of ml_dtypes lack some."""
