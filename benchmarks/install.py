"""Megabytes that fx packages bring, and how many distributions they pull, over JAX with what it needs."""

import importlib.metadata
import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path

from benchmarks.measure import Ratio, wanted

COMBOS = {
    "fx-core": ["fx-core"],
    "fx-linen": ["fx-linen"],
    "fx-nnx": ["fx-nnx"],
    "fx-linen, fx-train, fx-ckpt": ["fx-linen", "fx-train", "fx-ckpt"],
    "fx-linen, fx-nnx, fx-bridge, fx-train, fx-ckpt, fx-export, fx-compress": [
        "fx-bridge",
        "fx-train",
        "fx-ckpt",
        "fx-export",
        "fx-compress",
    ],
}
SKIPPED = (".pyc",)


def needed(names: list[str]) -> set[str]:
    """Distributions that these need, without extras, themselves included."""
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        name = re.sub("[-_.]+", "-", waiting.pop()).lower()
        try:
            distribution = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue  # for another system or another Python
        if name not in found:
            found.add(name)
            required = [r for r in distribution.requires or [] if "extra ==" not in r]
            waiting += [re.split(r"[^A-Za-z0-9._-]", r, maxsplit=1)[0] for r in required]
    return found


def bytes_of(name: str) -> int:
    """Size of the files of a distribution, or of its sources where it is installed from a directory."""
    distribution = importlib.metadata.distribution(name)
    files = [file.locate() for file in distribution.files or [] if file.suffix not in SKIPPED]
    if name.startswith("fx-"):
        spec = importlib.util.find_spec(name.replace("-", "_"))
        assert spec is not None
        assert spec.submodule_search_locations
        root = Path(spec.submodule_search_locations[0])
        files = [file for file in root.rglob("*") if file.is_file() and file.suffix not in SKIPPED]
    return sum(file.stat().st_size for file in files if file.exists())


def cases() -> Iterator[Ratio]:
    base = needed(["jax"])
    raw = sum(map(bytes_of, base))
    for title, names in {**COMBOS, "flax": ["flax"], "equinox": ["equinox"]}.items():
        found = needed(names)
        if wanted(title) and found:
            size, more = sum(map(bytes_of, found | base)), len(found - base)
            own = sum(map(bytes_of, found - base))
            note = f"{own / 1e6:.1f} MB and {more} distributions more than JAX"
            library = "fx" if title.startswith("fx") else title
            yield Ratio(title, size / 1e6, raw / 1e6, note=note, library=library, unit="MB")
