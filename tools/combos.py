"""Which packages are tested together: the combos of the workspace, and those that somebody adds.

python tools/combos.py               # all combos, with what each installs
FX_COMBOS=mine.toml nox -s combos    # those of another file as well; of pyproject.toml the table tool.fx.combos
nox -s "combos(linen)"               # one of them
nox -s combos -- --with ../acme-fx-plugin    # each with the wheel of an outside plugin beside it
"""

import argparse
import difflib
import os
import re
import sys
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import workspace

HERE = workspace.ROOT / "tests-integration" / "combos"
KEYS = ("packages", "extras", "requires", "tests", "paths")
OUR_PLUGINS = {f"fx-{name}-plugin" for name in ("demo", "moe", "sqlite")}


def load(files: Sequence[Path] | None = None) -> dict[str, dict[str, Any]]:
    """Returns the combos of the workspace and of the files in ``FX_COMBOS``, by name.

    Args:
      files: other files than those.

    Raises:
      SystemExit: a file does not say what a combo needs; all that is wrong is told at once.
    """
    if files is None:
        files = [HERE / "combos.toml", *map(Path, filter(None, os.environ.get("FX_COMBOS", "").split(os.pathsep)))]
    found: dict[str, dict[str, Any]] = {}
    mistakes: list[str] = []
    for file in files:
        try:
            content = tomllib.loads(file.read_text())
        except (OSError, tomllib.TOMLDecodeError) as error:
            mistakes.append(f"{file}: {error}")
            continue
        if file.name == "pyproject.toml":
            content = content.get("tool", {}).get("fx", {}).get("combos", {})
        for name, combo in content.items():
            more = [f"{file}: {name}: {text}" for text in faults(combo)]
            if name in found:
                more.append(f"{file}: {name}: there is a combo of that name already")
            mistakes += more
            if not more:
                found[name] = combo
    if mistakes:
        raise SystemExit("\n".join(["Combos that cannot be used:", *mistakes]))
    return found


def faults(combo: Any) -> list[str]:
    """Says everything that is wrong with a combo.

    >>> faults({"packages": ["fx-core", "fx-lynen"], "tests": ["core"], "extra": []})
    ["packages: there is no 'fx-lynen'; did you mean 'fx-linen'?", "extra: unknown key; did you mean 'extras'?"]
    """
    if not isinstance(combo, Mapping):
        return [f"is {combo!r}, not a table with {', '.join(KEYS)}"]
    known = {*workspace.packages(), *OUR_PLUGINS}
    tests = {file.stem.removeprefix("test_") for file in HERE.glob("test_*.py")}
    texts = [f"{key}: is needed" for key in ("packages", "tests") if key not in combo]
    for key, value in combo.items():
        if key not in KEYS:
            texts.append(f"{key}: unknown key{_near(key, KEYS)}")
        elif not isinstance(value, list) or not all(isinstance(one, str) for one in value):
            texts.append(f"{key}: is {value!r}, not a list of text")
        elif key == "packages":
            texts += [f"{key}: there is no {one!r}{_near(one, known)}" for one in value if one not in known]
        elif key == "tests":
            texts += [f"{key}: there is no {one!r}{_near(one, tests)}" for one in value if one not in tests]
        elif key == "extras":
            own = combo.get("packages", ())
            texts += [f"{key}: {one!r} is of no package of the combo" for one in value if one.split("[")[0] not in own]
    return texts


def needs(directory: Path) -> tuple[str, set[str]]:
    """Returns the name of a distribution, and which packages of fx it depends on."""
    project = tomllib.loads((directory / "pyproject.toml").read_text())["project"]
    names = {re.split(r"[\s\[<>=!~;]", line, maxsplit=1)[0] for line in project.get("dependencies", [])}
    return project["name"], names & workspace.packages().keys()


def outside(arguments: Sequence[str]) -> list[Path]:
    """Returns the directories of outside plugins among the arguments after ``--``.

    Raises:
      SystemExit: an argument is unknown, or a directory holds no pyproject.toml.
    """
    parser = argparse.ArgumentParser(prog="nox -s combos --")
    parser.add_argument("--with", dest="plugins", type=Path, action="append", default=[], metavar="DIRECTORY")
    plugins = parser.parse_args(arguments).plugins
    for directory in plugins:
        if not (directory / "pyproject.toml").is_file():
            parser.error(f"{directory} holds no pyproject.toml: give the directory of a distribution")
    return plugins


def _near(name: str, names: Any) -> str:
    near = difflib.get_close_matches(name, names, n=1)
    return f"; did you mean {near[0]!r}?" if near else f"; there is {', '.join(sorted(names))}"


def main() -> None:
    """Print the combos."""
    for name, combo in load().items():
        print(f"{name:20} {' '.join([*combo['packages'], *combo.get('extras', [])])}")


if __name__ == "__main__":
    sys.exit(main())
