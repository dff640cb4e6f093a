"""The errors of fx-ckpt: a class for each kind that a caller would catch."""

from collections.abc import Sequence
from typing import Any

from fx_core.errors import ArgumentError, FxError, InvalidCheckpointError

ROOT = "the root of the tree"
_SHOWN, _LONGEST = 40, 500


class CheckpointError(FxError, ValueError):
    """Base class of the errors about checkpoints, and what has no class of its own."""


class UnsupportedLeafError(CheckpointError, TypeError):
    """The tree holds something that cannot be stored exactly.

    Functions, arbitrary objects, object arrays and the like would need pickle, which fx never uses::

        fx_ckpt.save(path, {"params": params, "apply_fn": model.apply})  # raises
        fx_ckpt.save(path, {"params": params})
    """


class CastError(CheckpointError):
    """Numbers do not fit into the dtype that is wanted, or that JAX is set to: they would wrap or become infinite."""


class DamagedDataError(CheckpointError):
    """What was read is not what fx, or the backend, writes: cut, changed, or hostile. Nothing was loaded."""


class NoCheckpointError(CheckpointError, LookupError):
    """There is no such checkpoint.

    Wrong: ``manager.restore(step=7)`` where ``manager.steps()`` is ``[5]``.
    """


class OtherProcessError(CheckpointError, RuntimeError):
    """A save failed in another process; nothing was saved."""


class RestoreMismatchError(CheckpointError):
    """The checkpoint and the target differ; the text lists every difference.

    Nothing is cast, dropped or filled in::

        fx_ckpt.save(path, {"w": jnp.ones((3, 4))})
        fx_ckpt.restore(path, {"w": jnp.ones((3, 5))})  # raises
        fx_ckpt.restore(path)["w"]                      # as it was saved

    Args:
      path: the checkpoint.
      missing: paths of the target that the checkpoint lacks.
      extra: paths of the checkpoint that the target lacks.
      different: a line for each path that both have, with what differs.
    """

    def __init__(self, path: str, missing: Sequence[str], extra: Sequence[str], different: Sequence[str]):
        self.missing, self.extra, self.different = tuple(missing), tuple(extra), tuple(different)
        lines = [f"missing in the checkpoint: {line}" for line in missing]
        lines += [f"only in the checkpoint: {line}" for line in extra]
        lines += [f"different: {line}" for line in different]
        count = len(lines)
        if count > _SHOWN:
            lines = [*lines[:_SHOWN], f"… and {count - _SHOWN} more; the attributes of this error hold all of them"]
        super().__init__(
            f"The checkpoint does not fit the target in {count} {'place' if count == 1 else 'places'}.",
            path=path,
            expected="the structure, shapes and dtypes of the target",
            got="".join(f"\n    {line}" for line in lines),
            fix="Restore without a target to get what was saved, and convert it yourself; or mend the target.",
        )


class StepTakenError(CheckpointError, InvalidCheckpointError):
    """A checkpoint of this step, or of a later one, exists.

    Args:
      directory: where.
      step: the step.
      newest: the newest step there.
    """

    def __init__(self, directory: str, step: Any, newest: Any):
        # Past the initializer of InvalidCheckpointError, which knows no newest step.
        FxError.__init__(
            self,
            f"Step {step} cannot be saved: there is a checkpoint of this step or a later one.",
            path=directory,
            expected=f"a step after {newest}",
            got=step,
            fix="Pass overwrite=True, or use another directory for another run.",
        )


def class_as_target(target: type) -> ArgumentError:
    """The error for a class where one of its objects is meant."""
    fix = f"Make a {target.__name__} first, and pass it; or pass no target and get dictionaries."
    return invalid_option("target", "a tree of arrays, such as an object of the class", target, fix)


def unsupported_leaf(
    path: str, got: str, fix: str = "Leave it out, or make it a static field of a pytree class."
) -> UnsupportedLeafError:
    """The tree holds something that cannot be stored exactly."""
    return UnsupportedLeafError(
        "This cannot be stored in a checkpoint.",
        path=path or ROOT,
        expected="arrays, PRNG keys, Python numbers, strings, bytes, None, and pytrees of these",
        got=got,
        fix=fix,
    )


def unreadable(problem: str, *, expected: Any = None, got: Any = None) -> DamagedDataError:
    """Bytes are not what `to_bytes` or `msgpack_serialize` writes: cut, changed, or hostile."""
    return DamagedDataError(
        f"These bytes cannot be read: {problem}",
        expected=expected,
        got=got,
        fix="Use another copy; nothing was loaded from this one.",
    )


def inconsistent_data(path: str, expected: Any, got: Any, backend: str = "") -> DamagedDataError:
    """A backend gave back something else than what was saved."""
    return DamagedDataError(
        f"The backend {backend!r} did not return what was saved." if backend else "The stored data is inconsistent.",
        path=path or ROOT,
        expected=expected,
        got=got,
        fix="Report this to the authors of the backend, or use another copy.",
    )


def invalid_structure(problem: str, got: Any = None) -> DamagedDataError:
    """The description of the tree in a manifest makes no sense."""
    return DamagedDataError(
        f"The stored structure of the tree is not valid: {problem}.",
        got=None if got is None else str(got)[:200],
        fix="Use another copy, or the version of fx that wrote it.",
    )


def no_checkpoint(
    directory: str,
    step: Any = None,
    available: Sequence[Any] = (),
    found: str | None = None,
    fix: str = "Check the directory and the step, or save first.",
) -> NoCheckpointError:
    """There is no such checkpoint."""
    shown = ", ".join(map(str, available[-20:])) or "none"
    return NoCheckpointError(
        "There is no checkpoint here that this function reads."
        if found is not None
        else "There is no checkpoint here."
        if step is None
        else f"There is no checkpoint of step {step}.",
        path=directory,
        expected=None if step is None else f"step {step}",
        got=found or f"steps: {shown}",
        fix=fix,
    )


def invalid_option(name: str, expected: Any, got: Any, fix: str) -> ArgumentError:
    """An argument does not make sense."""
    return ArgumentError(f"The argument {name!r} is wrong.", expected=expected, got=repr(got)[:_LONGEST], fix=fix)
