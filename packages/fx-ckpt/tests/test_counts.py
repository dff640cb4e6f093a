"""File-system calls of a save and a restore, counted exactly, so that they cannot grow unseen."""

import collections
import sys
from pathlib import Path
from typing import Any

import fx_ckpt
import numpy as np
import pytest

COUNTED = ("os.", "shutil.", "fcntl.")
_seen: collections.Counter[str] | None = None
_hooks: list[Any] = []  # an audit hook cannot be removed again, so there is one at most


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if _seen is not None and (event == "open" or event.startswith(COUNTED)):
        _seen[event] += 1


def file_system_calls(function: Any, *arguments: Any, **options: Any) -> int:
    global _seen
    if not _hooks:
        sys.addaudithook(_hook)
        _hooks.append(_hook)
    function(*arguments, **options)  # what is read and imported once per process
    _seen = counted = collections.Counter()
    try:
        function(*arguments, **options)
    finally:
        _seen = None
    return sum(counted.values())


@pytest.mark.parametrize("arrays", [2, 50])
@pytest.mark.parametrize("backend", ["msgpack", "safetensors"])
def test_calls_do_not_depend_on_how_many_arrays_there_are(tmp_path: Path, backend: str, arrays: int):
    tree = {f"array {i}": np.full((4, 4), i, np.float32) for i in range(arrays)}
    places = iter(tmp_path / f"{i}" for i in range(9))
    assert file_system_calls(lambda: fx_ckpt.save(next(places), tree, backend=backend)) == 21
    assert file_system_calls(fx_ckpt.restore, tmp_path / "0", tree) == 8
