"""The ONNX exporter: a model for any runtime, run here by ONNX Runtime."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from fx_core.files import canonical_json
from fx_core.stored_dtypes import NUMBERS

from fx_export.errors import BundleError, ExporterOptionError
from fx_export.inputs import InputCheck, spec_of
from fx_export.onnx.fusion import fuse_patterns
from fx_export.onnx.model import MODEL, check_model, write_model
from fx_export.onnx.program import Port, drop_unused, translated
from fx_export.trees import described, rebuilt

_INDEX = "index.json"
_OPSETS = range(18, 27)
_MOST = 1 << 30


class OnnxExporter:
    """Writes an ONNX model: ``model.onnx``, with large weights in ``weights.bin`` beside it."""

    def export(
        self,
        directory: Path,
        fn: Callable[..., Any],
        variables: Any,
        inputs: Sequence[Any],
        *,
        metadata: Mapping[str, Any],
        opset: int = 23,
        fuse: bool = True,
        input_names: Sequence[str] | None = None,
        output_names: Sequence[str] | None = None,
        external_bytes: int = _MOST,
    ) -> None:
        """Translate the function and write the model.

        Args:
          directory: where to write.
          fn: a pure function of the variables and the inputs.
          variables: a pytree of arrays; each becomes an initializer that is named by its path.
          inputs: examples or `jax.ShapeDtypeStruct`; sizes may come from `jax.export.symbolic_shape`.
          metadata: kept in the model as texts, too.
          opset: version of ONNX's operators, 18 to 26.
          fuse: recognize layers such as ``LayerNormalization`` and write one operator for them.
          input_names: a name for each array of the inputs; by default ``input``, or ``input_0`` and so on with paths.
          output_names: a name for each array of the outputs; by default ``output`` with paths.
          external_bytes: weights of more bytes in all lie in a file beside the model; at most 2 GiB fit into it.

        Raises:
          UncoveredPrimitivesError: the function uses primitives that have no translation; all are listed.
          UnsupportedProgramError: inputs or outputs are custom containers, or a size cannot be computed.
          UnsupportedWeightError: a variable is no array of numbers.
          ExporterOptionError: an option has another value than those above.
        """
        _check(opset, external_bytes)
        in_tree = described([jax.tree.map(spec_of, value) for value in inputs])
        program = translated(fn, variables, inputs, opset=opset, input_names=input_names, output_names=output_names)
        if fuse:
            fuse_patterns(program.build)
            drop_unused(program.build)
        names = [port.name for port in program.outputs]
        index = {
            "opset": opset,
            "in_tree": in_tree,
            "out_tree": described(jax.tree.unflatten(program.out_tree, list(np.zeros(len(names))))),
            "inputs": [_described_port(port) for port in program.inputs],
            "outputs": [_described_port(port) for port in program.outputs],
        }
        write_model(directory, program, opset=opset, external=external_bytes, metadata=metadata)
        check_model(directory / MODEL)
        (directory / _INDEX).write_text(canonical_json(index, "index"))

    def load(self, directory: Path) -> Callable[..., Any]:
        """Give the function of the inputs, computed by ONNX Runtime.

        Raises:
          BundleError: the files are not what `export` wrote, or ONNX Runtime does not load them.
        """
        # Only who runs a model needs the runtime.
        from fx_export.onnx.runtime import Session

        index = _index(directory / _INDEX)
        return OnnxProgram(Session(directory / MODEL), index, str(directory / _INDEX))


class OnnxProgram:
    """A loaded model; call it with the inputs.

    Attributes:
      inputs: shapes and dtypes of the inputs.
    """

    def __init__(self, session: Any, index: Mapping[str, Any], path: str):
        self._session, self._path = session, path
        ports, self._outputs = (_ports(index, which, path) for which in ("inputs", "outputs"))
        self._names = [port.name for port in ports]
        specs = [jax.ShapeDtypeStruct(port.shape, port.dtype) for port in ports]
        self.inputs = rebuilt(index["in_tree"], specs, path)
        self._check = InputCheck(self.inputs)
        self._out_tree = index["out_tree"]

    def __call__(self, *inputs: Any) -> Any:
        """Compute.

        Raises:
          InputMismatchError: the inputs are not those that were exported.
        """
        self._check(inputs)
        arrays = [np.asarray(leaf) for leaf in jax.tree.leaves(list(inputs))]
        names, dtypes = [port.name for port in self._outputs], [port.dtype for port in self._outputs]
        results = self._session(dict(zip(self._names, arrays)), names, dtypes)
        return rebuilt(self._out_tree, results, self._path)


def _check(opset: int, external: int) -> None:
    if type(opset) is not int or opset not in _OPSETS:
        raise ExporterOptionError("onnx", f"opset from {_OPSETS[0]} to {_OPSETS[-1]}", opset)
    if type(external) is not int or not 0 <= external < 1 << 31:
        raise ExporterOptionError("onnx", "external_bytes from 0 to 2**31 - 1", external)


def _described_port(port: Port) -> dict[str, Any]:
    return {"name": port.name, "shape": ", ".join(map(str, port.shape)), "dtype": port.dtype.name}


def _ports(index: Mapping[str, Any], which: str, path: str) -> list[Port]:
    scope = jax.export.SymbolicScope()
    try:
        return [
            Port(
                str(port["name"]),
                tuple(jax.export.symbolic_shape(str(port["shape"]), scope=scope)) if port["shape"] else (),
                NUMBERS[port["dtype"]],
            )
            for port in index[which]
        ]
    # The parser of sizes raises whatever it stumbles upon.
    except Exception as error:
        raise BundleError(path, f"the {which} are malformed.", got=f"{type(error).__name__}: {error}") from error


def _index(path: Path) -> dict[str, Any]:
    try:
        index = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise BundleError(str(path), "the index is missing or no JSON.", got=error) from error
    fields = {"inputs": list, "outputs": list, "in_tree": dict}
    if not isinstance(index, dict) or any(not isinstance(index.get(k), t) for k, t in fields.items()):
        raise BundleError(str(path), "the index lacks inputs or outputs.", got=str(index)[:100])
    if "out_tree" not in index:
        raise BundleError(str(path), "the index lacks the structure of the outputs.", got=str(index)[:100])
    return index
