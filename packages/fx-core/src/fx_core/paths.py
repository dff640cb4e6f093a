"""Paths as people write them: with a home directory, or with the scheme of another place."""

import os
import re
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from fx_core.errors.kinds import ArgumentError, ArgumentTypeError

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)(:/.*|::.*)", re.DOTALL)
_ROOM = len(".") + len(".fx-new-") + 8
_LONGEST = 255 - _ROOM
"""Bytes of a name that leave room for the hidden names beside it."""


def local_path(path: str | os.PathLike[str]) -> Path:
    """Returns the absolute path of something on this machine: ``~`` is the home directory, ``file://`` is taken off.

    Args:
      path: a path, or a URL of this machine.

    Raises:
      ArgumentError: it is the URL of another place, which would become a directory called ``gs:`` here; or its name is
        one that the file system cannot have, with the hidden name beside it that writing needs.
      ArgumentTypeError: it is neither a text nor a path.

    Example:
      >>> local_path("~/run") == Path.home() / "run"
      True
      >>> local_path("file:///tmp/run")
      PosixPath('/tmp/run')
    """
    text = _text(path)
    found = _SCHEME.fullmatch(text)
    if found is not None and found[1].lower() == "file" and found[2].startswith(":/"):
        text = _of_url(text, found[2][1:])
    elif found is not None:
        # `Path` has made one slash of two.
        url = re.sub(r":/+", "://", text, count=1)
        raise ArgumentError(
            f"{found[1]!r} paths are not on this machine, and this cannot open them.",
            path=url,
            fix="Write to a local or mounted directory, and copy it: a finished one may be copied file by file, "
            f"manifest last. A directory here that has such a name is {'./' + text!r}.",
        )
    # Before `Path`, to which "./~" is the same as "~".
    expanded = os.path.expanduser(text)
    if text.startswith("~") and expanded == text:
        raise ArgumentError(
            "The home directory is not known.", path=text, fix="Write the path in full, or './~…' for such a name."
        )
    local = Path(expanded).absolute()
    return _possible(Path(os.path.realpath(local)) if local.name in ("", "..") else local)


def _text(path: Any) -> str:
    text = os.fspath(path) if isinstance(path, str | os.PathLike) else None
    if not isinstance(text, str):
        raise ArgumentTypeError(
            "A path is a text or a path object.", got=repr(path)[:200], fix='Write "runs/first" or Path("runs/first").'
        )
    return text


def _of_url(url: str, rest: str) -> str:
    host = rest[2:].partition("/")[0] if rest.startswith("//") else ""
    if host not in ("", "localhost"):
        raise ArgumentError(
            f"This is a path on {host!r}, which is not this machine.", path=url, fix="Mount it, or copy from there."
        )
    return "/" + unquote(rest.removeprefix("//").removeprefix(host).lstrip("/"))


def _possible(path: Path) -> Path:
    try:
        size = len(os.fsencode(path.name))
    except UnicodeEncodeError:
        raise ArgumentError(
            "This is no name of a file: it has half of a character.", path=ascii(str(path)), fix="Use another name."
        ) from None
    if "\0" in str(path):
        raise ArgumentError(
            "This is no name of a file: it has a zero byte.", path=repr(str(path)), fix="Use another name."
        )
    if size > _LONGEST:
        raise ArgumentError(
            "The last part of the path is too long.",
            path=str(path),
            expected=f"≤ {_LONGEST} bytes",
            got=f"{size} bytes",
            fix="Use another name.",
        )
    return path
