"""Files of a run that cannot be written."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

from fx_core.errors import FxError

from fx_train.errors import RunFileError

__all__ = ["writing"]


def _record_not_written(file: str, problem: str) -> RunFileError:
    return RunFileError(
        "A record of the run cannot be written.",
        path=file,
        expected="a file that can be written, on a disk with room",
        got=problem,
        fix="Make room or give the run another directory; it goes on from its last checkpoint.",
    )


@contextlib.contextmanager
def writing(file: Path, kind: Callable[[str, str], FxError] = _record_not_written) -> Iterator[None]:
    """Adds which file it was that could not be written; errors of full disks do not.

    Args:
      file: what is written.
      kind: makes the error of the file and the problem.

    Raises:
      RunFileError: in place of an OSError, or of an error about characters that the file cannot hold, if no
        other kind is given.
    """
    try:
        yield
    except (OSError, UnicodeError) as error:
        raise kind(str(file), str(error)) from error
