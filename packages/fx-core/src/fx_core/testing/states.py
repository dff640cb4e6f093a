"""State dictionaries for tests: what may be in them, random ones, and when two are the same to the bit."""

from collections.abc import Mapping, Sequence
from typing import Any

import hypothesis.extra.numpy as hnp
import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import strategies as st

from fx_core.typing import Dtype

DTYPES: tuple[Any, ...] = (
    np.bool_,
    np.int8,
    np.int16,
    np.int32,
    np.int64,
    np.uint8,
    np.uint16,
    np.uint32,
    np.uint64,
    np.float16,
    np.float32,
    np.float64,
    np.complex64,
    np.complex128,
    jnp.bfloat16,
    jnp.float8_e4m3fn,
    jnp.float8_e5m2,
    jnp.int4,
)
"""Dtypes of JAX that a backend is expected to store."""

KEYS = ("0", "-1", "a/b", "a.b", "..", ".", "", " ", "ü", "name with spaces", "CON", "%2F", "a\nb", "x" * 300)
"""Keys that are easily lost when they become file names."""


def describe_difference(expected: Any, got: Any, path: str = "") -> str | None:
    """Returns where two state dictionaries differ; None if they are the same to the bit.

    Arrays are the same if dtype, shape and bytes are, whether NumPy or JAX holds them; Python values if type and
    value are.

    >>> print(describe_difference({"a": {"b": 1}}, {"a": {"b": True}}))
    /a/b: expected 1 (int), got True (bool)
    """
    where = path or "/"
    if isinstance(expected, Mapping):
        if not isinstance(got, Mapping):
            return f"{where}: expected a dict, got {got!r}"
        if set(expected) != set(got):
            return f"{where}: expected keys {sorted(expected)}, got {sorted(map(repr, got))}"
        differences = (describe_difference(expected[key], got[key], f"{path}/{key}") for key in expected)
        return next((difference for difference in differences if difference is not None), None)
    if isinstance(expected, (np.ndarray, jax.Array)):
        if not isinstance(got, (np.ndarray, jax.Array)):
            return f"{where}: expected an array, got {got!r} ({type(got).__name__})"
        want, have = np.asarray(expected), np.asarray(got)
        if (want.dtype, want.shape) != (have.dtype, have.shape):
            return f"{where}: expected {want.dtype}{want.shape}, got {have.dtype}{have.shape}"
        return None if want.tobytes() == have.tobytes() else f"{where}: expected {want}, got {have}"
    same_value = expected == got or (expected != expected and got != got)
    if type(expected) is not type(got) or not same_value:
        return f"{where}: expected {expected!r} ({type(expected).__name__}), got {got!r} ({type(got).__name__})"
    return None


def array_of(dtype: Dtype, shape: Sequence[int] = (2, 3)) -> np.ndarray:
    """Creates an array of that dtype and shape, with values that differ and, for floats, a negative zero and a NaN."""
    count = int(np.prod(shape))
    values = np.arange(count, dtype=np.float32) % (2 if dtype is np.bool_ else 7)
    if count > 2 and jnp.issubdtype(dtype, jnp.inexact):
        values[1], values[2] = -0.0, np.nan
    return values.reshape(shape).astype(dtype)


def states(dtypes: Sequence[Any] = DTYPES) -> st.SearchStrategy[dict[str, Any]]:
    """Random state dictionaries."""
    arrays = st.builds(array_of, st.sampled_from(list(dtypes)), hnp.array_shapes(min_dims=0, max_dims=3, max_side=3))
    scalars = st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**63), 2**63 - 1),
        st.floats(allow_nan=False),
        st.text(st.characters(exclude_categories=("Cs",)), max_size=5),
    )
    keys = st.one_of(st.sampled_from(KEYS), st.text(st.characters(exclude_categories=("Cs",)), max_size=3))
    leaves = st.one_of(scalars, arrays)
    trees = st.recursive(leaves, lambda inner: st.dictionaries(keys, inner, max_size=3), max_leaves=6)
    return st.dictionaries(keys, trees, max_size=3)
