"""Files of a run that cannot be written."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from fx_train.errors import RecordNotWrittenError

__all__ = ["writing"]


@contextlib.contextmanager
def writing(file: Path) -> Iterator[None]:
    """Say which file it was that could not be written; errors of full disks do not.

    Raises:
      RecordNotWrittenError: in place of an OSError.
    """
    try:
        yield
    except OSError as error:
        raise RecordNotWrittenError(str(file), str(error)) from error
