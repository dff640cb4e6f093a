"""Runs the cases of one module and prints each row as a line of JSON: what `python -m benchmarks` starts."""

import dataclasses
import functools
import importlib
import json
import sys

from benchmarks.measure import wanted
from benchmarks.registry import GROUPS


def main() -> None:
    name, _, only = sys.argv[1].partition(":")
    libraries = tuple(filter(None, sys.argv[2].split(",")))
    cases = importlib.import_module(f"benchmarks.{name}").cases
    if only:
        cases = functools.partial(cases, only=only.split(","))
    for row in cases(libraries) if GROUPS[name].libraries else cases():
        if wanted(row.case):
            print("ROW " + json.dumps(dataclasses.asdict(row)), flush=True)


if __name__ == "__main__":
    main()
