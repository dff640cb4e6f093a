"""What every metric logger has to do."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from fx_core.plugins.interfaces import MetricLogger

_LOGGED = {0: {"loss": 1.5, "accuracy": 0.25}, 10: {"loss": 0.75}, 11: {"loss": 0.5, "eval/accuracy": 0.5}}


class LoggerSuite:
    """The contract of `fx_core.plugins.interfaces.MetricLogger`.

    Subclass it, say how to make the logger and, where that is possible, how to read back what it wrote.
    """

    def make(self, directory: Path) -> MetricLogger:
        """Creates the logger under test; what it writes goes to ``directory``, which exists."""
        raise TypeError(f"{type(self).__name__} does not say how to make its logger: define make(self, directory).")

    def read(self, directory: Path) -> Mapping[int, Mapping[str, float]] | None:
        """Returns what was logged, by step; None if the destination cannot be read."""
        return None

    def test_fulfils_the_protocol(self, tmp_path: Path):
        logger = self.make(tmp_path)
        logger.close()
        assert isinstance(logger, MetricLogger)

    def test_everything_is_there_after_close(self, tmp_path: Path):
        logger = self.make(tmp_path)
        for step, metrics in _LOGGED.items():
            logger.log(step, metrics)
        logger.close()
        written = self.read(tmp_path)
        if written is not None:
            assert sorted(written) == sorted(_LOGGED)
            for step, metrics in _LOGGED.items():
                assert dict(written[step]) == pytest.approx(metrics)

    def test_takes_values_that_are_not_finite(self, tmp_path: Path):
        logger = self.make(tmp_path)
        logger.log(1, {"loss": float("nan"), "norm": float("inf")})
        logger.close()
        written = self.read(tmp_path)
        if written is not None:
            assert dict(written[1]) == pytest.approx({"loss": float("nan"), "norm": float("inf")}, nan_ok=True)

    def test_takes_no_metrics_at_all(self, tmp_path: Path):
        logger = self.make(tmp_path)
        logger.log(1, {})
        logger.log(2, {"loss": 1.0})
        logger.close()
        written = self.read(tmp_path)
        assert written is None or written[2] == {"loss": 1.0}

    def test_closing_twice_is_harmless(self, tmp_path: Path):
        logger = self.make(tmp_path)
        logger.log(1, {"loss": 1.0})
        logger.close()
        logger.close()
        written = self.read(tmp_path)
        assert written is None or list(written) == [1]
