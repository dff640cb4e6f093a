"""Saves that go on while the program does: one at a time, in a thread, with their errors kept."""

import logging
import threading
from collections.abc import Callable

_log = logging.getLogger("fx.ckpt")


class Background:
    """Runs tasks one after the other in a thread of its own.

    The thread is no daemon: a program that ends waits for it.

    >>> done = []
    >>> background = Background()
    >>> background.start(lambda: done.append(1))
    >>> background.wait()
    >>> done
    [1]
    """

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    @property
    def busy(self) -> bool:
        """Whether a task is running."""
        return self._thread is not None and self._thread.is_alive()

    def start(self, task: Callable[[], object]) -> None:
        """Run a task, after the one that is running; an error of that is raised instead."""
        self.wait()
        self._thread = threading.Thread(target=self._run, args=(task,), name="fx-ckpt-save")
        self._thread.start()

    def wait(self) -> None:
        """Return when nothing is running; raise the error of what ran, once."""
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()
            self._thread = None
        error, self._error = self._error, None
        if error is not None:
            raise error

    def _run(self, task: Callable[[], object]) -> None:
        try:
            task()
        except BaseException as error:
            # Said at once, too: the program may never ask again.
            _log.error("A save in the background failed: %s: %s", type(error).__name__, error)
            self._error = error
