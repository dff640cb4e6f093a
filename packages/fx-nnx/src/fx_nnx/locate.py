"""Finding out where an object is, for error messages only: it asks the garbage collector, which is slow."""

import gc
import sys
from pathlib import Path
from typing import Any

from fx_nnx.paths import show_path

__all__ = ["calling_line", "path_of"]

_HERE = str(Path(__file__).parent)
_MAX_DEPTH = 64


def path_of(obj: Any) -> str | None:
    """Returns a path to an object from the outermost module that holds it, such as ``Model/encoder/kernel``."""
    path: list[Any] = []
    seen = {id(obj)}
    for _ in range(_MAX_DEPTH):
        found = _holder(obj, seen)
        if found is None:
            break
        obj, key = found
        seen.add(id(obj))
        path.append(key)
    return f"{type(obj).__name__}{show_path(path[::-1])}" if path else None


def calling_line() -> str | None:
    """Returns file, line and function of the innermost caller outside this package."""
    frame = sys._getframe(1)
    while frame is not None:
        filename = frame.f_code.co_filename
        if not filename.startswith(_HERE):
            return f"{Path(filename).name}:{frame.f_lineno} in {frame.f_code.co_name}"
        frame = frame.f_back
    return None


def _holder(obj: Any, seen: set[int]) -> tuple[Any, Any] | None:
    """Find a module that has ``obj`` among its attributes, directly or in a plain container."""
    for referrer in gc.get_referrers(obj):
        if _is_node(referrer):
            candidates = [referrer]
        elif isinstance(referrer, dict | list | tuple):
            candidates = [owner for owner in gc.get_referrers(referrer) if _is_node(owner)]
        else:
            continue
        for owner in candidates:
            if id(owner) in seen:
                continue
            for key, value in owner._nnx_items():
                if value is obj or value is referrer:
                    return owner, key
    return None


def _is_node(obj: Any) -> bool:
    return hasattr(type(obj), "_nnx_items")
