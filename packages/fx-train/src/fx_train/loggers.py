"""Loggers that need nothing beyond the standard library."""

import json
import time
from collections.abc import Mapping
from pathlib import Path


class JsonLinesLogger:
    """Appends one JSON object per entry to ``metrics.jsonl``: step, wall-clock time in seconds, metrics.

    A resumed run appends to the file of the interrupted one, so a step may stand in it twice: the later entry counts.

    Args:
      directory: where the file lies.
    """

    def __init__(self, directory: Path):
        # Line buffering: a killed run leaves whole lines.
        self._file = (Path(directory) / "metrics.jsonl").open("a", buffering=1, encoding="utf-8")

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Append one line."""
        self._file.write(json.dumps({"step": step, "time": time.time(), **metrics}) + "\n")

    def close(self) -> None:
        """Close the file."""
        self._file.close()
