"""Run programs of libraries that import Flax on Flax and on fx, and compare what they compute.

    python tests-integration/as_flax/compare.py keras qwix    # prints a table; fails where results differ

A program that fails, or runs for longer than FX_AS_FLAX_SECONDS (600), is a row of the table; the others go on.

Every program writes named arrays to the file that it is given. Both runs are in one environment, so that only Flax
differs; in the second one nothing imports Flax, which fx-flax would refuse.
"""

import os
import subprocess
import sys
import tempfile
import time
import tomllib
from importlib.metadata import version
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
SECONDS = float(os.environ.get("FX_AS_FLAX_SECONDS", 600))  # for one program, so that none holds up the others
LIBRARIES = tomllib.loads((HERE / "libraries.toml").read_text())


def timed(command: list[str], results: Path) -> tuple[dict[str, np.ndarray], float]:
    """Run a program; give its results and how long it took."""
    started = time.monotonic()
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    subprocess.run([sys.executable, *command, str(results)], check=True, env=environment, timeout=SECONDS)
    with np.load(results) as loaded:
        return dict(loaded), time.monotonic() - started


def farthest(flax: np.ndarray, fx: np.ndarray) -> float:
    """The largest difference, relative to the largest number if that is above 1; infinite if there is none to take."""
    if (flax.shape, flax.dtype) != (fx.shape, fx.dtype):
        return np.inf
    if flax.dtype.kind not in "fc":
        return 0.0 if np.array_equal(flax, fx) else np.inf
    if np.array_equal(flax, fx, equal_nan=True):
        return 0.0
    found = float(np.abs(flax - fx).max() / max(1.0, np.abs(flax).max()))
    return np.inf if np.isnan(found) else found


def compare(name: str, directory: Path) -> tuple[bool, str]:
    """Run one library's program both ways; give whether the results agree, and the row of the table."""
    wanted = LIBRARIES[name]
    program = str(HERE / "programs" / f"{wanted['program']}.py")
    try:
        flax, flax_seconds = timed([program], directory / f"{name}-flax.npz")
        fx, fx_seconds = timed(["-m", "fx_flax", program], directory / f"{name}-fx.npz")
    except subprocess.SubprocessError as error:
        on_fx = "fx_flax" in error.cmd  # pyright: ignore[reportAttributeAccessIssue]
        print(f"{name}: {error}", file=sys.stderr)
        return False, f"| {name} {version(name)} | failed on {'fx' if on_fx else 'Flax'} | | | |"
    missing = flax.keys() ^ fx.keys()
    differences = {key: farthest(flax[key], fx[key]) for key in flax.keys() & fx.keys()}
    worst = max(differences.values())
    equal = sum(difference == 0 for difference in differences.values())
    row = (
        f"| {name} {version(name)} | {equal} of {len(flax)} | {worst:.1e} | {flax_seconds:.0f} s | {fx_seconds:.0f} s |"
    )
    agree = bool(flax) and not missing and worst <= wanted["rtol"]
    if not agree:
        print(f"{name}: only one has {sorted(missing)};", {k: d for k, d in differences.items() if d > wanted["rtol"]})
    return agree, row


def main() -> int:
    """Compare the named libraries, or the quick ones."""
    names = sys.argv[1:] or [name for name, library in LIBRARIES.items() if library.get("quick")]
    with tempfile.TemporaryDirectory() as directory:
        found = [compare(name, Path(directory)) for name in names]
    print(f"| library, with Flax {version('flax')} | equal to the bit | farthest | on Flax | on fx |")
    print("|---|---|---|---|---|", *(row for _, row in found), sep="\n")
    return 0 if all(agree for agree, _ in found) else 1


if __name__ == "__main__":
    raise SystemExit(main())
