"""A progress bar with live metrics."""

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fx_core.terminal import plain

from fx_train.errors import missing_extra
from fx_train.loop.callbacks import Callback, Progress, as_floats, is_writer

if TYPE_CHECKING:
    from rich.console import Console


class ProgressBar(Callback):
    """Shows steps, rate, time left and metrics in the terminal; quiet when the output is not one.

    Needs the extra ``fx-train[progress]``. Metrics are read from the device only when they are shown, a few times a
    second, so that the bar does not hold up the device.

    Args:
      label: a word before the bar.
      console: where to draw, a `rich.console.Console`; standard output by default.
      refresh: seconds between two looks at the metrics.

    Raises:
      MissingPackageError: rich is not installed.

    >>> import fx_train
    >>> bar = fx_train.ProgressBar("digits")  # for `fx_train.Run(..., callbacks=[bar])`
    """

    def __init__(self, label: str = "train", *, console: "Console | None" = None, refresh: float = 0.2):
        try:
            from rich import console as rich_console
            from rich import progress
        except ImportError as error:
            raise missing_extra("ProgressBar", "rich", "progress") from error
        self._bar = progress.Progress(
            progress.TextColumn("{task.description}", style="bold", markup=False),
            progress.BarColumn(),
            progress.MofNCompleteColumn(),
            progress.TextColumn("{task.fields[rate]}"),
            progress.TimeRemainingColumn(),
            progress.TextColumn("{task.fields[metrics]}", style="cyan", markup=False),
            console=console or rich_console.Console(),
        )
        self._visible = False
        self._label, self._refresh = label, refresh
        self._shown = self._started = 0.0
        self._first_step = 0
        self._latest: dict[str, Any] = {}
        self._task = self._bar.add_task(plain(label), total=None, rate="", metrics="")

    def on_start(self, run: Progress) -> None:
        """Draws the empty bar."""
        self._visible = self._bar.console.is_terminal and is_writer()
        self._shown, self._started, self._latest = 0.0, 0.0, {}
        if self._visible:
            self._bar.reset(self._task, total=run.total_steps, rate="", metrics="")
            self._bar.start()

    def on_step(self, run: Progress, state: Any, metrics: Mapping[str, Any]) -> None:
        """Moves the bar, a few times a second."""
        if not self._visible:
            return
        # What is measured now and then, such as evaluations, stays on the screen.
        self._latest |= metrics
        now = time.monotonic()
        if not self._started:
            # The first step compiles; counting from its end gives the rate of the steps to come.
            self._started, self._first_step = now, run.step
        if now - self._shown < self._refresh and run.step < run.total_steps and run.stop_reason is None:
            return
        self._shown = now
        shown = "  ".join(f"{plain(name)} {value:.4g}" for name, value in as_floats(self._latest).items())
        elapsed = now - self._started
        rate = f"{(run.step - self._first_step) / elapsed:.0f} steps/s" if elapsed > 0 else ""
        self._bar.update(self._task, completed=run.step, rate=rate, metrics=shown)

    def on_end(self, run: Progress, error: BaseException | None) -> None:
        """Leaves the finished bar on the screen."""
        if self._visible:
            self._bar.stop()
