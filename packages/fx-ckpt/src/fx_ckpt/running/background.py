"""Saves that go on while the program does: one at a time, in a thread, with their errors kept."""

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

_log = logging.getLogger("fx.ckpt")


class Background:
    """Runs tasks one after the other in a thread of its own; several threads may start them and wait.

    The thread is no daemon: a program that ends waits for it.

    >>> done = []
    >>> background = Background()
    >>> background.start(lambda: done.append(1))
    >>> background.wait()
    >>> done
    [1]
    """

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    def __reduce__(self) -> tuple[type["Background"], tuple[()]]:
        self.wait()  # a copy, such as that in another process, has nothing to wait for
        return Background, ()

    @property
    def busy(self) -> bool:
        """Whether a task is running."""
        return self._thread is not None and self._thread.is_alive()

    def start(self, task: Callable[[], object]) -> None:
        """Runs a task, after the one that is running; an error of that is raised instead."""
        with self._turn:
            self._join()
            self._thread = threading.Thread(target=self._run, args=(task,), name="fx-ckpt-save")
            self._thread.start()

    def wait(self) -> None:
        """Returns when nothing is running; raise the error of what ran, once."""
        if self._thread is threading.current_thread():  # a task, for which others may wait
            return
        with self._turn:
            self._join()

    def _join(self) -> None:
        if self._thread is not None:
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


class AsyncManager:
    """Runs the writing of `fx_ckpt.checkpoints.save_checkpoint` in a thread.

    Attributes:
      save_future: the save that runs, or ran last; its ``result`` raises the error that it ended with.

    Args:
      max_workers: how many threads there are.

    Example:
      >>> manager = AsyncManager()
      >>> manager.save_async(lambda: 3)
      >>> manager.save_future.result()
      3
    """

    save_future: Future[Any] | None

    def __init__(self, max_workers: int = 1):
        self._pool = ThreadPoolExecutor(max_workers, thread_name_prefix="fx-ckpt-save")
        self.save_future = None

    def wait_previous_save(self) -> None:
        """Returns when no save is running.

        Raises:
          Exception: what the last save raised.
        """
        if self.save_future is not None:
            self.save_future.result()

    def save_async(self, task: Callable[[], Any]) -> None:
        """Runs a task, after the one that is running.

        Raises:
          Exception: what the last save raised; this one is then not begun.
        """
        self.wait_previous_save()
        self.save_future = self._pool.submit(task)
