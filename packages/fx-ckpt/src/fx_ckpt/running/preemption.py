"""What happens when the machine is taken away: SIGTERM comes, and there is a little time."""

import logging
import signal
import threading
from types import FrameType
from typing import Any

from fx_core.compat.jax import reached_preemption

from fx_ckpt.running import processes

_log = logging.getLogger("fx.ckpt")

EXIT_CODE = 128 + signal.SIGTERM
"""What a program ends with after it has saved: not 0, so that its work is not taken for done."""


class Preempted(SystemExit):
    """The program received a signal to end, and has saved.

    It ends the program as `SystemExit` does, through all ``finally`` and ``with``.

    Attributes:
      step: the step that was saved.

    >>> import fx_ckpt
    >>> try:
    ...     raise fx_ckpt.Preempted(120)
    ... except SystemExit as end:
    ...     print(end.code, end)
    143 SIGTERM came; step 120 is saved.
    """

    def __init__(self, step: int):
        super().__init__(EXIT_CODE)
        self.step = step

    def __str__(self) -> str:
        return f"SIGTERM came; step {self.step} is saved."


class Preemption:
    """Remembers that SIGTERM came, from `watch` to `release`, and then passes it on if nothing was done about it.

    With several processes, JAX's preemption service decides which step is the last, so that all save the same; where it
    is off (``jax_enable_preemption_service``), SIGTERM ends the program as it does without fx.
    """

    def __init__(self) -> None:
        self._came = self.acted = False
        self._previous: Any = None
        self._watching = False

    def watch(self) -> None:
        """Takes SIGTERM over; only the main thread can."""
        if processes.count() > 1 or self._watching:
            # JAX listens by itself.
            return
        if threading.current_thread() is not threading.main_thread():
            _log.warning("SIGTERM will not be caught: this is not the main thread.")
            return
        self._previous = signal.signal(signal.SIGTERM, self._remember)
        self._watching = True

    def release(self) -> None:
        """Restores the earlier handler of SIGTERM, and passes on one that came and that no save acted on."""
        if not self._watching:
            return
        signal.signal(signal.SIGTERM, self._previous if self._previous is not None else signal.SIG_DFL)
        forgotten = self._came and not self.acted
        self._watching = self._came = self.acted = False
        if forgotten:
            _log.warning("SIGTERM came after the last save; it is passed on.")
            signal.raise_signal(signal.SIGTERM)

    def due(self, step: int) -> bool:
        """Returns whether this step is the last one."""
        return reached_preemption(step) if processes.count() > 1 else self._came

    def _remember(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        self._came = True
