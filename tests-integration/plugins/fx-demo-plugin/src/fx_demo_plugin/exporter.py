"""An exporter: one StableHLO file."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.export


class StableHloExporter:
    """Writes ``program.bin``, a serialized program with the weights as constants, and ``metadata.json``."""

    def export(
        self,
        directory: Path,
        fn: Callable[..., Any],
        variables: Any,
        inputs: Sequence[Any],
        *,
        metadata: Mapping[str, Any],
    ) -> None:
        """Write ``fn(variables, *inputs)`` into ``directory``."""
        frozen = jax.tree.map(jax.numpy.array, variables)
        program = jax.export.export(jax.jit(lambda *args: fn(frozen, *args)))(*inputs)
        (directory / "program.bin").write_bytes(program.serialize())
        (directory / "metadata.json").write_text(json.dumps(dict(metadata)), encoding="utf-8")

    def load(self, directory: Path) -> Callable[..., Any]:
        """Give the function of the inputs."""
        return jax.export.deserialize(bytearray((directory / "program.bin").read_bytes())).call
