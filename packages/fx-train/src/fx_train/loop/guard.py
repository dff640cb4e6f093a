"""A watch for numbers that are none."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fx_train.errors import NonFiniteError
from fx_train.loop.callbacks import Cadence, Callback, Progress, as_floats


class NanGuard(Callback):
    """Ends the run with an error when a metric or a parameter is not finite, and says which and when.

    It looks before any other callback acts on a step, wherever it stands in the list, so a broken state is not saved
    as a checkpoint. Looking waits for the device and reads the state once; with ``every=1`` that is every step, with
    ``every=100`` the error names a step up to 99 later than the first broken one.

    Args:
      every: steps between two looks.

    Raises:
      NonFiniteError: in `Run.record`.
    """

    def __init__(self, *, every: int = 1):
        self._due = Cadence("NanGuard", every)

    def examine(self, run: Progress, state: Any, metrics: Mapping[str, Any]) -> None:
        """Look when it is time."""
        if not self._due(run.step, run.total_steps):
            return
        bad = [name for name, value in as_floats(metrics).items() if not np.isfinite(value)]
        broken = broken_leaves(state)
        if bad or broken:
            raise NonFiniteError(run.step, bad, [(name, _share(leaf)) for name, leaf in broken])


def broken_leaves(state: Any) -> list[tuple[str, Any]]:
    """Paths and arrays of a state that are not finite."""
    leaves = [(path, leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(state) if _is_floating(leaf)]
    there = [leaf for _, leaf in leaves if not _is_here(leaf)]
    found = iter(np.asarray(_finite(there)) if there else ())
    flags = [np.isfinite(np.asarray(leaf)).all() if _is_here(leaf) else next(found) for _, leaf in leaves]
    return [(jax.tree_util.keystr(path), leaf) for (path, leaf), fine in zip(leaves, flags) if not fine]


def _is_here(leaf: Any) -> bool:
    """Whether NumPy can look at an array without a copy; it is some times faster than a compiled function."""
    if isinstance(leaf, jax.Array):
        plain = np.dtype(leaf.dtype).kind == "f" and leaf.is_fully_addressable and len(leaf.devices()) == 1
        return plain and next(iter(leaf.devices())).platform == "cpu"
    return isinstance(leaf, np.ndarray | np.generic)


def _is_floating(leaf: Any) -> bool:
    return hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jnp.inexact)


@functools.partial(jax.jit)
def _finite(leaves: Sequence[Any]) -> jax.Array:
    return jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in leaves])


def _share(leaf: Any) -> str:
    return f"{int(jnp.sum(~jnp.isfinite(leaf)))} of {leaf.size} numbers"
