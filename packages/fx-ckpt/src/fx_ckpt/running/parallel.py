"""The same work on several threads: copying, hashing and file access release Python's lock."""

import math
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np

T = TypeVar("T")

BLOCK = 4 * 2**20
"""Bytes that one thread works on at a time: they stay in its cache, and digests are made of such blocks."""

_ALIGNMENT = 64


def workers() -> int:
    """Returns how many threads to use: more than eight are not faster than memory and disks."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(8, usable))


def in_parallel(function: Callable[[T], Any], items: Sequence[T]) -> list[Any]:
    """Calls a function for each item, on several threads if there are several items; the first error is raised."""
    if len(items) < 2 or workers() < 2:
        return [function(item) for item in items]
    with ThreadPoolExecutor(min(workers(), len(items)), thread_name_prefix="fx-ckpt") as pool:
        return list(pool.map(function, items))


def aligned_empty(shape: Sequence[int], dtype: np.dtype) -> np.ndarray:
    """Returns an uninitialized array that starts at a multiple of 64 bytes, which JAX on a CPU takes over without a
    copy.
    """
    size = math.prod(shape) * dtype.itemsize
    space = np.empty(size + _ALIGNMENT, np.uint8)
    start = -space.ctypes.data % _ALIGNMENT
    return space[start : start + size].view(dtype).reshape(shape)


def as_bytes(array: np.ndarray) -> np.ndarray:
    """Returns a contiguous array's bytes, without a copy; of others a copy is made first."""
    # `reshape` and `view` lose nothing: NumPy's buffer protocol does not know the dtypes of JAX, its bytes it does.
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8)


def copied(arrays: Iterable[np.ndarray]) -> list[np.ndarray]:
    """Copies of arrays, contiguous and aligned; large ones are copied in blocks by several threads."""
    pairs = [(array, aligned_empty(array.shape, array.dtype)) for array in arrays]
    jobs: list[tuple[np.ndarray, np.ndarray]] = []
    for source, target in pairs:
        if source.nbytes < BLOCK or not source.flags.c_contiguous:
            jobs.append((source, target))
            continue
        flat_source, flat_target = as_bytes(source), as_bytes(target)
        jobs += [
            (flat_source[start : start + BLOCK], flat_target[start : start + BLOCK])
            for start in range(0, source.nbytes, BLOCK)
        ]
    if sum(source.nbytes for source, _ in jobs) < BLOCK:
        for source, target in jobs:
            np.copyto(target, source)
    else:
        in_parallel(lambda job: np.copyto(job[1], job[0]), jobs)
    return [target for _, target in pairs]
