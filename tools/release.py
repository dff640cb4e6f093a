"""Release one package: collect its changelog, commit, tag. Pushing the tag makes CI publish it.

nox -s release -- fx-core            # what would happen
nox -s release -- fx-core --yes      # do it
"""

import argparse
import re
import subprocess
import sys

import workspace


def version_of(package: workspace.Package) -> str:
    """The version in the package's `_version.py`."""
    text = (package.path / "src" / package.module / "_version.py").read_text()
    found = re.search(r'__version__ = "([^"]+)"', text)
    assert found, f"no __version__ in {package.module}/_version.py"
    return found[1]


def misfits(package: workspace.Package, version: str) -> list[str]:
    """Packages of the workspace whose range excludes the version that is about to be released."""
    from packaging.requirements import Requirement

    problems = []
    for other in workspace.packages().values():
        for line in other.requirements:
            requirement = Requirement(line)
            if requirement.name == package.name and version not in requirement.specifier:
                problems.append(f"{other.name} needs {line}")
    return problems


def main() -> int:
    """Release, or say what would be done."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("package", choices=list(workspace.packages()))
    parser.add_argument("--yes", action="store_true", help="do it instead of showing it")
    arguments = parser.parse_args()
    package = workspace.packages()[arguments.package]
    version = version_of(package)
    tag = f"{package.name}-v{version}"
    if problems := misfits(package, version):
        print(
            f"{tag} does not fit: " + "; ".join(problems) + ". Change the ranges in the same commit.", file=sys.stderr
        )
        return 1
    draft = [] if arguments.yes else ["--draft"]
    command = [sys.executable, "-m", "towncrier", "build", "--yes", "--version", version, *draft]
    subprocess.run([*command, "--config", "pyproject.toml"], cwd=package.path, check=True)
    if arguments.yes:
        subprocess.run(["git", "commit", "-am", f"Release {package.name} {version}"], cwd=workspace.ROOT, check=True)
        subprocess.run(["git", "tag", tag], cwd=workspace.ROOT, check=True)
        print(f"tagged {tag}; push it to publish")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
