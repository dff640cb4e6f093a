"""Running a ``.tflite`` file by LiteRT."""

from pathlib import Path
from typing import Any

import numpy as np

from fx_export.errors import BundleError, unreadable_bundle
from fx_export.extras import imported
from fx_export.interface import Interface


def load_interpreter(path: Path) -> Any:
    """Loads a file.

    Raises:
      BundleError: LiteRT does not load it.
    """
    litert = imported("ai_edge_litert.interpreter", "litert", "litert")
    try:
        return litert.Interpreter(model_path=str(path), num_threads=1)
    # LiteRT raises RuntimeError and ValueError, and whatever its parsers stumble upon.
    except Exception as error:
        raise _unreadable(path, error) from error


class LiteRTModel:
    """A loaded file; call it with the inputs.

    Args:
      interpreter: what `load_interpreter` returned.
      interface: of the network.
      signature: which to call.
      path: the file, for errors.

    Attributes:
      inputs: shapes and dtypes of the inputs.

    Raises:
      BundleError: the file has no such signature.
    """

    def __init__(self, interpreter: Any, interface: Interface, signature: str, path: Path):
        self._interface, self.inputs, self._path = interface, interface.specs, path
        try:
            self._runner = interpreter.get_signature_runner(signature)
        except Exception as error:
            raise _unreadable(path, error) from error

    def __call__(self, *inputs: Any) -> Any:
        """Computes.

        Raises:
          InputMismatchError: the inputs are not those that were exported.
          BundleError: LiteRT has no operator for what it computes, or refuses these numbers.
        """
        arrays = self._interface.arrays(inputs)
        try:
            results = self._runner(**arrays)
        # LiteRT finds out only here what its operators do not take: outputs without elements, indices outside.
        except (RuntimeError, ValueError) as error:
            problem = f"{type(error).__name__}: {str(error)[:500]}"
            fix = "Use another format, such as stablehlo or savedmodel, or inputs whose indices are inside."
            raise unreadable_bundle(str(self._path), "LiteRT does not compute it.", got=problem, fix=fix) from error
        return self._interface.results([np.asarray(results[port.name]) for port in self._interface.outputs])


def _unreadable(path: Path, error: Exception) -> BundleError:
    problem = f"{type(error).__name__}: {str(error)[:500]}"
    return unreadable_bundle(str(path), "LiteRT does not load the model.", got=problem)
