"""What a run was: its configuration, parameters, environment and outcome, for people and for ``fx report``."""

import importlib.metadata
import json
import os
import platform
import sys
import time
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from fx_train._writing import writing
from fx_train.loop.callbacks import Callback, Progress, is_writer
from fx_train.metrics import Confusion


class Describe(Callback):
    """Writes ``run.json`` into the run's directory, when the run starts, at its first step and when it ends.

    Confusion matrices among the metrics (`fx_train.Confusion`) are kept there too, the last one of each name.

    Args:
      config: settings of the run, anything that JSON can hold; other values are written as text.
      classes: names of the classes in confusion matrices.

    Raises:
      RunFileError: the file cannot be written.

    >>> import json, pathlib, tempfile
    >>> import fx_train
    >>> with fx_train.Run(tempfile.mkdtemp(), total_steps=1, callbacks=[fx_train.Describe({"rate": 0.1})]) as run:
    ...     for step, batch in run.steps([None]):
    ...         run.record({}, {"loss": 0.5})
    >>> json.loads((pathlib.Path(run.directory) / "run.json").read_text())["config"]
    {'rate': 0.1}
    """

    def __init__(self, config: Mapping[str, Any] | None = None, *, classes: list[str] | None = None):
        self._config = _named(config or {})
        self._about: dict[str, Any] = {}
        self._classes = classes
        self._confusion: dict[str, Any] = {}

    def on_start(self, run: Progress) -> None:
        """Writes down how it begins."""
        self._about, self._confusion = {"config": self._config}, {}
        if is_writer():
            self._about |= {"started": time.time(), "total_steps": run.total_steps, "environment": environment()}
            self._write(run, "running")

    def on_step(self, run: Progress, state: Any, metrics: Mapping[str, Any]) -> None:
        """Writes down the parameters, once, and remember confusion matrices."""
        for name, metric in metrics.items():
            if isinstance(metric, Confusion):
                self._confusion[name] = run.step, metric
        if "parameters" not in self._about:
            self._about["parameters"] = parameters(state)
            if is_writer():
                self._write(run, "running")

    def on_end(self, run: Progress, error: BaseException | None) -> None:
        """Writes down how it ended."""
        if not is_writer():
            return
        self._about["ended"] = time.time()
        self._about["confusion"] = {
            name: {"step": step, "counts": np.asarray(metric.counts).tolist(), "classes": self._classes}
            for name, (step, metric) in self._confusion.items()
        }
        if error is not None:
            outcome = f"{type(error).__name__}: {error}"
        else:
            outcome = "done" if run.stop_reason is None else f"stopped: {run.stop_reason}"
        self._write(run, outcome)

    def _write(self, run: Progress, outcome: str) -> None:
        content = {**self._about, "step": run.step, "outcome": outcome}
        text, draft = json.dumps(content, indent=1, default=str), run.directory / "run.json.tmp"
        with writing(run.directory / "run.json"):
            draft.write_text(text)
            os.replace(draft, run.directory / "run.json")


def _named(value: Any) -> Any:
    """Mappings with names as keys: JSON has no others."""
    return {str(key): _named(each) for key, each in value.items()} if isinstance(value, Mapping) else value


def environment() -> dict[str, Any]:
    """Versions, devices and processes that a run happened with."""
    versions = {}
    for name in ("jax", "jaxlib", "numpy", "optax", "fx-core", "fx-linen", "fx-nnx", "fx-train", "fx-ckpt"):
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    kinds: dict[str, int] = {}
    for device in jax.devices():
        kinds[device.device_kind] = kinds.get(device.device_kind, 0) + 1
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "backend": jax.default_backend(),
        "devices": [f"{count} × {kind}" for kind, count in kinds.items()],
        "processes": jax.process_count(),
        "command": " ".join([os.path.basename(sys.argv[0]), *sys.argv[1:]]),
        "packages": versions,
    }


def parameters(state: Any) -> list[dict[str, Any]]:
    """Path, shape and dtype of every parameter of a state, or of a tree that is no state."""
    leaves = jax.tree_util.tree_leaves_with_path(getattr(state, "params", state))
    return [
        {
            "path": jax.tree_util.keystr(path, simple=True, separator="/"),
            "shape": list(np.shape(leaf)),
            "dtype": str(leaf.dtype),
        }
        for path, leaf in leaves
        if hasattr(leaf, "dtype")
    ]
