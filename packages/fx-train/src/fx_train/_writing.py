"""Files of a run that cannot be written."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

from fx_core.errors import FxError

from fx_train.errors import RecordNotWrittenError

__all__ = ["writing"]


@contextlib.contextmanager
def writing(file: Path, kind: Callable[[str, str], FxError] = RecordNotWrittenError) -> Iterator[None]:
    """Adds which file it was that could not be written; errors of full disks do not.

    Args:
      file: what is written.
      kind: makes the error of the file and the problem.

    Raises:
      RecordNotWrittenError: in place of an OSError, or of an error about characters that the file cannot hold, if no
        other kind is given.
    """
    try:
        yield
    except (OSError, UnicodeError) as error:
        raise kind(str(file), str(error)) from error
