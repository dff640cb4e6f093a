"""One self-contained HTML page about a training run: curves, confusion matrix, parameters, settings, environment.

``fx report RUN`` writes it (the command is the extra ``fx-core[cli]``); `write_report` does from a program.
"""

from fx_train.report.page import write_report
from fx_train.report.records import RunRecords, read_run

__all__ = ["RunRecords", "read_run", "write_report"]
