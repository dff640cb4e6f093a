"""Checkpoints and resume as a callback."""

import copy
import inspect
import itertools
import json
import logging
import math
import re
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fx_train.errors import NonFiniteError, RunError, invalid_callback_option
from fx_train.loop._in_place import InPlace
from fx_train.loop.callbacks import Cadence, Callback, Checkpointer, Progress, as_floats
from fx_train.loop.guard import is_finite

logger = logging.getLogger("fx.train")

_CALLBACKS = "callbacks"
_MEETING_TIMEOUT = 10.0
_ends = itertools.count()


class Checkpoints(Callback):
    """Saves the state every so many steps and at the end, however it comes, and goes on from the newest one.

    ::

      checkpoints = Checkpoints(CheckpointManager(directory / "checkpoints"), every=100)
      with Run(directory, total_steps=1000, callbacks=[checkpoints]) as run:
        state = run.resume(state)

    A run that ends by an error, Ctrl-C included, saves the last recorded state as well, also when another callback,
    such as an evaluation, failed with it. Two states are not saved: one that is not finite (`NanGuard` found it so, or
    another callback failed with it), and one that is no longer there: the next step took its memory (donation), or had
    begun and changes it in place, as steps of NNX modules do. Several processes save after an error only if it ends all
    of them after the same step; they wait for each other for 10 seconds.

    What other callbacks have to remember (`Callback.get_state`) is in the checkpoint too, among its metadata: both are
    there or neither. A manager of another kind needs ``save(..., metadata=...)`` and ``inspect(step).metadata`` for it.

    Of a run, a checkpoint has the state, what callbacks remember, and the positions of ``iterators``, and nothing else:
    an optimizer that is not part of the state begins anew at a resume. States in which there are arrays of parameters
    and none of an optimizer are reported, once.

    A metric that was not measured in the step that is saved, or not yet, counts as NaN, which no manager takes for the
    best.

    Args:
      manager: what keeps them, such as `fx_ckpt.CheckpointManager`.
      every: steps between two checkpoints.
      iterators: data iterators by name, with ``get_state`` and ``set_state``, whose positions are saved and restored
        with the state: those when the step was recorded, although its successor has its batch already. The manager has
        to know them, as `fx_ckpt.CheckpointManager` does.

    Raises:
      ArgumentError: ``manager`` is none.
    """

    examines_first = True

    def __init__(self, manager: Checkpointer, *, every: int, iterators: Mapping[str, Any] | None = None):
        if isinstance(manager, type) or not all(hasattr(manager, each) for each in ("save", "restore", "latest_step")):
            expected = "an object with save, restore and latest_step, such as CheckpointManager(directory)"
            raise invalid_callback_option("Checkpoints", "manager", expected, manager)
        self.manager = manager
        self._due = Cadence("Checkpoints", every)
        self._iterators = {name: _Recorded(each) for name, each in (iterators or {}).items()}
        self._more = {"iterators": self._iterators} if iterators else {}
        self._saved: int | None = None
        self._last: tuple[int, Any, Mapping[str, Any]] | None = None
        self._passed = 0
        self._in_place = InPlace()
        self._known: dict[str, float] = {}
        self._told_metadata = self._told_uncovered = self._told_best = False

    def on_start(self, run: Progress) -> None:
        """Discards an earlier run."""
        self._saved = self._last = None
        self._passed, self._known, self._in_place = 0, {}, InPlace()

    def restore(self, run: Progress, state: Any) -> Any:
        """Reads the newest checkpoint, if there is one, in the structure of ``state``."""
        step = self.manager.latest_step()
        self._in_place.start(state)
        if step is None:
            return state
        run.step = self._saved = step
        restored = self.manager.restore(step, target=state, **self._more)
        self._tell_uncovered(restored)
        run.set_callback_states(self._remembered(run, step))
        self._in_place.start(restored)
        return restored

    def examine(self, run: Progress, state: Any, metrics: Mapping[str, Any]) -> None:
        """Know the state, so that it can be saved if another callback fails before `on_step`.

        Raises:
          RunError: there are checkpoints already, of this step or a later one.
        """
        if self._last is None and self._saved is None:
            newest = self.manager.latest_step()
            if newest is not None and newest >= run.step:
                raise RunError(
                    "There are checkpoints of an earlier run, and this one did not resume it.",
                    expected="a call of run.resume before the loop, or a manager of a new directory",
                    got=f"checkpoints up to step {newest}",
                )
        self._last = run.step, state, metrics
        self._in_place.record(state)
        for iterator in self._iterators.values():
            iterator.record()

    def on_step(self, run: Progress, state: Any, metrics: Mapping[str, Any]) -> None:
        """Saves when it is time."""
        self._last = run.step, state, metrics
        self._passed = run.step
        self._known |= dict.fromkeys(metrics, math.nan)
        if self._due(run.step, run.total_steps):
            run.settle(state)
            self._save(run)

    def on_end(self, run: Progress, error: BaseException | None) -> None:
        """Saves what is not saved yet, and wait until everything is on the disk."""
        try:
            if self._last is not None and self._last[0] != self._saved and not isinstance(error, NonFiniteError):
                if not _is_alive(self._last[1]):
                    self._report_loss(error, "the next step took its memory (donation) and did not end")
                elif self._in_place.found and run.is_changing(error):
                    self._report_loss(error, "the next step had begun, which changes it in place, and did not end")
                elif error is not None and not _all_end_here(self._last[0], error):
                    self._report_loss(error, "not all processes ended after it, and one alone has only a part of it")
                # A state that the others have not passed yet may be what made them fail.
                elif self._passed == self._last[0] or is_finite(self._last[1]):
                    run.settle(self._last[1])
                    self._save(run)
        finally:
            self._last = None
            if hasattr(self.manager, "wait"):
                self.manager.wait()  # pyright: ignore[reportAttributeAccessIssue]

    def _save(self, run: Progress) -> None:
        assert self._last is not None
        step, state, metrics = self._last
        self._saved = step
        self._tell_uncovered(state)
        more = {**self._more, **self._metadata(run)}
        self.manager.save(step, state, metrics={**self._unmeasured(step), **as_floats(metrics)}, **more)

    def _unmeasured(self, step: int) -> dict[str, float]:
        """Metrics that the manager knows or needs, as they are where a step lacks them."""
        best = getattr(self.manager, "best", None)
        if not isinstance(best, str) or best in self._known:
            return self._known
        if not self._told_best:
            found = ", ".join(sorted(self._known)) or "no metrics"
            text = (
                "No step had the metric %r yet, by which the best checkpoint is kept: step %d is none. There were: %s."
            )
            logger.warning(text, best, step, found)
        self._told_best = True
        return {best: math.nan, **self._known}

    def _tell_uncovered(self, state: Any) -> None:
        if not self._told_uncovered and _lacks_optimizer(state):
            logger.warning(
                "The checkpoints hold the state that the run is given, in which there is nothing of an optimizer: a "
                "resumed run begins without its moments. If there is one, make it part of the state, as "
                "TrainState.create does, or give both: run.record((model, optimizer), metrics)."
            )
        self._told_uncovered = True

    def _metadata(self, run: Progress) -> dict[str, Any]:
        """What the callbacks remember, as an argument of `save`."""
        states = run.callback_states()
        if not states:
            return {}
        if not _keeps_metadata(self.manager):
            if not self._told_metadata:
                kind, names = type(self.manager).__name__, ", ".join(states)
                logger.warning("%s keeps no metadata, so that a resumed run begins without that of %s.", kind, names)
            self._told_metadata = True
            return {}
        # A text, since best values begin with infinity, which JSON proper does not know.
        return {"metadata": {_CALLBACKS: json.dumps(states)}}

    def _remembered(self, run: Progress, step: int) -> dict[str, Any]:
        kept = self.manager.inspect(step).metadata if _keeps_metadata(self.manager) else {}  # pyright: ignore[reportAttributeAccessIssue]
        return json.loads(kept[_CALLBACKS]) if _CALLBACKS in kept else _from_file(run, step)

    def _report_loss(self, error: BaseException | None, why: str) -> None:
        assert self._last is not None
        newest = "There is no checkpoint" if self._saved is None else f"The newest checkpoint is of step {self._saved}"
        text = f"The state of step {self._last[0]} could not be saved: {why}. {newest}."
        logger.warning(text)
        if error is not None:
            error.add_note(text)


class _Recorded:
    """An iterator whose state is that of the last recorded step.

    A batch that was handed out for a step that failed comes again after a resume.
    """

    def __init__(self, iterator: Any):
        # Asked for by name, so that who keeps checkpoints finds out about iterators without a position.
        if hasattr(iterator, "get_state") and hasattr(iterator, "set_state"):
            self.get_state, self.set_state = self._recorded_state, iterator.set_state
        self._iterator, self._state = iterator, None

    def record(self) -> None:
        if hasattr(self, "get_state"):
            # A copy: it may be what the iterator goes on with.
            self._state = copy.deepcopy(self._iterator.get_state())

    def _recorded_state(self) -> Any:
        return self._state


def _all_end_here(step: int, error: BaseException) -> bool:
    """Whether all processes end their runs after the same step: a save needs all, and would wait for them for ever."""
    if jax.process_count() == 1:
        return True
    from fx_train.distributed._ending import lost_peer, meet

    return not lost_peer(error) and meet(f"end {next(_ends)} of a run after step {step}", _MEETING_TIMEOUT)


def _is_alive(state: Any) -> bool:
    return not any(isinstance(leaf, jax.Array) and leaf.is_deleted() for leaf in jax.tree.leaves(state))


def _lacks_optimizer(state: Any) -> bool:
    """Whether there are parameters and nothing that looks like what an optimizer keeps for them."""

    def is_optax(x: Any) -> bool:
        return type(x).__module__.split(".")[0] == "optax"

    nodes = jax.tree_util.tree_flatten_with_path(state, is_leaf=is_optax)[0]
    names = {name for path, _ in nodes for name in re.findall(r"\w+", jax.tree_util.keystr(path))}
    if "opt_state" in names or hasattr(state, "opt_state") or any(is_optax(node) for _, node in nodes):
        return False
    arrays = [node for _, node in nodes if isinstance(node, jax.Array | np.ndarray) and node.ndim]
    return any(jnp.issubdtype(array.dtype, jnp.inexact) for array in arrays)


def _keeps_metadata(manager: Any) -> bool:
    parameters = inspect.signature(manager.save).parameters.values()
    takes = any(each.name == "metadata" or each.kind is inspect.Parameter.VAR_KEYWORD for each in parameters)
    return takes and hasattr(manager, "inspect")


def _from_file(run: Progress, step: int) -> dict[str, Any]:
    """What runs of earlier versions of fx-train kept in a file beside their checkpoints."""
    file = run.directory / "callbacks.json"
    try:
        return json.loads(file.read_text()).get(str(step), {}) if file.exists() else {}
    except (OSError, ValueError, AttributeError) as error:
        logger.warning("Callbacks begin afresh, since %s cannot be read: %s", file, error)
        return {}
