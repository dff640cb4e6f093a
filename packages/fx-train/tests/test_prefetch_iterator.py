import gc
import threading
import weakref

import pytest
from fx_train.data import Prefetch
from fx_train.errors import ArgumentError
from fx_train.prefetch_iterator import PrefetchIterator


def test_items_come_in_order_and_then_the_end_for_ever():
    ahead = PrefetchIterator(range(5), 2)
    assert list(ahead) == [0, 1, 2, 3, 4]
    assert next(ahead, "end") == "end"


def test_it_works_ahead_by_the_buffer_only():
    made, third = [], threading.Event()

    def source():
        for i in range(9):
            made.append(i)
            if i == 2:
                third.set()
            yield i

    with PrefetchIterator(source(), 2) as ahead:
        assert next(ahead) == 0
        assert third.wait(10)
        assert len(made) <= 3


def test_an_error_comes_in_its_place_and_again():
    def source():
        yield 1
        raise KeyError("boom")

    ahead = PrefetchIterator(source(), 3)
    assert next(ahead) == 1
    for _ in range(2):
        with pytest.raises(KeyError, match="boom"):
            next(ahead)


def test_close_ends_the_thread_and_the_source():
    closed = []

    def source():
        try:
            while True:
                yield 1
        finally:
            closed.append(threading.current_thread().name)

    ahead = PrefetchIterator(source())
    assert next(ahead) == 1
    ahead.close()
    ahead.close()
    assert closed == ["fx-prefetch"]
    assert next(ahead, "end") == "end"


def test_a_buffer_holds_something():
    with pytest.raises(ArgumentError, match="PrefetchIterator cannot hold 0 items"):
        PrefetchIterator([], 0)
    with pytest.raises(ArgumentError, match=r"cannot hold 1\.5 items"):
        PrefetchIterator([], 1.5)


@pytest.mark.parametrize("kind", [PrefetchIterator, Prefetch])
def test_one_that_nobody_holds_ends_its_thread_and_lets_go_of_its_data(kind):
    class Data:
        def __iter__(self):
            while True:
                yield self

    data = Data()
    known, before = weakref.ref(data), set(threading.enumerate())
    ahead = kind(data)
    next(ahead)
    (thread,) = set(threading.enumerate()) - before
    del ahead, data
    gc.collect()
    thread.join(10)
    assert not thread.is_alive()
    gc.collect()
    assert known() is None


def test_one_that_is_waited_for_stays():
    go_on = threading.Event()

    def source():
        go_on.wait(10)
        yield 1

    def first_of(ahead):
        threading.Timer(0.05, go_on.set).start()
        return next(ahead)

    assert first_of(PrefetchIterator(source())) == 1
