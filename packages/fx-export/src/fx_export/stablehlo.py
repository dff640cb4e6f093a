"""The StableHLO exporter: a `jax.export` program, the weights, and an index."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.export
from fx_core.files import canonical_json

from fx_export.errors import (
    BundleError,
    ExporterOptionError,
    InputMismatchError,
    PlatformError,
    UnsupportedProgramError,
)
from fx_export.inputs import InputCheck, text_of
from fx_export.lowering import lowered
from fx_export.weights import named_arrays, read_weights, write_weights

_PROGRAM, _WEIGHTS, _INDEX = "program.bin", "weights.bin", "index.json"
_PLATFORMS = ("cpu", "cuda", "rocm", "tpu")


class StableHLOExporter:
    """Writes what JAX compiles: a StableHLO module that runs on several platforms and any size of symbolic axes."""

    def export(
        self,
        directory: Path,
        fn: Callable[..., Any],
        variables: Any,
        inputs: Sequence[Any],
        *,
        metadata: Mapping[str, Any],
        platforms: Sequence[str] = ("cpu", "cuda", "tpu"),
    ) -> None:
        """Write the program, the weights and the index.

        Args:
          directory: where to write.
          fn: a pure function of the variables and the inputs.
          variables: a pytree of arrays.
          inputs: examples or `jax.ShapeDtypeStruct`; sizes may come from `jax.export.symbolic_shape`.
          metadata: not used here; the bundle keeps it.
          platforms: where the program is to run: ``"cpu"``, ``"cuda"``, ``"rocm"``, ``"tpu"``.

        Raises:
          UnsupportedProgramError: the function has effects, or takes or returns custom containers.
          UnsupportedWeightError: a variable is no array of numbers.
          ExporterOptionError: a platform is unknown.
        """
        del metadata
        if isinstance(platforms, str) or not platforms or not set(platforms) <= set(_PLATFORMS):
            raise ExporterOptionError("stablehlo", f"platforms out of {', '.join(_PLATFORMS)}", platforms)
        weights = named_arrays(variables)
        program = lowered(fn, variables, [array for _, array in weights], inputs, platforms)
        (directory / _PROGRAM).write_bytes(_serialized(program))
        index = {
            "weights": write_weights(directory / _WEIGHTS, weights),
            "inputs": [text_of(aval) for aval in program.in_avals[len(weights) :]],
            "outputs": [text_of(aval) for aval in program.out_avals],
            "platforms": list(program.platforms),
            "jax": jax.__version__,
        }
        (directory / _INDEX).write_text(canonical_json(index, "index"))

    def load(self, directory: Path) -> Callable[..., Any]:
        """Give the function of the inputs.

        Raises:
          BundleError: the files are not what `export` wrote, or come from a newer JAX.
          PlatformError: the program was not exported for this process's platform.
        """
        index = _index(directory / _INDEX)
        weights = read_weights(directory / _WEIGHTS, index.get("weights"))
        program = _deserialized(directory / _PROGRAM, index)
        platform = jax.export.default_export_platform()
        if platform not in program.platforms:
            raise PlatformError(str(directory), program.platforms, platform)
        return Program(program, weights)


class Program:
    """A loaded program with its weights; call it with the inputs.

    Attributes:
      inputs: shapes and dtypes of the inputs.
      outputs: shapes and dtypes of the outputs, flat.
      platforms: where it runs.
    """

    def __init__(self, program: jax.export.Exported, weights: Sequence[Any]):
        (_, *specs), _ = jax.tree.unflatten(program.in_tree, program.in_avals)
        self._check = InputCheck(specs)
        self._weights = jax.device_put(list(weights))
        self._call = jax.jit(program.call)
        self.inputs, self.outputs, self.platforms = specs, program.out_avals, program.platforms

    def __call__(self, *inputs: Any) -> Any:
        """Compute.

        Raises:
          InputMismatchError: the inputs are not those that were exported.
        """
        self._check(inputs)
        try:
            return self._call(self._weights, *inputs)
        except ValueError as error:
            # Shapes are checked; what JAX still finds are sizes that break the symbolic constraints.
            expected = [jax.tree.map(text_of, spec) for spec in self.inputs]
            raise InputMismatchError("all inputs", expected, str(error).partition("\n")[0]) from error


def _serialized(program: jax.export.Exported) -> bytes:
    try:
        return bytes(program.serialize())
    except (NotImplementedError, ValueError, TypeError, RuntimeError) as error:
        raise UnsupportedProgramError(f"{type(error).__name__}: {error}") from error


def _index(path: Path) -> dict[str, Any]:
    try:
        index = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise BundleError(str(path), "the index is missing or no JSON.", got=error) from error
    if not isinstance(index, dict):
        raise BundleError(str(path), "the index is no object.", got=type(index).__name__)
    return index


def _deserialized(path: Path, index: Mapping[str, Any]) -> jax.export.Exported:
    try:
        return jax.export.deserialize(bytearray(path.read_bytes()))
    # The parser of JAX raises whatever it stumbles upon.
    except Exception as error:
        written, here = index.get("jax"), jax.__version__
        fix = f"It was written with jax {written} and this is jax {here}: use that version or a newer one."
        raise BundleError(
            str(path), "JAX does not read the program.", got=f"{type(error).__name__}: {error}", fix=fix
        ) from error
