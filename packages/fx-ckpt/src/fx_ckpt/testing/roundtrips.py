"""Random trees that are saved, and compared with what comes back: without a target, and with one."""

import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from fx_core.testing.states import DTYPES, array_of
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from fx_ckpt.operations import restore, save

__all__ = ["difference", "round_trips", "trees"]

_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=4)


def trees() -> st.SearchStrategy[Any]:
    """Random trees: every kind of leaf, key and container that comes back without a target."""
    shapes = st.lists(st.integers(0, 3), max_size=3).map(tuple)
    arrays = st.builds(array_of, st.sampled_from(list(DTYPES)), shapes)
    small = arrays.filter(lambda array: array.dtype.itemsize < 8)
    keys = st.builds(
        lambda seed, impl, count: jax.random.split(jax.random.key(seed, impl=impl), count),
        st.integers(0, 99),
        st.sampled_from(["threefry2x32", "rbg", "unsafe_rbg"]),
        st.integers(1, 2),
    )
    python = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.complex_numbers(), _TEXT)
    weak = st.builds(lambda number: jnp.asarray(number) + 0, st.one_of(st.integers(-9, 9), st.floats(width=32)))
    scalars = st.builds(lambda dtype: array_of(dtype, (3,))[1], st.sampled_from(list(DTYPES)))
    leaves = st.one_of(python, st.binary(max_size=4), arrays, scalars, small.map(jnp.asarray), keys, weak)
    names = st.one_of(_TEXT, st.integers(), st.booleans(), st.none())
    return st.recursive(
        leaves,
        lambda inner: st.one_of(
            st.dictionaries(names, inner, max_size=3),
            st.lists(inner, max_size=3),
            st.lists(inner, max_size=3).map(tuple),
        ),
        max_leaves=8,
    )


def difference(expected: Any, got: Any, path: str = "") -> str | None:
    """Returns where two trees differ, in a key, a type or a bit; None if nowhere."""
    if type(expected) is not type(got) and not isinstance(expected, jax.Array):
        return f"{path}: {type(expected).__name__} became {type(got).__name__}"
    if isinstance(expected, (list, tuple)):
        expected, got = dict(enumerate(expected)), dict(enumerate(got))
    if isinstance(expected, dict):
        if [(type(key), key) for key in expected] != [(type(key), key) for key in got]:
            return f"{path}: keys {list(expected)} became {list(got)}"
        found = (difference(expected[key], got[key], f"{path}/{key!r}") for key in expected)
        return next((one for one in found if one is not None), None)
    return None if _bits(expected) == _bits(got) else f"{path}: {expected!r} became {got!r}"


def round_trips(backend: str, count: int, derandomize: bool = True) -> Counter[str]:
    """Saves and restores random trees.

    Returns:
      How many trees, and leaves in them, came back to the bit.

    Raises:
      AssertionError: one did not; hypothesis has made it small.
    """
    done: Counter[str] = Counter()

    @settings(
        max_examples=count,
        deadline=None,
        database=None,
        derandomize=derandomize,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
    )
    @given(trees())
    def check(tree: Any) -> None:
        with tempfile.TemporaryDirectory() as directory:
            path = save(Path(directory, "x"), tree, backend=backend)
            for back in (restore(path), restore(path, tree)):
                problem = difference(tree, back)
                assert problem is None, problem
        done["trees"] += 1
        done["leaves"] += _leaves(tree)

    check()
    return done


def _leaves(tree: Any) -> int:
    # JAX would sort the keys of dictionaries, which cannot be compared here.
    if isinstance(tree, (dict, list, tuple)):
        return sum(_leaves(child) for child in (tree.values() if isinstance(tree, dict) else tree))
    return 1


def _bits(leaf: Any) -> Any:
    if isinstance(leaf, jax.Array):
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return "key", str(jax.random.key_impl(leaf)), leaf.shape, np.asarray(jax.random.key_data(leaf)).tobytes()
        return "jax", leaf.dtype, leaf.shape, leaf.weak_type, np.asarray(leaf).tobytes()
    if isinstance(leaf, (np.ndarray, np.generic)):
        return "numpy", leaf.dtype, leaf.shape, leaf.tobytes()
    if isinstance(leaf, complex):
        return leaf.real.hex(), leaf.imag.hex()
    return leaf.hex() if isinstance(leaf, float) else leaf
