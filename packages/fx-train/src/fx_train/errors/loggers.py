"""Errors of loggers."""

from collections.abc import Sequence

from fx_core.errors import FxError


class ReservedMetricError(FxError):
    """A metric has a name that means something else in the file of a logger."""

    def __init__(self, name: str):
        super().__init__(
            f"No metric can be called {name!r} here.",
            expected="names besides 'step' and 'time', which every entry has",
            got=repr(name),
            fix=f"Call it {f'eval/{name}'!r}, or {f'{name}s'!r}.",
        )
        self.name = name


class ForeignTableError(FxError):
    """A file that a logger would append to is none of its own."""

    def __init__(self, file: str, columns: Sequence[str]):
        super().__init__(
            "There is another table where metrics belong.",
            path=file,
            expected="the columns step, time, ...",
            got=", ".join(columns),
            fix="Move the file away, or give the run another directory.",
        )


class RecordNotWrittenError(FxError):
    """A file of a run cannot be written: the disk is full, or may not be written."""

    def __init__(self, file: str, problem: str):
        super().__init__(
            "A record of the run cannot be written.",
            path=file,
            expected="a file that can be written, on a disk with room",
            got=problem,
            fix="Make room or give the run another directory; it goes on from its last checkpoint.",
        )


class ClosedWriterError(FxError, AttributeError):
    """A summary was written, or flushed, after the writer was closed.

    ::

      with SummaryWriter(directory) as writer:
        train(writer)
      writer.scalar("final", loss, step)               # behind the end of the block
    """

    def __init__(self):
        super().__init__(
            "The writer is closed.",
            expected="summaries before close, and inside of `with`",
            fix="Write it earlier, or make another SummaryWriter of the same directory.",
        )
