"""The ONNX exporter: a model for any runtime, run here by ONNX Runtime."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fx_export.errors import exporter_option
from fx_export.extras import imported
from fx_export.inputs import word_specs
from fx_export.interface import Interface, interface_of
from fx_export.keys import on_words
from fx_export.onnx.fusion import fuse_patterns
from fx_export.onnx.model import MODEL, check_model, write_model
from fx_export.onnx.program import drop_unused, translated

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
        """Translates the function and writes the model.

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
          ArgumentTypeError: a variable is no array of numbers.
          ArgumentTypeError: an option has another value than those above.
        """
        _check(opset, external_bytes)
        interface = interface_of(fn, variables, inputs, input_names, output_names)
        names = [[port.name for port in ports] for ports in (interface.inputs, interface.outputs)]
        given = on_words(fn, interface.specs)
        program = translated(
            given, variables, word_specs(inputs), opset=opset, input_names=names[0], output_names=names[1]
        )
        if fuse:
            fuse_patterns(program.build)
            drop_unused(program.build)
        write_model(directory, program, opset=opset, external=external_bytes, metadata=metadata)
        check_model(directory / MODEL)
        # A name that a parameter has gets a number.
        names = [[port.name for port in ports] for ports in (program.inputs, program.outputs)]
        interface.renamed(*names).write(directory / _INDEX, opset=opset)

    def load(self, directory: Path) -> Callable[..., Any]:
        """Returns the function of the inputs, computed by ONNX Runtime.

        Raises:
          BundleError: the files are not what `export` wrote, or ONNX Runtime does not load them.
          EntryLoadError: ONNX Runtime is not installed; the text names the extra.
        """
        # Only who runs a model needs the runtime.
        runtime = imported("fx_export.onnx.runtime", "onnx", "onnx")
        interface, _ = Interface.read(directory / _INDEX)
        return OnnxProgram(runtime.Session(directory / MODEL), interface)


class OnnxProgram:
    """A loaded model; call it with the inputs.

    Attributes:
      inputs: shapes and dtypes of the inputs.
    """

    def __init__(self, session: Any, interface: Interface):
        session.expect(interface.inputs, interface.outputs)
        self._session, self._interface = session, interface
        self.inputs = interface.specs
        self._names = [port.name for port in interface.outputs]
        self._dtypes = [port.dtype for port in interface.outputs]

    def __call__(self, *inputs: Any) -> Any:
        """Computes.

        Raises:
          InputMismatchError: the inputs are not those that were exported.
        """
        return self._interface.results(self._session(self._interface.arrays(inputs), self._names, self._dtypes))


def _check(opset: int, external: int) -> None:
    if type(opset) is not int or opset not in _OPSETS:
        raise exporter_option("onnx", f"opset from {_OPSETS[0]} to {_OPSETS[-1]}", opset)
    if type(external) is not int or not 0 <= external < 1 << 31:
        raise exporter_option("onnx", "external_bytes from 0 to 2**31 - 1", external)
