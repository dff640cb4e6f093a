"""A watch for numbers that are none."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from fx_core.typing import Dtype

from fx_train.errors import NonFiniteError
from fx_train.loop.callbacks import Cadence, Callback, Progress, are_ready


class NanGuard(Callback):
    """Ends the run with an error when a metric or a parameter is not finite, and says which and when.

    The device looks at the state of every so many steps, without waiting for it: what it found is read at a later
    step, when it is there, at the latest at the next look. So the run may go on for a few steps before the error, which
    names the step that was looked at. The run waits before a checkpoint, whose state is always looked at, and at its
    end, so that no broken state is saved.

    Args:
      every: steps between two looks. With ``every=100`` the error names a step up to 99 later than the first broken
        one, and looking costs next to nothing; each look reads the state once.

    Raises:
      NonFiniteError: in `Run.record` or at the end of `Run.steps`.

    >>> import tempfile
    >>> import fx_train
    >>> try:
    ...     with fx_train.Run(tempfile.mkdtemp(), total_steps=1, callbacks=[fx_train.NanGuard()]) as run:
    ...         for step, batch in run.steps([None]):
    ...             run.record({}, {"loss": float("nan")})
    ... except fx_train.errors.NonFiniteError as error:
    ...     print("step", run.step)
    step 1
    """

    def __init__(self, *, every: int = 1):
        self._due = Cadence("NanGuard", every)
        self._look: _Look | None = None
        self._found: NonFiniteError | None = None

    def on_start(self, run: Progress) -> None:
        """Discards an earlier run."""
        self._look = self._found = None

    def examine(self, run: Progress, state: Any, metrics: Mapping[str, Any]) -> None:
        """Asks the device when it is time, and reads what it answered to an earlier question."""
        due = self._due(run.step, run.total_steps)
        # Of several processes all have to read after the same step: one that ends leaves the others waiting.
        if self._look is not None and (due or jax.process_count() > 1 or self._look.is_answered()):
            self._read(run.step, state)
        if due:
            self._look = _Look(run.step, state, metrics)
        if run.step == run.total_steps:
            self._read(run.step, state)
        waits = self._look is not None
        self.idle_until = run.step + 1 if waits else self._due.after(run.step, run.total_steps)

    def settle(self, run: Progress, state: Any) -> None:
        """Waits for the answer to the last question, and look at a state that is to be kept."""
        if self._found is not None:
            raise self._found
        asked = self._look is not None and self._look.step == run.step
        self._read(run.step, state)
        if state is not None and not asked:
            self._look = _Look(run.step, state, {})
            self._read(run.step, state)

    def _read(self, step: int, state: Any) -> None:
        look, self._look = self._look, None
        if look is not None and (broken := look.broken()):
            self._found = NonFiniteError(look.step, *look.describe(broken, step, state))
            raise self._found


class _Look:
    """A question to the device, whether the numbers of a step are finite, and the answer when it is there."""

    def __init__(self, step: int, state: Any, metrics: Mapping[str, Any]):
        self.step, self._metrics = step, list(metrics)
        values = [value.compute() if hasattr(value, "compute") else value for value in metrics.values()]
        leaves, self._structure = jax.tree.flatten(state)
        leaves = [*values, *leaves]
        self._broken_here = [place for place, leaf in enumerate(leaves) if _is_broken_here(leaf)]
        self._answers = [
            (places, _are_finite([leaves[place] for place in places])) for places in _places_by_devices(leaves)
        ]

    def is_answered(self) -> bool:
        return are_ready([answer for _, answer in self._answers])

    def broken(self) -> list[int]:
        """Places of what is not finite, among the metrics and the leaves of the state behind them; waits."""
        broken = self._broken_here
        for places, answer in self._answers:
            fine = np.asarray(answer).tolist()
            if False in fine:
                broken = sorted([*broken, *(place for place, each in zip(places, fine) if not each)])
        return broken

    def describe(self, broken: Sequence[int], step: int, state: Any) -> tuple[list[str], list[tuple[str, str]]]:
        """Names of metrics, and paths of leaves with how many of their numbers are not finite.

        They are counted in a later state: holding on to the one that was looked at would take its memory twice.
        """
        count = len(self._metrics)
        numbered = jax.tree.unflatten(self._structure, range(count, count + self._structure.num_leaves))
        paths = {place: jax.tree_util.keystr(path) for path, place in jax.tree_util.tree_leaves_with_path(numbered)}
        leaves, structure = jax.tree.flatten(state)
        known = leaves if structure == self._structure else [None] * len(paths)
        when = "" if step == self.step else f" after step {step}"
        shares = [(paths[place], _share(known[place - count], when)) for place in broken if place >= count]
        return [self._metrics[place] for place in broken if place < count], shares


def is_finite(state: Any) -> bool:
    """Returns whether all numbers of a state are finite; waits for the device."""
    return not _Look(0, state, {}).broken()


def _is_broken_here(leaf: Any) -> bool:
    """Whether numbers of the host are not finite; a device might take large ones of float64 for infinite."""
    if isinstance(leaf, np.ndarray | np.generic):
        return _is_inexact(leaf.dtype) and not np.isfinite(leaf).all()
    return isinstance(leaf, float | complex) and not np.isfinite(leaf)


def _places_by_devices(leaves: Sequence[Any]) -> list[list[int]]:
    """Places of the arrays that may hold what is not finite; one compiled function takes those of the same devices."""
    places: dict[Any, list[int]] = {}
    for place, leaf in enumerate(leaves):
        if hasattr(leaf, "dtype") and not isinstance(leaf, np.ndarray | np.generic) and _is_inexact(leaf.dtype):
            devices = frozenset(leaf.sharding.device_set) if isinstance(leaf, jax.Array) else None
            places.setdefault(devices, []).append(place)
    return list(places.values())


@functools.cache
def _is_inexact(dtype: Dtype) -> bool:
    return bool(jnp.issubdtype(dtype, jnp.inexact))


@jax.jit
def _are_finite(leaves: Sequence[jax.Array]) -> jax.Array:
    # Not by the largest magnitude: a maximum may lose NaN, as it does on CPUs for some thousand numbers and more.
    return jnp.stack([jnp.all(jnp.isfinite(_wide(leaf))) for leaf in leaves])


def _wide(leaf: jax.Array) -> jax.Array:
    # Not all devices know how to compare numbers of one byte.
    return leaf.astype(jnp.float32) if leaf.dtype.itemsize < 4 else leaf


def _share(leaf: Any, when: str) -> str:
    if not hasattr(leaf, "dtype"):
        return "not counted" if leaf is None else f"{leaf}{when}"
    finite = jnp.isfinite(_wide(leaf)) if isinstance(leaf, jax.Array) else np.isfinite(leaf)
    return f"{leaf.size - int(finite.sum())} of {leaf.size} numbers{when}"
