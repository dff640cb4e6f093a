"""Batches for a run: from arrays in memory, and ahead of time from anything that iterates.

A run needs nothing of this: every iterable of batches works. `grain` iterators do too, with their positions in
checkpoints (``fx_train.Checkpoints(..., iterators={"data": data})``); the extra ``fx-train[grain]`` installs it.
"""

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Self

import jax
import numpy as np
from fx_core.errors import ArgumentTypeError

from fx_train.errors import BatchError, batch_mismatch, indivisible_batch
from fx_train.prefetch_iterator import PrefetchIterator

__all__ = ["Batches", "Prefetch"]


class Batches:
    """Shuffled batches of arrays that fit into memory, for ever, as a function of the step they begin with.

    The order of an epoch depends on its number and the seed only, so a resumed run sees the batches that the
    uninterrupted one would have seen. What is left of an epoch after its last whole batch is left out of it.

    >>> batches = Batches({"x": np.arange(6), "y": np.arange(6) * 2}, 2, seed=1)
    >>> first = [batch for batch, _ in zip(batches(0), range(5))]
    >>> again = next(batches(4))
    >>> again["x"].tolist() == first[4]["x"].tolist(), (again["y"] - again["x"] * 2).tolist()
    (True, [0, 0])

    Args:
      arrays: a tree of arrays with one leading axis.
      size: examples of a batch, over all processes.
      seed: what the order depends on; None keeps the order of the arrays.
      process: index and number of the parts of every batch of which each process gets one, as
        `fx_train.distributed.batch_part` knows them. See `fx_train.distributed.global_batch`.

    Raises:
      BatchError: the arrays have different numbers of examples.
      BatchError: there are fewer examples than a batch has.
      BatchError: a batch cannot be split between the processes.
      BatchError: there is no part of that index.
    """

    def __init__(self, arrays: Any, size: int, *, seed: int | None = 0, process: tuple[int, int] = (0, 1)):
        lengths = [np.shape(leaf) for leaf in jax.tree.leaves(arrays)]
        if len({shape[:1] for shape in lengths}) != 1 or lengths[0] == ():
            raise batch_mismatch(lengths)
        self.arrays, self.size, self.seed = arrays, size, seed
        self.examples = lengths[0][0]
        if not isinstance(size, int | np.integer) or size < 1 or self.examples < size:
            raise BatchError(
                f"{self.examples} examples make no batch of {size}.",
                expected="a batch of 1 or more examples, and at least as many examples",
                got=f"{self.examples} examples and a batch of {size}",
                fix="Choose a smaller batch, or see why there are so few examples.",
            )
        index, count = process
        if not 0 <= index < count:
            raise BatchError(
                "There is no such part of a batch.",
                expected=f"process=(index, count) with an index from 0 to {count - 1}"
                if count > 0
                else "at least one part",
                got=f"({index}, {count})",
                fix="Use fx_train.distributed.batch_part(mesh).",
            )
        if size % count:
            raise indivisible_batch((size,), count, "processes")
        self._part = slice(size // count * index, size // count * (index + 1))

    @property
    def per_epoch(self) -> int:
        """Batches of an epoch."""
        return self.examples // self.size

    def __call__(self, step: int = 0) -> Iterator[Any]:
        """Returns the batches from a step on."""
        epoch, order = -1, np.arange(self.examples)
        while True:
            if step // self.per_epoch != epoch:
                epoch = step // self.per_epoch
                if self.seed is not None:
                    order = np.random.default_rng([self.seed, epoch]).permutation(self.examples)
            start = step % self.per_epoch * self.size
            chosen = order[start : start + self.size][self._part]
            yield jax.tree.map(lambda x, chosen=chosen: x[chosen], self.arrays)
            step += 1


class Prefetch(Iterator[Any]):
    """Makes batches in a thread, a few ahead, and puts them on the devices.

    >>> with Prefetch(iter([np.zeros(2)] * 3), 2, place=jax.devices()[0]) as ahead:
    ...     [type(batch).__name__ for batch in ahead]
    ['ArrayImpl', 'ArrayImpl', 'ArrayImpl']

    If the iterator knows its position (``get_state``, ``set_state``), so does this one: it is the position behind the
    batch that was handed out last, however far the thread is ahead. So it can be saved in checkpoints.

    Args:
      data: what to iterate over; in the thread only.
      size: how many batches may wait.
      place: where to put them: a device, a sharding (or a tree of them) for `jax.device_put`, or a function of the
        batch, such as `fx_train.distributed.global_batch`; None leaves them as they are.

    Raises:
      ArgumentError: ``size`` is not positive.
    """

    def __init__(self, data: Iterable[Any], size: int = 2, *, place: Any = None):
        self._data = iter(data)
        self._size, self._place = size, place
        self._knows = hasattr(self._data, "get_state") and hasattr(self._data, "set_state")
        self._start()

    def _start(self) -> None:
        self._position = copy.deepcopy(self._data.get_state()) if self._knows else None  # pyright: ignore[reportAttributeAccessIssue]
        self._ahead = PrefetchIterator(_placed_with_positions(self._data, self._place, self._knows), self._size)

    def __next__(self) -> Any:
        batch, self._position = next(self._ahead)
        return batch

    def get_state(self) -> Any:
        """Returns the position behind the batch that was handed out last.

        Raises:
          ArgumentTypeError: the iterator does not know its position.
        """
        if not self._knows:
            raise _no_position(type(self._data).__name__)
        return self._position

    def set_state(self, state: Any) -> None:
        """Go to a position; batches that wait are dropped.

        Raises:
          ArgumentTypeError: the iterator does not know its position.
        """
        if not self._knows:
            raise _no_position(type(self._data).__name__)
        self._ahead.close()
        self._data.set_state(copy.deepcopy(state))  # pyright: ignore[reportAttributeAccessIssue]
        self._start()

    def close(self) -> None:
        """Ends the thread."""
        self._ahead.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def _placed_with_positions(data: Iterator[Any], place: Any, knows: bool) -> Iterator[tuple[Any, Any]]:
    # No method: the thread that runs it would hold the `Prefetch` that it belongs to.
    for batch in data:
        # A copy: it may be what the iterator goes on with.
        position = copy.deepcopy(data.get_state()) if knows else None  # pyright: ignore[reportAttributeAccessIssue]
        yield _placed(batch, place), position


def _placed(batch: Any, place: Any) -> Any:
    if place is None:
        return batch
    if isinstance(place, Callable) and not isinstance(place, Mapping):
        return place(batch)
    return jax.device_put(batch, place)


def _no_position(kind: str) -> ArgumentTypeError:
    return ArgumentTypeError(
        f"The position of a {kind} cannot be saved.",
        expected="an iterator with get_state and set_state, such as those of grain",
        got=kind,
        fix="Use such an iterator, or give run.steps a function of the first step.",
    )
