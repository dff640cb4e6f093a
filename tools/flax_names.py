"""The page of the docs that says where each name of Flax is in fx, written from the table of fx-flax.

python tools/flax_names.py --write    # after a change of the table: write docs/flax_names.md
python tools/flax_names.py --check    # fail when the page is out of date
"""

import argparse
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

from fx_flax.table import API_VERSION, FlaxModuleNames, flax_modules, module_names

PAGE = Path(__file__).resolve().parent.parent / "docs" / "flax_names.md"
HEAD = """# Where Flax's names are

Each public name of Flax {version} and where fx has the same: {mapped} of {total} names, counted in every module that
shows them. [Programs and libraries run unchanged](flax.md) by this table; to move a program by hand, import from the
place that is named here.

<!-- Written by tools/flax_names.py from the tables of fx-flax. -->
"""


def page() -> str:
    """The text of the page."""
    modules = [known for known in map(module_names, flax_modules()) if known is not None]
    mapped = sum(len(known.places) for known in modules if not known.like)
    total = mapped + sum(len(known.absent) for known in modules if not known.like)
    parts = ["\n".join(section(known)) for known in modules if known.places or known.absent]
    return "\n".join([HEAD.format(version=API_VERSION, mapped=mapped, total=total), *parts])


def section(known: FlaxModuleNames) -> Iterator[str]:
    """The lines about one module."""
    yield f"## {known.module}\n"
    if known.like:
        yield f"Another name of `{known.like}`.\n"
        return
    same: dict[str, list[str]] = defaultdict(list)
    for name, place in known.places.items():
        module, _, attribute = place.partition(":")
        same[module].append(name if name == attribute else f"{name} (as {attribute})")
    yield from (f"- `{module}`: {listed(names, known)}" for module, names in same.items())
    yield from (f"- not in fx, {why}: {listed(names, known)}" for why, names in grouped(known.absent).items())
    yield ""


def grouped(reasons: Mapping[str, str]) -> dict[str, list[str]]:
    """Names by their reason."""
    found: dict[str, list[str]] = defaultdict(list)
    for name, why in reasons.items():
        found[why].append(name)
    return found


def listed(names: list[str], known: FlaxModuleNames) -> str:
    """Names, with a note about those that not every version has."""
    notes = {
        **dict.fromkeys(known.newer, f" (new in {API_VERSION})"),
        **dict.fromkeys(known.older, " (older versions)"),
    }
    return ", ".join(f"`{name}`{notes.get(name, '')}" for name in names)


def main() -> int:
    """Write or check the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args()
    if arguments.write:
        PAGE.write_text(page())
    if arguments.check and PAGE.read_text() != page():
        print(f"{PAGE.name} is out of date (python tools/flax_names.py --write)", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
