"""Install chosen packages of fx and those of fx that they need, with one command of pip.

    python tools/install.py fx-linen 'fx-train[progress]' 'fx-ckpt[cli]'   # from this clone
    python tools/install.py --editable fx-nnx                # from this clone, which may be edited
    python tools/install.py --wheels dist fx-nnx             # from wheels in a directory
    python tools/install.py --git https://host/fx.git fx-nnx # from a git repository
    python tools/install.py --dry-run fx-nnx                 # print the command instead

Nothing of fx is taken from an index, where its names may belong to someone else. With uv instead of pip:
`--with 'uv pip install'`.
"""

import argparse
import importlib.util
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path

import workspace

_REQUIREMENT = re.compile(r"(?P<name>[\w.-]+)\s*(\[(?P<extras>[^\]]*)\])?")


def chosen(requirements: Sequence[str]) -> dict[str, set[str]]:
    """Returns the packages to install, those that others need first, each with its extras.

    Args:
      requirements: names of packages of the workspace, with extras in brackets.

    Raises:
      SystemExit: there is no such package or extra.
    """
    extras: dict[str, set[str]] = {}
    waiting = list(requirements)
    while waiting:
        match = _REQUIREMENT.match(waiting.pop())
        assert match, "requirement lines begin with a name"
        name, wanted = match["name"], {e.strip() for e in (match["extras"] or "").split(",") if e.strip()}
        offered = _extras(name)
        if unknown := wanted - offered.keys():
            raise SystemExit(f"{name} has no extra {', '.join(unknown)}; it has: {', '.join(offered) or 'none'}")
        if name in extras and wanted <= extras[name]:
            continue
        extras[name] = extras.get(name, set()) | wanted
        below = [*workspace.packages()[name].requirements, *(line for e in wanted for line in offered[e])]
        waiting += [line for line in below if _REQUIREMENT.match(line)["name"] in workspace.packages()]
    return {name: extras[name] for name in workspace.packages() if name in extras}


def _extras(name: str) -> dict[str, list[str]]:
    known = workspace.packages()
    if name not in known:
        raise SystemExit(f"There is no package {name}; there are: {', '.join(known)}")
    project = tomllib.loads((known[name].path / "pyproject.toml").read_text())["project"]
    return project.get("optional-dependencies", {})


def arguments_of_pip(
    packages: dict[str, set[str]], *, wheels: Path | None = None, git: str | None = None, editable: bool = False
) -> list[str]:
    """Returns what follows `pip install`: where each package comes from."""
    found: list[str] = []
    for name, extras in packages.items():
        suffix = f"[{','.join(sorted(extras))}]" if extras else ""
        if git is not None:
            url = git if git.startswith("git+") else f"git+{git}"
            found.append(f"{name}{suffix} @ {url}#subdirectory=packages/{name}")
        elif wheels is not None:
            found.append(f"{name}{suffix} @ {_wheel(wheels, name).resolve().as_uri()}")
        else:
            found += [*(["-e"] if editable else []), f"{workspace.packages()[name].path}{suffix}"]
    return found


def _wheel(directory: Path, name: str) -> Path:
    found = sorted(directory.glob(f"{name.replace('-', '_')}-*.whl"))
    if len(found) != 1:
        what = "no wheel" if not found else "several wheels"
        raise SystemExit(f"There is {what} of {name} in {directory}. `nox -s wheels` builds them in .nox/built-wheels.")
    return found[0]


def main() -> int:
    """Install, or show what would be run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("packages", nargs="+", metavar="PACKAGE[EXTRA,…]")
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--wheels", type=Path, metavar="DIRECTORY", help="take wheels from a directory")
    source.add_argument("--git", metavar="URL", help="take the packages from a git repository; URL@TAG for a version")
    source.add_argument("--editable", action="store_true", help="changes of the sources take effect at once")
    parser.add_argument("--with", dest="installer", metavar="COMMAND", help="instead of python -m pip install")
    parser.add_argument("--dry-run", action="store_true", help="print the command instead of running it")
    options = parser.parse_args()
    if options.installer is None and importlib.util.find_spec("pip") is None:
        raise SystemExit("This Python has no pip; with uv: --with 'uv pip install'")
    installer = shlex.split(options.installer) if options.installer else [sys.executable, "-m", "pip", "install"]
    packages = chosen(options.packages)
    places = arguments_of_pip(packages, wheels=options.wheels, git=options.git, editable=options.editable)
    command = [*installer, *places]
    if options.dry_run:
        print(shlex.join(command))
        return 0
    return subprocess.run(command, check=False).returncode


if __name__ == "__main__":
    raise SystemExit(main())
