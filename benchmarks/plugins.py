"""Looking up an entry by name, and reading all entries, with 0 to 200 plugins registered."""

from collections.abc import Callable, Iterator

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


def cases() -> Iterator[Ratio]:
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
