"""Which dtypes an operator is computed in.

The standard allows more than ONNX Runtime computes on a CPU. An operator whose dtype is missing there is computed in a
wider one, and the result is cast back: for integers that wraps around like the operator itself would have done.
"""

import ml_dtypes
import numpy as np

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
_FLOATS = "float16 float32 float64"
_SINGLE = "float16 float32"
_WIDE = "int32 int64 " + _FLOATS
_INTEGERS = "int8 uint8 int16 uint16 int32 uint32 int64 uint64"
_NUMBERS = f"{_INTEGERS} {_FLOATS}"
_MOVED = f"bool {_NUMBERS} bfloat16"

_GROUPS = {
    _NUMBERS: "Add Sub Mul Div Mod Less LessOrEqual Greater GreaterOrEqual Abs",
    _MOVED: "Identity Gather GatherND GatherElements ScatterND Slice Concat Transpose Reshape Unsqueeze Squeeze If",
    f"bool {_NUMBERS}": "Equal Expand Tile",
    f"{_NUMBERS} bfloat16": "Sign",
    "int8 uint8 int32 uint32 int64 uint64 " + _FLOATS: "Max Min Clip",
    "int8 uint8 int32 uint32 int64 " + _FLOATS: "Where",
    "bool int8 uint8 int32 uint32 int64 uint64 bfloat16 " + _FLOATS: "Pad",
    "int8 int16 int32 int64 " + _FLOATS: "Neg",
    _INTEGERS: "BitwiseAnd BitwiseOr BitwiseXor BitwiseNot",
    "uint8 uint16 uint32 uint64": "BitShift",
    "bool": "And Or Xor Not",
    "int32 int64 " + _FLOATS: "Pow ReduceSum ReduceMean ReduceSumSquare CumSum",
    "bool int8 uint8 int32 int64 " + _FLOATS: "ReduceMax ReduceMin",
    "int8 uint8 int32 int64 " + _FLOATS: "ArgMax ArgMin",
    "int32 uint32 int64 uint64 " + _FLOATS: "MatMul",
    "int32 int64 float32 float64": "Range",
    "int64 int32 " + _FLOATS: "TopK",
    # Products of integers saturate in ONNX Runtime, where those of JAX wrap around: they are made of `Mul`.
    _FLOATS: "ReduceProd Exp Log Sqrt Reciprocal Tanh Sigmoid Floor Ceil Round Sin Cos Softmax IsNaN IsInf Gemm"
    " LayerNormalization RMSNormalization",
    _SINGLE: "Erf Tan Asin Acos Atan Sinh Cosh Asinh Acosh Atanh Gelu Conv ConvTranspose AveragePool"
    " BatchNormalization Softplus",
    "int8 uint8 float16 float32 float64": "MaxPool",
}
KERNELS: dict[str, frozenset[str]] = {
    op: frozenset(dtypes.split()) for dtypes, ops in _GROUPS.items() for op in ops.split()
}
_WIDER = {
    "bool": "int32",
    "int8": "int32",
    "uint8": "int32",
    "int16": "int32",
    "uint16": "int32",
    "uint32": "int64",
    "int32": "int64",
    "bfloat16": "float32",
}


def computed_in(op: str, dtype: np.dtype) -> np.dtype:
    """Returns the dtype to compute an operator in, for operands of a dtype.

    >>> computed_in("Add", np.dtype("int16")), computed_in("MaxPool", np.dtype("int32"))
    (dtype('int16'), dtype('float64'))
    """
    name, kernels = dtype.name, KERNELS.get(op)
    if kernels is None or name in kernels:
        return dtype
    if op == "Where" and name == "uint64":
        # It only chooses, and a cast keeps all bits.
        return np.dtype("int64")
    if op == "MaxPool" and name in ("int16", "uint16", "int32", "uint32"):
        return np.dtype("float64")
    if name in ("int2", "int4", "uint2", "uint4"):
        name = "int8"
    elif name.startswith("float") and dtype.itemsize == 1:
        name = "bfloat16"
    while name not in kernels and name in _WIDER:
        name = _WIDER[name]
    return np.dtype(name) if name in kernels else dtype


def resting(dtype: np.dtype) -> np.dtype:
    """Returns the dtype in which computed values are kept: bfloat16 stays float32 until it leaves the graph."""
    return np.dtype("float32") if dtype == BFLOAT16 else dtype
