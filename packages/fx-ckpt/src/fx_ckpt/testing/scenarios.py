"""Saves that are disturbed: what is there before, what is saved, and what may be there afterwards."""

import contextlib
import dataclasses
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from fx_core import filesystem
from fx_core.testing.states import describe_difference

from fx_ckpt.manager import CheckpointManager
from fx_ckpt.operations import verify

__all__ = ["SCENARIOS", "Scenario", "check", "tree_of"]


def tree_of(number: int) -> dict[str, Any]:
    """Returns a small tree that differs for each number: arrays of odd dtypes and values, and Python values."""
    values = np.array([number, -0.0, np.nan, np.inf], np.float32)
    return {"w": values, "n": {"step": number, "name": f"tree {number}"}, "e": np.zeros((0, 2)), "k": np.arange(number)}


@dataclasses.dataclass(frozen=True)
class Scenario:
    """A save that is to be disturbed.

    Attributes:
      name: for people.
      old: the step that is there before; None for an empty directory.
      new: the step to save.
      keep: how many steps the manager keeps.
      exchange: whether the file system can exchange two directories.
      options: more arguments of the manager.
      before: what else happened before the save, by its name in `BEFORE`.
    """

    name: str
    old: int | None = 1
    new: int = 2
    keep: int | None = 1
    exchange: bool = True
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    before: str = ""

    def manager(self, root: Path, backend: str) -> CheckpointManager:
        """Returns a manager of the directory of this scenario."""
        return CheckpointManager(root / "run", backend, keep=self.keep, **{"async_": False, **self.options})

    def prepare(self, root: Path, backend: str) -> None:
        """Creates what is there before."""
        root.mkdir(parents=True)
        if self.old is not None:
            with self.manager(root, backend) as manager:
                manager.save(self.old, tree_of(1))
        if self.before:
            BEFORE[self.before](root / "run")

    def save(self, root: Path, backend: str) -> None:
        """Does what is to be disturbed."""
        # Not as a context manager, which would take signals over.
        with self.platform():
            manager = self.manager(root, backend)
            manager.save(self.new, tree_of(2), overwrite=self.old == self.new)
            manager.wait()

    @contextlib.contextmanager
    def platform(self) -> Iterator[None]:
        """Returns the platform that the scenario wants."""
        original = filesystem.exchange
        if not self.exchange:
            filesystem.exchange = lambda a, b: False
        try:
            yield
        finally:
            filesystem.exchange = original


BEFORE: dict[str, Callable[[Path], object]] = {
    "an empty directory": lambda run: (run / "step_00000002").mkdir(),
    "a backup": lambda run: shutil.copytree(run, run.with_name("backup"), copy_function=os.link),
}
"""Changes that users make to the directory of a run."""

SCENARIOS = (
    Scenario("first save", old=None),
    Scenario("next step, the old one is retired"),
    Scenario("next step, both are kept", keep=2),
    Scenario("overwrite by an exchange", new=1),
    Scenario("overwrite by two renames", new=1, exchange=False),
    Scenario("next step, in the background", options={"async_": True}),
    Scenario("next step, where an empty directory is", before="an empty directory"),
    Scenario("next step, beside hard links to the old one", before="a backup"),
)
"""The saves that the tests disturb."""


def check(scenario: Scenario, root: Path, backend: str) -> str:
    """Checks what a disturbed save has left.

    The newest step is the old or the new one, to the bit; every step that is listed is whole; the next save works, and
    nothing else is left then.

    Returns:
      ``"old"`` or ``"new"``.

    Raises:
      AssertionError: something of that is not so.
    """
    manager = scenario.manager(root, backend)
    steps = manager.all_steps()
    for step in steps:
        verify(manager.path(step))
    found = _which(manager, scenario, steps)
    with scenario.manager(root, backend) as following:
        following.save(9, tree_of(9))
    assert describe_difference(tree_of(9), following.restore()) is None
    left = [name for name in os.listdir(root / "run") if name.startswith(".")]
    assert not left, f"left behind: {left}"
    return found


def copy(source: Path, target: Path) -> Path:
    """Returns a copy of a prepared directory."""
    shutil.copytree(source, target)
    return target


def _which(manager: CheckpointManager, scenario: Scenario, steps: list[int]) -> str:
    if scenario.old is None and not steps:
        return "old"
    tree = manager.restore()
    for name, step, number in (("old", scenario.old, 1), ("new", scenario.new, 2)):
        if steps[-1] == step and describe_difference(tree_of(number), tree) is None:
            return name
    raise AssertionError(f"step {steps[-1]} is neither the old nor the new one: {tree}")
