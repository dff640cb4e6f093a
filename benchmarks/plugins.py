"""Looking up an entry by name: the first time, which finds and loads what is installed, and later."""

import importlib.metadata
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from fx_core.plugins import CollectionEntry, hookimpl
from fx_core.plugins.registry import Registry

from benchmarks.measure import Ratio, side_by_side, wanted

COUNTS = (10, 50, 200)


class Plugin:
    """A plugin with one entry."""

    def __init__(self, number: int):
        self.number = number

    @hookimpl
    def fx_collections(self):
        return [CollectionEntry(name=f"acme{self.number}.moments", target="acme:Moments", summary="Moments")]


def registry_of(count: int) -> Registry:
    """A registry with so many plugins, and one more."""
    made = Registry(sources=[])
    for number in range(count + 1):
        made.register(Plugin(number), name=f"acme{number}")
    return made


MODULE = """
from fx_core.plugins import CollectionEntry, hookimpl

@hookimpl
def fx_collections():
    return [CollectionEntry(name="acme_{n}.moments", target="acme_layers_{n}:Moments", summary="Moments")]
"""


def install(directory: Path, count: int) -> None:
    """Write so many distributions with a plugin each, as they are in site-packages."""
    for n in range(count):
        info = directory / f"acme_{n}-1.0.dist-info"
        info.mkdir()
        (directory / f"acme_{n}.py").write_text(MODULE.format(n=n))
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: acme-{n}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[fx]\nacme-{n} = acme_{n}\n")


def look_up(name: str) -> object:
    """The first look-up of a name."""
    for module in [module for module in sys.modules if module.startswith("acme_")]:
        del sys.modules[module]
    return Registry().collections[name]


def first_lookups() -> Iterator[Ratio]:
    """The first look-up, over reading the entry points alone."""
    for count in (0, *COUNTS):
        case = f"first look-up, {count} plugins installed, over reading the entry points"
        if not wanted(case):
            continue
        with tempfile.TemporaryDirectory() as directory:
            install(Path(directory), count)
            sys.path.insert(0, directory)
            try:
                ways = {
                    "fx": lambda name=f"acme_{count - 1}.moments" if count else "params": look_up(name),
                    "raw": lambda: list(importlib.metadata.entry_points(group="fx")),
                }
                yield from side_by_side(case, ways, rounds=5)
            finally:
                sys.path.remove(directory)


def cases() -> Iterator[Ratio]:
    yield from first_lookups()
    bare = registry_of(0)
    for count in COUNTS:
        full = registry_of(count)
        ways: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
            "a thousand look-ups": (
                lambda full=full: [full.collections["acme0.moments"] for _ in range(1000)],
                lambda: [bare.collections["acme0.moments"] for _ in range(1000)],
            ),
            "all entries": (lambda full=full: list(full.collections), lambda: list(bare.collections)),
        }
        for name, (ours, raw) in ways.items():
            case = f"{name}, {count} plugins"
            if wanted(case):
                yield from side_by_side(case, {"fx": ours, "raw": raw}, rounds=15)
