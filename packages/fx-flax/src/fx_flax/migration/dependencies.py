"""Files that name the packages a project needs."""

import configparser
import contextlib
import importlib.metadata
import re
import tomllib
from collections.abc import Collection, Iterable, Iterator
from typing import Any

from fx_flax.errors import UnreadableSourceError
from fx_flax.migration.source import Finding, Migrated

__all__ = ["is_dependency_file", "migrate_dependencies"]

_LINE = re.compile(
    r"""(?P<indent>[ \t]*)flax[ \t]*(?:\[[^\]]*\])?[ \t]*(?P<versions>\(?[<>=!~][^;#\n"']*?\)?)?[ \t]*"""
    r"""(?P<marker>;[^#\n]*?)?(?P<comment>[ \t]*\#[^\n]*)?(?P<end>\r?\n|$)""",
    re.IGNORECASE,
)
_QUOTED = re.compile(
    r"""(?P<quote>["'])flax[ \t]*(?:\[[^\]"']*\])?[ \t]*(?:[<>=!~(][^;"']*)?"""
    r"""(?P<marker>;(?:(?!(?P=quote))[^\n])*)?(?P=quote)""",
    re.IGNORECASE,
)
_POETRY = re.compile(r"""^(?P<indent>[ \t]*)flax[ \t]*=[ \t]*["'][^"'\n]*["'](?P<comment>[^\n]*)$""", re.MULTILINE)
_POETRY_TABLE = re.compile(r"\[tool\.poetry\.(group\.[\w-]+\.|dev-)?dependencies\]")
_ALONE = re.compile(r"(?<![\w./-])flax(?![\w/-])", re.IGNORECASE)


def is_dependency_file(name: str) -> bool:
    """Returns whether a file of this name is one that is understood.

    >>> is_dependency_file("requirements-dev.txt"), is_dependency_file("setup.cfg"), is_dependency_file("notes.txt")
    (True, True, False)
    """
    plain = re.fullmatch(r".*(requirements|constraints).*\.(txt|in)", name) is not None
    return plain or name in ("pyproject.toml", "setup.cfg")


def migrate_dependencies(name: str, text: bytes, packages: Collection[str]) -> Migrated:
    """Returns a file of dependencies that names packages of fx where it named Flax.

    Args:
      name: of the file, which determines its format.
      text: its content.
      packages: modules of fx, such as ``fx_nnx``, that the programs need; fx_linen and fx_nnx if there are none.

    Raises:
      UnreadableSourceError: it is not of the format that its name says, or not in UTF-8.
    """
    try:
        content = text.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UnreadableSourceError(str(error)) from error
    lines = [_requirement(package) for package in sorted(packages or {"fx_linen", "fx_nnx"})]
    if name == "pyproject.toml":
        changed = _of_pyproject(content, lines)
    elif name == "setup.cfg":
        changed = _of_setup_cfg(content, lines)
    else:
        changed = _of_lines(content, lines)
    return Migrated(changed.encode(), tuple(_left(changed, name not in ("pyproject.toml", "setup.cfg"))))


def _requirement(package: str) -> str:
    """What to ask for: the versions that this package works with."""
    wanted = package.replace("_", "-")
    if wanted == "fx-flax":
        major, minor = map(int, re.findall(r"\d+", importlib.metadata.version(wanted))[:2])
        return f"{wanted}>={major}.{minor},<" + (f"{major + 1}" if major else f"0.{minor + 1}")
    for line in importlib.metadata.requires("fx-flax") or []:
        found = re.match(rf"{wanted}\s*(?:\[[^\]]*\])?\s*\(?([<>=!~][^;)]*)", line)
        if found:
            return wanted + ",".join(sorted(found[1].strip().split(","), key=lambda version: version[0] == "<"))
    return wanted


def _of_lines(content: str, wanted: Iterable[str]) -> str:
    def one(line: str) -> str:
        found = _LINE.fullmatch(line)
        if found is None:
            return line
        marker = (found["marker"] or "").rstrip()
        marker = f" {marker}" if marker else ""
        first, *others = (f"{found['indent']}{requirement}{marker}" for requirement in wanted)
        end = found["end"] or ("\r\n" if content.partition("\n")[0].endswith("\r") else "\n")
        return end.join([first + (f"  {found['comment'].strip()}" if found["comment"] else ""), *others]) + found["end"]

    return "".join(map(one, content.splitlines(keepends=True)))


def _of_setup_cfg(content: str, wanted: list[str]) -> str:
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read_string(content)
    except configparser.Error as error:
        raise UnreadableSourceError(str(error).splitlines()[0]) from error
    sections = re.split(r"(?m)^(?=\[)", content)
    known = ("[options]", "[options.extras_require]")
    return "".join(_of_lines(part, wanted) if part.startswith(known) else part for part in sections)


def _of_pyproject(content: str, wanted: list[str]) -> str:
    rest = _besides_dependencies(content)
    position = 0
    while found := _QUOTED.search(content, position):
        before = content[content.rfind("\n", 0, found.start()) + 1 : found.start()]
        marker, quote = found["marker"] or "", found["quote"]
        between = ", " if before.strip() else f",\n{before}"
        new = between.join(f"{quote}{line}{marker and ' ' + marker}{quote}" for line in wanted)
        position = found.end()
        changed = f"{content[: found.start()]}{new}{content[found.end() :]}"
        # The same text may be a keyword or a name: those must stay.
        with contextlib.suppress(UnreadableSourceError):
            if _besides_dependencies(changed) == rest:
                content, position = changed, found.start() + len(new)
    sections = re.split(r"(?m)^(?=\[)", content)
    return "".join(_of_poetry(part, wanted) if _POETRY_TABLE.match(part) else part for part in sections)


def _of_poetry(section: str, wanted: Iterable[str]) -> str:
    def lines(found: re.Match[str]) -> str:
        split = [re.match(r"([\w-]+)(.*)", line) for line in wanted]
        new = [f'{found["indent"]}{part[1]} = "{part[2] or "*"}"' for part in split if part is not None]
        new[0] += found["comment"]
        return "\n".join(new)

    return _POETRY.sub(lines, section)


def _besides_dependencies(content: str) -> Any:
    """What a project file says of other things than dependencies."""

    def rest(value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        kept = {key: item for key, item in value.items() if not key.endswith(("dependencies", "dependency-groups"))}
        return {key: rest(item) for key, item in kept.items()}

    try:
        return rest(tomllib.loads(content))
    except tomllib.TOMLDecodeError as error:
        raise UnreadableSourceError(str(error)) from error


def _left(content: str, sure: bool) -> Iterator[Finding]:
    """The lines that name Flax still."""
    for number, line in enumerate(content.splitlines(), 1):
        if _ALONE.search(line.partition("#")[0] if "egg=" not in line else line):
            why = "names Flax in a form that is not understood" if sure else "names Flax, perhaps not as a dependency"
            yield Finding(number, line.strip(), why, "left" if sure else "note")
