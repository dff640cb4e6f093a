"""A logger: one line per number."""

from collections.abc import Mapping
from pathlib import Path


class TsvLogger:
    """Appends lines of step, name and value to ``log.tsv``, with tabs between them."""

    def __init__(self, directory: Path):
        self._file = (directory / "log.tsv").open("a", buffering=1, encoding="utf-8")

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Append a line for every metric."""
        for name, value in metrics.items():
            self._file.write(f"{step}\t{name}\t{value!r}\n")

    def close(self) -> None:
        """Close the file."""
        self._file.close()
