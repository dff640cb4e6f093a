"""Hostile checkpoints opened under watch, in a process of their own.

``python -m fx_ckpt.testing.watched BACKEND DIRECTORY`` opens each of `fx_ckpt.testing.hostile.cases` with an audit hook
that sees every import, file, process and connection of Python, a watch of the kernel on a directory outside (which also
sees what C++ code opens), and a limit of memory; it prints the outcomes as JSON.
"""

import contextlib
import ctypes
import ctypes.util
import json
import os
import struct
import sys
import warnings
from pathlib import Path
from typing import Any

from fx_core.errors import FxError

from fx_ckpt.operations import inspect, restore, verify
from fx_ckpt.testing.hostile import BAIT, cases

_SPARE_MEMORY = 2**30
_FORBIDDEN = (
    "exec",
    "compile",
    "pickle.",
    "marshal.",
    "subprocess.",
    "os.system",
    "os.exec",
    "os.spawn",
    "os.posix_spawn",
)
_FORBIDDEN += (
    "os.fork",
    "socket.connect",
    "socket.bind",
    "socket.getaddrinfo",
    "ctypes.dlopen",
    "shutil.",
    "os.remove",
    "os.rename",
    "os.mkdir",
    "os.link",
)
_FORBIDDEN += ("os.symlink", "os.truncate", "os.chmod", "urllib.", "webbrowser.", "code.__new__", "sys.setprofile")
_IN_OPEN, _IN_ACCESS, _IN_MODIFY, _IN_NONBLOCK = 0x20, 0x1, 0x2, 0o4000


class Watch:
    """Collects what a process does while ``on``."""

    def __init__(self) -> None:
        self.on = False
        self.inside = ""
        self.seen: list[str] = []
        sys.addaudithook(self._hear)

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.on:
            return
        if event == "open" or event.startswith(("os.listdir", "os.scandir")):
            if isinstance(arguments[0], (str, bytes)) and not self._is_inside(os.fsdecode(arguments[0])):
                self.seen.append(f"{event} {arguments[0]!r}")
        elif event == "import" or event.startswith(_FORBIDDEN):
            self.seen.append(f"{event} {arguments!r}"[:200])

    def _is_inside(self, path: str) -> bool:
        # Looked at with the links in it resolved, as the kernel would.
        self.on = False
        real = os.path.realpath(path)
        self.on = True
        return real == self.inside or real.startswith(self.inside + os.sep)


class KernelWatch:
    """Sees whether any code, C++ included, opens something in a directory; only on Linux."""

    def __init__(self, directory: Path):
        self._handle = -1
        if sys.platform == "linux":
            libc = ctypes.CDLL(ctypes.util.find_library("c"), use_errno=True)
            self._handle = libc.inotify_init1(_IN_NONBLOCK)
            mask = _IN_OPEN | _IN_ACCESS | _IN_MODIFY
            libc.inotify_add_watch(self._handle, os.fsencode(directory), mask)

    def events(self) -> list[str]:
        """Returns what was touched."""
        found: list[str] = []
        with contextlib.suppress(BlockingIOError):
            data = os.read(self._handle, 65536) if self._handle >= 0 else b""
            while data:
                _, mask, _, length = struct.unpack("iIII", data[:16])
                found.append(f"kernel: {data[16 : 16 + length].rstrip(bytes(1)).decode()} {mask:#x}")
                data = data[16 + length :]
        return found

    def close(self) -> None:
        """Ends the watch."""
        if self._handle >= 0:
            os.close(self._handle)


def main(backend: str, work: Path) -> dict[str, dict[str, Any]]:
    """Opens every hostile checkpoint; gives the outcome of each."""
    warnings.simplefilter("ignore")
    (work / f"{BAIT}.py").write_text(f"open({str(work / 'imported')!r}, 'w').close()\n")
    sys.path.insert(0, str(work))
    made = [(name, *_made(build, work / f"case-{index}")) for index, (name, build) in enumerate(cases(backend))]
    for _, path, _ in made:
        # What fx itself imports late is imported now; the bait would show that it was imported even so.
        for act in (inspect, verify, restore):
            with contextlib.suppress(Exception):
                act(path)
    _limit_memory()
    watch = Watch()
    outcomes = {name: _opened(path, outside, watch) for name, path, outside in made}
    outcomes["the bait"] = {"restore": "imported" if (work / "imported").exists() else "refused", "seen": []}
    return outcomes


def _made(build: Any, root: Path) -> tuple[Path, Path]:
    outside, path = root / "outside", root / "inside" / "checkpoint"
    outside.mkdir(parents=True)
    path.parent.mkdir()
    (outside / "secret").write_bytes(b"secret" * 20)
    build(path, outside)
    return path, outside


def _opened(path: Path, outside: Path, watch: Watch) -> dict[str, Any]:
    kernel = KernelWatch(outside)
    watch.inside, watch.seen = os.path.realpath(path.parent), []
    outcome: dict[str, Any] = {}
    for act in (verify, restore):
        watch.on = True
        try:
            act(path)
            outcome[act.__name__] = "read"
        except FxError:
            outcome[act.__name__] = "refused"
        except BaseException as error:
            outcome[act.__name__] = f"{type(error).__name__}: {error}"[:200]
        finally:
            watch.on = False
    outcome["seen"] = watch.seen + kernel.events()
    kernel.close()
    return outcome


def _limit_memory() -> None:
    try:
        import resource
    except ImportError:  # Windows
        return
    pages = int(Path("/proc/self/statm").read_text().split()[0]) if Path("/proc/self/statm").exists() else 2**22
    most = pages * resource.getpagesize() + _SPARE_MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], Path(sys.argv[2]))))
