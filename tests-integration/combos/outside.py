"""An outside plugin in an environment of some packages of fx: as it is, absent, broken, and with other API versions.

python tests-integration/combos/outside.py NAME    # exit code 1, and what is wrong, if anything is
"""

import dataclasses
import sys
import warnings
from collections.abc import Iterator

from fx_core.errors import FxError
from fx_core.errors.plugins import PluginError
from fx_core.plugins import API_VERSION, PluginSource, Registry, Switches, checks
from fx_core.plugins.doctor import examine
from fx_core.plugins.sources import installed_sources
from fx_core.plugins.switches import normalize

Sources = list[PluginSource]


def main(name: str) -> int:
    """Print a line per state and return how many are not as they should be."""
    every = installed_sources()
    mine = [one for one in every if normalize(one.origin.owner) == normalize(name)]
    others = [one for one in every if one not in mine]
    if not mine:
        print(f"{name} has no entry point in the group 'fx'.")
        return 1
    wrong = 0
    for state, texts in (
        ("installed", installed(mine, others)),
        ("absent", absent(mine, others)),
        ("broken", broken(mine, others)),
        ("API versions", versions(mine, others)),
    ):
        found = list(texts)
        wrong += bool(found)
        print(f"{name}, {state}: {'; '.join(found) or 'as it should be'}")
    return wrong


def entries(sources: Sources) -> set[tuple[str, str]]:
    """Kind and name of everything that some plugins register."""
    found = Registry(sources, Switches())
    return {(entry.label, entry.name) for status in found.plugins for entry in status.entries}


def installed(mine: Sources, others: Sources) -> Iterator[str]:
    """It loads, all of its entries can be used, and it is in nobody's way."""
    found = Registry([*others, *mine], Switches())
    yield from (str(problem) for problem in found.problems)
    yield from map(str, found.clashes())
    yield from (str(finding) for finding in examine(Registry(mine, Switches())) if finding.level == "problem")


def absent(mine: Sources, others: Sources) -> Iterator[str]:
    """Without it its names are unknown, and an error says so."""
    found = Registry(others, Switches())
    for table in found.tables():
        for label, name in entries(mine):
            if label == table.label and name in table:
                yield f"{label} {name!r} is registered by {table[name].origin} as well"
    yield from (str(problem) for problem in found.problems)


def broken(mine: Sources, others: Sources) -> Iterator[str]:
    """Where it fails to import, everything of the others is there, and one problem each says which it is."""

    def fail() -> object:
        raise RuntimeError("broken on purpose")

    found = Registry([*others, *(dataclasses.replace(one, load=fail) for one in mine)], Switches())
    if len(found.problems) != len(mine) or not all("broken on purpose" in str(one) for one in found.problems):
        yield f"problems are {list(map(str, found.problems))}"
    there = {(entry.label, entry.name) for status in found.plugins for entry in status.entries}
    if there != entries(others):
        yield f"entries of others are missing: {sorted(entries(others) - there)}"


def versions(mine: Sources, others: Sources) -> Iterator[str]:
    """It loads with the oldest API that it declares and with the newest, and is refused by an older one."""
    for source in mine:
        plugin = source.load()
        declared = getattr(plugin, "fx_api_version", None)
        if declared is None:
            yield f"{source.origin.plugin} declares no fx_api_version"
            continue
        major, minor = map(int, declared.split("."))
        for version in ((major, minor), API_VERSION, (major, minor - 1), (major + 1, 0)):
            old, checks.API_VERSION = checks.API_VERSION, version
            try:
                checks.check_version(plugin, source.origin)
            except PluginError:
                refused = True
            else:
                refused = False
            finally:
                checks.API_VERSION = old
            if refused != (version[0] != major or version[1] < minor):
                yield f"with API {version} it is {'refused' if refused else 'taken'}"


if __name__ == "__main__":
    warnings.simplefilter("error")
    try:
        sys.exit(main(sys.argv[1]))
    except FxError as error:
        sys.exit(str(error))
