"""Every primitive that is translated to ONNX computes in ONNX Runtime what it computes in JAX."""

import fx_export
import jax
import numpy as np
import onnx_corners
import pytest
from fx_export.onnx.primitives import own_primitives
from onnx_cases import CASES

assert onnx_corners

# Older or newer versions of JAX, and transforms that JAX resolves before a program is traced, use these names.
UNSEEN = {
    "acosh", "add_any", "asinh", "atanh", "call_hi_primitive", "checkpoint", "closed_call", "composite", "copy_p",
    "core_call", "custom_lin", "custom_vjp_call_jaxpr", "device_put", "dim_as_value", "eq_to", "exp2", "expand_dims",
    "iota_2x32_shape", "layout_constraint", "le_to", "log2", "lt_to", "mesh_cast", "name", "named_call",
    "one_minus_square", "pcast", "pjit", "platform_index", "pvary", "random_clone", "remat", "remat2", "reshard",
    "scatter-sub", "scatter_add", "scatter_max", "scatter_min", "scatter_mul", "scatter_sub", "sharding_constraint",
    "split", "stack", "threefry2x32", "tile", "unstack",
}  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_onnx_runtime_computes_what_jax_computes(case, tmp_path):
    specs = [jax.ShapeDtypeStruct(x.shape, x.dtype) for x in case.inputs]
    path = fx_export.export(
        tmp_path / "net", lambda _, *xs: case.fn(*xs), {}, specs, format="onnx", verify=False, **case.options
    )
    results, expected = fx_export.load(path)(*case.inputs), jax.jit(case.fn)(*case.inputs)
    assert list(results) == sorted(expected)
    for name, wanted in expected.items():
        for a, b in zip(jax.tree.leaves(results[name]), jax.tree.leaves(wanted), strict=True):
            assert (a.shape, a.dtype) == (b.shape, b.dtype), name
            tolerance = {"bfloat16": 2e-2, "float16": 2e-2}.get(b.dtype.name, 3e-5)
            wide = np.float64 if b.dtype != bool else bool
            np.testing.assert_allclose(
                a.astype(wide), np.asarray(b).astype(wide), rtol=tolerance, atol=tolerance / 10, err_msg=name
            )


def primitives_in(jaxpr):
    for eqn in jaxpr.eqns:
        yield eqn.primitive.name
        for value in eqn.params.values():
            for inner in value if isinstance(value, tuple | list) else [value]:
                inner = getattr(inner, "jaxpr", inner)
                if hasattr(inner, "eqns"):
                    yield from primitives_in(inner)


def test_the_cases_use_every_primitive():
    used = {name for case in CASES for name in primitives_in(jax.make_jaxpr(case.fn)(*case.inputs).jaxpr)}
    assert set(own_primitives()) - used - UNSEEN == set()
