"""Where the console script ``fx`` starts: with or without click, it says something that helps."""

import importlib.util
import sys

_NEEDS = ("click", "rich")


def main() -> None:
    """Runs ``fx``; without its extra, says how to install it and exits with code 1."""
    missing = [name for name in _NEEDS if importlib.util.find_spec(name) is None]
    if missing:
        absent = " and ".join(missing)
        sys.exit(f"The command fx needs {absent}, which the extra 'cli' brings: pip install 'fx-core[cli]'")
    from fx_core.cli.app import fx

    fx(prog_name="fx")
