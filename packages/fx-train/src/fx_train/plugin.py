"""What fx-train brings, through the same door as everyone's plugins."""

from fx_core.plugins import CommandEntry, LoggerEntry, hookimpl

fx_api_version = "1.0"


@hookimpl
def fx_loggers() -> list[LoggerEntry]:
    """Returns the loggers of fx-train."""
    return [
        LoggerEntry(
            name="jsonl", target="fx_train.loggers:JsonLinesLogger", summary="One JSON object per line in a file"
        ),
        LoggerEntry(name="csv", target="fx_train.loggers:CsvLogger", summary="A table of comma-separated values"),
        LoggerEntry(name="console", target="fx_train.loggers:ConsoleLogger", summary="One line per entry"),
        LoggerEntry(
            name="tensorboard",
            target="fx_train.loggers:TensorBoardLogger",
            summary="Event files for TensorBoard",
            extra="tensorboard",
        ),
    ]


@hookimpl
def fx_commands() -> list[CommandEntry]:
    """Returns the commands about runs."""
    return [
        CommandEntry(
            name="report", target="fx_train.report.command:report", summary="Write a page about a training run"
        )
    ]
