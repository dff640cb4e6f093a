"""What the targets of entries have to look like.

These are protocols: a class fulfils one by having its methods, not by inheriting. `fx_core.testing` holds a test suite
for each, which an author runs against the real thing.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable


@runtime_checkable
class CheckpointBackend(Protocol):
    """Writes a state dictionary into a directory and reads it back.

    Whoever calls a backend (fx-ckpt) owns everything around it: the temporary directory, checksums, fsync, the rename
    that makes a checkpoint visible, and the structure of trees. A backend sees only *state dictionaries*: nested dicts
    with string keys, possibly empty, whose leaves are `None`, Python scalars and strings, NumPy arrays and JAX arrays
    (typed PRNG keys are encoded by the caller). It is made without arguments.
    """

    def save(self, directory: Path, state: Mapping[str, Any]) -> Mapping[str, str] | None:
        """Writes ``state`` into ``directory``, which exists and is empty, and return when all files are written.

        Returns:
          None; or digests of files, by name relative to ``directory``, taken while they were written, so that they need
          not be read again. The text is an algorithm that the caller knows, a colon, and the digest.
        """
        ...

    def restore(self, directory: Path, like: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Reads the state dictionary back: same structure, dtypes, shapes and bits as were saved.

        Args:
          directory: what `save` wrote.
          like: optionally the same structure with `jax.ShapeDtypeStruct` leaves whose shardings say where each array
            is to be placed. Without it arrays may come back as NumPy arrays. Where it holds a part of the structure
            only, what it lacks is not wanted, and may be left out.
        """
        ...


@runtime_checkable
class Exporter(Protocol):
    """Turns a function of arrays and its variables into files that run without the code that made them.

    It is made without arguments.
    """

    def export(
        self,
        directory: Path,
        fn: Callable[..., Any],
        variables: Any,
        inputs: Sequence[Any],
        *,
        metadata: Mapping[str, Any],
    ) -> None:
        """Writes ``fn(variables, *inputs)`` into ``directory``, which exists and is empty.

        Args:
          directory: where to write.
          fn: a pure function of the variables and the inputs.
          variables: a pytree of arrays.
          inputs: examples or `jax.ShapeDtypeStruct`, symbolic dimensions included.
          metadata: anything JSON can hold.
        """
        ...

    def load(self, directory: Path) -> Callable[..., Any]:
        """Returns a function of the inputs that computes what was exported."""
        ...


@runtime_checkable
class MetricLogger(Protocol):
    """Takes scalars as training goes on."""

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Records the metrics of one step."""
        ...

    def close(self) -> None:
        """Writes what is buffered and release files."""
        ...
