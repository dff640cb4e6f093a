"""A watch for numbers that are none."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fx_train.errors import NonFiniteError
from fx_train.loop.callbacks import Cadence, Callback, Progress, are_ready, as_floats


class NanGuard(Callback):
    """Ends the run with an error when a metric or a parameter is not finite, and says which and when.

    The device looks at the state of every so many steps, and nobody waits for it: what it found is read at a later
    step, when it is there, at the latest at the next look. So the run may go on for a few steps before the error, which
    names the step that was looked at. The run waits before a checkpoint, whose state is always looked at, and at its
    end, so that no broken state is saved.

    Args:
      every: steps between two looks. With ``every=100`` the error names a step up to 99 later than the first broken
        one, and looking costs next to nothing; each look reads the state once.

    Raises:
      NonFiniteError: in `Run.record` or at the end of `Run.steps`.
    """

    def __init__(self, *, every: int = 1):
        self._due = Cadence("NanGuard", every)
        self._look: _Look | None = None
        self._found: NonFiniteError | None = None

    def on_start(self, run: Progress) -> None:
        """Forget an earlier run."""
        self._look = self._found = None

    def examine(self, run: Progress, state: Any, metrics: Mapping[str, Any]) -> None:
        """Ask the device when it is time, and read what it answered to an earlier question."""
        due = self._due(run.step, run.total_steps)
        if self._look is not None:
            # The state that was looked at may have lost its memory to this one, and should not hold on to it.
            self._look.seen = run.step, state
            # Of several processes all have to read after the same step: one that ends leaves the others waiting.
            if due or jax.process_count() > 1 or self._look.is_answered():
                self._read()
            else:
                self._look.seen = None
        if due:
            self._look = _Look(run.step, state, metrics)

    def settle(self, run: Progress, state: Any) -> None:
        """Wait for the answer to the last question, and look at a state that is to be kept."""
        if self._found is not None:
            raise self._found
        asked = self._look is not None and self._look.step == run.step
        self._read()
        if state is not None and not asked:
            self._look = _Look(run.step, state, {})
            self._read()

    def _read(self) -> None:
        look, self._look = self._look, None
        if look is None:
            return
        bad, broken = look.bad_metrics(), look.broken_leaves()
        if bad or broken:
            self._found = NonFiniteError(look.step, bad, look.shares(broken))
            raise self._found


class _Look:
    """A question to the device, whether the numbers of a step are finite, and the answer when it is there."""

    def __init__(self, step: int, state: Any, metrics: Mapping[str, Any]):
        self.step, self._metrics = step, dict(metrics)
        self.seen: tuple[int, Any] | None = (step, state)
        """A state in which broken numbers can be counted, and its step."""
        leaves, self._structure = jax.tree.flatten(state)
        self._answers: list[tuple[list[int], jax.Array]] = []
        for places in _places_by_devices(leaves):
            answer = _are_finite([leaves[place] for place in places])
            answer.copy_to_host_async()
            self._answers.append((places, answer))

    def is_answered(self) -> bool:
        return are_ready([answer for _, answer in self._answers]) and are_ready(self._metrics)

    def bad_metrics(self) -> list[str]:
        return [name for name, value in as_floats(self._metrics).items() if not np.isfinite(value)]

    def broken_leaves(self) -> list[int]:
        answers = [(places, np.asarray(answer)) for places, answer in self._answers]
        return sorted(place for places, fine in answers for place in np.asarray(places)[~fine].tolist())

    def shares(self, places: Sequence[int]) -> list[tuple[str, str]]:
        """Paths of leaves, with how many of their numbers are not finite."""
        numbered = jax.tree.unflatten(self._structure, range(self._structure.num_leaves))
        paths = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(numbered)]
        step, state = self.seen or (self.step, None)
        leaves, structure = jax.tree.flatten(state)
        known = leaves if structure == self._structure else [None] * len(paths)
        when = "" if step == self.step else f" after step {step}"
        return [(paths[place], _share(known[place], when)) for place in places]


def is_finite(state: Any) -> bool:
    """Whether all numbers of a state are finite; waits for the device."""
    return not _Look(0, state, {}).broken_leaves()


def _places_by_devices(leaves: Sequence[Any]) -> list[list[int]]:
    """Places of the arrays that may hold what is not finite; one compiled function takes those of the same devices."""
    places: dict[Any, list[int]] = {}
    for place, leaf in enumerate(leaves):
        if hasattr(leaf, "dtype") and _is_inexact(leaf.dtype):
            devices = frozenset(leaf.sharding.device_set) if isinstance(leaf, jax.Array) else None
            places.setdefault(devices, []).append(place)
    return list(places.values())


@functools.cache
def _is_inexact(dtype: Any) -> bool:
    return bool(jnp.issubdtype(dtype, jnp.inexact))


@jax.jit
def _are_finite(leaves: Sequence[Any]) -> jax.Array:
    return jnp.stack([jnp.isfinite(_largest(leaf)) for leaf in leaves])


def _largest(leaf: Any) -> jax.Array:
    """The largest magnitude, NaN if there is one: it costs half of counting the numbers that are not finite."""
    if jnp.iscomplexobj(leaf):
        # The magnitude of a complex number can be infinite although its parts are not.
        return jnp.maximum(_largest(leaf.real), _largest(leaf.imag))
    # Not all devices know how to compare numbers of one byte.
    wide = leaf.astype(jnp.float32) if leaf.dtype.itemsize < 4 else leaf
    return jnp.max(jnp.abs(wide), initial=0)


def _share(leaf: Any, when: str) -> str:
    if leaf is None or (isinstance(leaf, jax.Array) and leaf.is_deleted()):
        return "no longer there to be counted"
    return f"{int(jnp.sum(~jnp.isfinite(leaf)))} of {leaf.size} numbers{when}"
