"""An iterator that works ahead in a thread."""

import queue
import threading
import weakref
from collections.abc import Iterable, Iterator
from typing import Any, Generic, Self, TypeVar

from fx_train.errors import invalid_buffer_size

__all__ = ["PrefetchIterator"]

T = TypeVar("T")


class PrefetchIterator(Iterator[T], Generic[T]):
    """Runs an iterator in a thread of its own, a few items ahead of who asks for them.

    The thread ends with the iterator, with `close`, and when this object has no reference any more.

    Loading a batch then happens beside the training step, as far as it releases the interpreter lock (reading files,
    NumPy on large arrays). An error of the iterator comes to the caller in the place of the item.

    >>> with PrefetchIterator(iter(range(3)), buffer_size=2) as ahead:
    ...     list(ahead)
    [0, 1, 2]

    Args:
      data_iter: what to run; it is used in the thread only, and closed with this iterator.
      buffer_size: how many items may wait.

    Raises:
      ArgumentError: ``buffer_size`` is not positive.
    """

    def __init__(self, data_iter: Iterable[T], buffer_size: int = 1):
        if not isinstance(buffer_size, int) or buffer_size < 1:
            raise invalid_buffer_size("PrefetchIterator", buffer_size)
        self._items = _Items(buffer_size)
        self._outcome: tuple[str, Any] | None = None
        # The thread knows the items, not this object: who drops it without `close` ends the thread, too.
        arguments = iter(data_iter), self._items
        self._thread = threading.Thread(target=_work, args=arguments, daemon=True, name="fx-prefetch")
        self._thread.start()
        weakref.finalize(self, self._items.end)

    def __next__(self) -> T:
        if self._items.ended.is_set():
            raise StopIteration
        if self._outcome is None:
            kind, value = self._items.queue.get()
            if kind == "item":
                self._items.slots.release()
                return value
            self._outcome = kind, value
        if self._outcome[0] == "error":
            raise self._outcome[1]
        raise StopIteration

    def close(self) -> None:
        """Ends the thread, and with it the iterator; what waits is dropped. Closing twice is harmless.

        It returns when the thread has ended, which may take as long as the iterator needs for the item it is making.
        """
        self._items.end()
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


class _Items:
    """What the thread and who asks have in common."""

    def __init__(self, size: int):
        # The semaphore counts the items that wait; the queue takes the end beside them, so ending never blocks.
        self.queue: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
        self.slots = threading.Semaphore(size)
        self.ended = threading.Event()

    def end(self) -> None:
        self.ended.set()
        self.slots.release()
        # From another thread's view the iterator has ended; who waits in `__next__` is told.
        self.queue.put(("end", None))


def _work(iterator: Iterator[Any], items: _Items) -> None:
    try:
        while True:
            items.slots.acquire()
            if items.ended.is_set():
                break
            items.queue.put(("item", next(iterator)))
    except StopIteration:
        items.queue.put(("end", None))
    except BaseException as error:
        items.queue.put(("error", error))
    finally:
        # A generator is closed where it ran, so that its `finally` blocks see no second thread.
        if hasattr(iterator, "close") and items.ended.is_set():
            iterator.close()  # pyright: ignore[reportAttributeAccessIssue]
