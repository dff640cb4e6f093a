"""The errors of fx-ckpt: one class per mistake."""

from collections.abc import Sequence
from typing import Any

from fx_core.errors import FxError, InvalidCheckpointError
from fx_core.errors.renaming import RenamingError as RenamingError

ROOT = "the root of the tree"
_SHOWN, _LONGEST = 40, 500


class CheckpointError(FxError):
    """Base class of the errors about checkpoints."""


class UnsupportedLeafError(CheckpointError, TypeError):
    """The tree holds something that cannot be stored exactly.

    Functions, arbitrary objects, object arrays and the like would need pickle, which fx never uses::

        fx_ckpt.save(path, {"params": params, "apply_fn": model.apply})  # raises
        fx_ckpt.save(path, {"params": params})

    Args:
      path: where in the tree.
      got: what was there.
      fix: what to do instead.
    """

    def __init__(self, path: str, got: str, fix: str = "Leave it out, or make it a static field of a pytree class."):
        super().__init__(
            "This cannot be stored in a checkpoint.",
            path=path or ROOT,
            expected="arrays, PRNG keys, Python numbers, strings, bytes, None, and pytrees of these",
            got=got,
            fix=fix,
        )


class UnsupportedKeyError(CheckpointError, TypeError):
    """A dictionary key cannot be stored exactly.

    Args:
      path: the dictionary.
      key: the key.
    """

    def __init__(self, path: str, key: Any):
        super().__init__(
            "This dictionary key cannot be stored in a checkpoint.",
            path=path or ROOT,
            expected="strings, integers, floats, booleans, None, and tuples of these",
            got=f"{key!r} of type {type(key).__name__}",
            fix="Use strings of whole characters as keys.",
        )


class RestoreMismatchError(CheckpointError, ValueError):
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


class CastError(CheckpointError, ValueError):
    """A cast was asked for, and some numbers do not fit into the other dtype: they would wrap, or become infinite.

    Args:
      path: where in the tree.
      saved: the saved dtype.
      wanted: the dtype to cast to.
      got: what was there.
    """

    def __init__(self, path: str, saved: str, wanted: str, got: str):
        super().__init__(
            f"Numbers of {saved} do not fit into {wanted}.",
            path=path,
            expected=f"numbers that {wanted} can hold",
            got=got,
            fix="Cast to a wider dtype; or restore without a cast, and clip the numbers yourself.",
        )


class DtypeUnavailableError(CheckpointError, ValueError):
    """A 64-bit array was saved, and JAX is set to 32 bits.

    Args:
      path: where in the tree.
      dtype: the saved dtype.
    """

    def __init__(self, path: str, dtype: str):
        super().__init__(
            "JAX would cast this array silently.",
            path=path,
            expected=f"{dtype}, as saved",
            got="a target for a JAX array, with jax_enable_x64 off",
            fix='Enable 64 bits, jax.config.update("jax_enable_x64", True), or put a NumPy array into the target.',
        )


class BytesError(CheckpointError, ValueError):
    """Bytes are not what `to_bytes` or `msgpack_serialize` writes: cut, changed, or hostile.

    Args:
      problem: what is wrong with them.
      expected: what should be there.
      got: what is there.
    """

    def __init__(self, problem: str, *, expected: Any = None, got: Any = None):
        super().__init__(
            f"These bytes cannot be read: {problem}",
            expected=expected,
            got=got,
            fix="Use another copy; nothing was loaded from this one.",
        )


class BackendDataError(CheckpointError, ValueError):
    """A backend gave back something else than what was saved.

    Args:
      path: where in the tree.
      expected: what was saved.
      got: what came back.
      backend: name of the backend.
    """

    def __init__(self, path: str, expected: Any, got: Any, backend: str = ""):
        super().__init__(
            f"The backend {backend!r} did not return what was saved."
            if backend
            else "The stored data is inconsistent.",
            path=path or ROOT,
            expected=expected,
            got=got,
            fix="Report this to the authors of the backend, or use another copy.",
        )


class StructureError(CheckpointError, ValueError):
    """The description of the tree in a manifest makes no sense.

    Args:
      problem: what is wrong.
      got: the offending part.
    """

    def __init__(self, problem: str, got: Any = None):
        super().__init__(
            f"The stored structure of the tree is not valid: {problem}.",
            got=None if got is None else str(got)[:200],
            fix="Use another copy, or the version of fx that wrote it.",
        )


class NoCheckpointError(CheckpointError, LookupError, ValueError):
    """There is no such checkpoint.

    Args:
      directory: where it was looked for.
      step: the step asked for; None means any.
      available: the steps that are there.
      found: what is there instead.
      fix: what reads it.
    """

    def __init__(
        self,
        directory: str,
        step: Any = None,
        available: Sequence[Any] = (),
        found: str | None = None,
        fix: str = "Check the directory and the step, or save first.",
    ):
        shown = ", ".join(map(str, available[-20:])) or "none"
        super().__init__(
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


class StepTakenError(CheckpointError, InvalidCheckpointError, ValueError):
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


class InvalidOptionError(CheckpointError, ValueError):
    """An argument does not make sense.

    Args:
      name: the argument.
      expected: what it may be.
      got: what it was.
      fix: what to do.
    """

    def __init__(self, name: str, expected: Any, got: Any, fix: str):
        super().__init__(
            f"The argument {name!r} is wrong.",
            expected=expected,
            got=repr(got)[:_LONGEST],
            fix=fix,
        )


def class_as_target(target: type) -> InvalidOptionError:
    """The error for a class where one of its objects is meant."""
    fix = f"Make a {target.__name__} first, and pass it; or pass no target and get dictionaries."
    return InvalidOptionError("target", "a tree of arrays, such as an object of the class", target, fix)


class IteratorMismatchError(CheckpointError, ValueError):
    """Other data iterators were saved than are to be restored.

    Args:
      path: the checkpoint.
      saved: names of the saved ones.
      given: names of the given ones.
    """

    def __init__(self, path: str, saved: Sequence[str], given: Sequence[str]):
        super().__init__(
            "The data iterators of the checkpoint are not those to restore.",
            path=path,
            expected=", ".join(saved) or "no iterators",
            got=", ".join(given) or "no iterators",
            fix="Pass iterators of the saved names; a checkpoint has those of each process that wrote it.",
        )


class OtherProcessError(CheckpointError, RuntimeError):
    """A save failed in another process; nothing was saved.

    Args:
      process: its number.
      problem: what it raised.
    """

    def __init__(self, process: int, problem: str):
        super().__init__(
            f"Process {process} could not save.",
            expected="a save by all processes",
            got=problem,
            fix="See the error of that process; the earlier checkpoints are as they were.",
        )
