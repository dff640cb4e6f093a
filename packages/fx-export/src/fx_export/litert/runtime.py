"""Running a ``.tflite`` file by LiteRT."""

from pathlib import Path
from typing import Any

import numpy as np

from fx_export.errors import unreadable_bundle
from fx_export.extras import imported
from fx_export.interface import Interface


class LiteRTModel:
    """A loaded file; call it with the inputs.

    Args:
      path: the file.
      interface: of the network.
      signature: which to call.

    Attributes:
      inputs: shapes and dtypes of the inputs.
    """

    def __init__(self, path: Path, interface: Interface, signature: str):
        self._interface, self.inputs = interface, interface.specs
        litert = imported("ai_edge_litert.interpreter", "litert", "litert")
        try:
            interpreter = litert.Interpreter(model_path=str(path), num_threads=1)
            self._runner = interpreter.get_signature_runner(signature)
        # LiteRT raises RuntimeError and ValueError, and whatever its parsers stumble upon.
        except Exception as error:
            problem = f"{type(error).__name__}: {str(error)[:500]}"
            raise unreadable_bundle(str(path), "LiteRT does not load the model.", got=problem) from error

    def __call__(self, *inputs: Any) -> Any:
        """Computes.

        Raises:
          InputMismatchError: the inputs are not those that were exported.
        """
        results = self._runner(**self._interface.arrays(inputs))
        return self._interface.results([np.asarray(results[port.name]) for port in self._interface.outputs])
