"""Running a model by ONNX Runtime, as part of a bundle."""

import ctypes
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnxruntime

from fx_export.errors import BundleError, unreadable_bundle
from fx_export.inputs import text_of
from fx_export.interface import Port

_BYTES = {"bfloat16": (16, np.uint16), "float8_e4m3fn": (17, np.uint8), "float8_e4m3fnuz": (18, np.uint8),
          "float8_e5m2": (19, np.uint8), "float8_e5m2fnuz": (20, np.uint8)}  # fmt: skip
"""Dtypes that NumPy does not know, with ONNX's numbers: they are handed over as bytes."""

_OTHER_NAMES = {"float32": "float", "float64": "double"}


class Session:
    """A model that runs.

    Args:
      path: the model's file.
      threads: how many to compute with; 0 leaves it to ONNX Runtime.
    """

    def __init__(self, path: Path, threads: int = 0):
        self._path = str(path)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        # Products with weights of few bits in float32: by default the runtime rounds what they are multiplied with.
        options.add_session_config_entry("session.qdq_matmulnbits_accuracy_level", "1")
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        # ONNX Runtime raises classes of its own, which have no common base but this.
        except Exception as error:
            problem = f"{type(error).__name__}: {str(error)[:500]}"
            raise unreadable_bundle(str(path), "ONNX Runtime does not load the model.", got=problem) from error

    def expect(self, inputs: Sequence[Port], outputs: Sequence[Port]) -> None:
        """Compares what the model takes and gives with what is known of it.

        Raises:
          BundleError: it has other inputs or outputs, or some of other dtypes.
        """
        pairs = ((inputs, self._session.get_inputs()), (outputs, self._session.get_outputs()))
        for ports, values in pairs:
            known = {port.name: f"tensor({_type_name(port.dtype)})" for port in ports}
            found = {value.name: value.type for value in values}
            if known != found:
                problem = f"its index says {known}, not {found}"[:500]
                raise unreadable_bundle(self._path, "the model has other inputs or outputs.", got=problem)

    def __call__(
        self, feeds: Mapping[str, np.ndarray], outputs: Sequence[str], dtypes: Sequence[np.dtype]
    ) -> list[np.ndarray]:
        """Computes outputs.

        Args:
          feeds: arrays by name of the input.
          outputs: names of what to give.
          dtypes: of the outputs.

        Raises:
          BundleError: the runtime lacks what the model needs, or the model is not what it says.
        """
        try:
            values = {name: _value(array) for name, array in feeds.items()}
            results = self._session.run_with_ort_values(list(outputs), values)
        except Exception as error:
            problem = f"{type(error).__name__}: {str(error)[:500]}"
            raise self._not_computed(feeds, problem) from error
        return [_array(value, dtype) for value, dtype in zip(results, dtypes)]

    def _not_computed(self, feeds: Mapping[str, np.ndarray], problem: str) -> BundleError:
        sizes = "; ".join(f"{name}: {text_of(array)}" for name, array in feeds.items())
        free = any(not isinstance(size, int) for value in self._session.get_inputs() for size in value.shape)
        known = 'Call it with larger sizes, and export it with what it needs: constraints=["length >= 8"].'
        return unreadable_bundle(
            self._path,
            "ONNX Runtime does not compute the model.",
            got=f"{sizes[:300]}: {problem}",
            fix=known if free else "Export the network again.",
        )


def _type_name(dtype: np.dtype) -> str:
    return _OTHER_NAMES.get(dtype.name, dtype.name.replace("float8_", "float8"))


def _value(array: np.ndarray) -> Any:
    # A broadcast view would be read past its end.
    array = np.require(array, requirements="C")
    if array.dtype.name in _BYTES:
        number, carrier = _BYTES[array.dtype.name]
        return onnxruntime.OrtValue.ortvalue_from_numpy_with_onnx_type(array.view(carrier), number)
    return onnxruntime.OrtValue.ortvalue_from_numpy(array)


def _array(value: Any, dtype: np.dtype) -> np.ndarray:
    if dtype.name not in _BYTES:
        return value.numpy()
    shape = value.shape()
    length = math.prod(shape) * dtype.itemsize
    content = ctypes.string_at(value.data_ptr(), length) if length else b""
    return np.frombuffer(content, getattr(ml_dtypes, dtype.name)).reshape(shape)
