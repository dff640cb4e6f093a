"""Errors of reports."""

from fx_core.errors import FxError


class NoRunError(FxError):
    """A directory has no records of a run."""

    def __init__(self, directory: str):
        super().__init__(
            "There is no run to report on.",
            path=directory,
            expected="metrics.jsonl, metrics.csv or run.json",
            got="none of them",
            fix='Train with the callbacks Log("jsonl", every=...) and Describe(), or name the right directory.',
        )


_REPAIR = "Remove the line that is named, or the file, from a copy of the directory: the page is made of what is left."


class RunFileError(FxError):
    """A file of a run cannot be read."""

    def __init__(self, file: str, problem: str):
        super().__init__("A record of the run is damaged.", path=file, got=problem, fix=_REPAIR)


class ReportNotWrittenError(FxError):
    """The page about a run cannot be written where it belongs."""

    def __init__(self, file: str, problem: str):
        super().__init__(
            "The report cannot be written.",
            path=file,
            expected="a file in a directory that is there and may be written",
            got=problem,
            fix="Name another file: fx report RUN --output FILE, or write_report(run, file).",
        )
