"""The LiteRT exporter: a ``.tflite`` file by TensorFlow's converter, run here by LiteRT's own interpreter."""

import re
import shutil
import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

import fx_export
from fx_export.errors import exporter_option, refused_by_format
from fx_export.extras import imported
from fx_export.inputs import spec_of
from fx_export.interface import Interface, signature_of
from fx_export.litert.runtime import LiteRTModel, load_interpreter
from fx_export.litert.widening import widened
from fx_export.savedmodel.exporter import ENTRY_POINTS, INDEX, MODEL, SavedModelExporter
from fx_export.sizes import evaluated, symbols_of

FILE = "model.tflite"
_SIGNATURE = "serving_default"
_OWN = str(Path(fx_export.__file__).parent)


class LiteRTExporter:
    """Writes ``model.tflite``, whose sizes are fixed."""

    def export(
        self,
        directory: Path,
        fn: Callable[..., Any],
        variables: Any,
        inputs: Sequence[Any],
        *,
        metadata: Mapping[str, Any],
        sizes: Mapping[str, int] | None = None,
        int8: bool = False,
        representative: Sequence[Sequence[Any]] = (),
        input_names: Sequence[str] | None = None,
        output_names: Sequence[str] | None = None,
    ) -> None:
        """Writes a SavedModel aside, and converts it. What is bfloat16 or float16 is computed in float32.

        Args:
          directory: where to write.
          fn: a pure function of the variables and the inputs.
          variables: a pytree of arrays.
          inputs: examples or `jax.ShapeDtypeStruct`.
          metadata: not used here; the bundle keeps it.
          sizes: a number for each symbolic size, such as ``{"batch": 1}``: the format has no free sizes.
          int8: keep large weights in 8 bits. With ``representative``, compute in integers of 8 bits, too, with scales
            that those give; inputs and outputs stay as they are. What has no operator in 8 bits stays in floats.
          representative: inputs of some hundred calls, as the network will see them.
          input_names: a name for each array of the inputs, see `SavedModelExporter.export`.
          output_names: the same of the outputs.

        Raises:
          ArgumentTypeError: a size stays free, or there are representative inputs without ``int8``.
          UnsupportedProgramError: the converter does not take the program.
          ArgumentTypeError: a variable is no array of numbers.
        """
        del metadata
        # The extra of this format is to be named, where it is missing.
        imported("tensorflow", "litert", "litert")
        inputs = _fixed(inputs, sizes or {})
        if len(representative) and not int8:
            raise exporter_option("litert", "representative inputs with int8=True only", f"int8={int8}")
        # Beside the file: whoever comes after a process that was killed removes it with the rest.
        with tempfile.TemporaryDirectory(dir=directory) as scratch:
            names: dict[str, Any] = {"input_names": input_names, "output_names": output_names}
            saved = Path(scratch)
            SavedModelExporter().export(saved, widened(fn), variables, inputs, metadata={}, platforms=["cpu"], **names)
            interface, _ = Interface.read(saved / INDEX)
            converter = _converter(saved, [_SIGNATURE], int8)
            if len(representative):
                converter.representative_dataset = lambda: map(interface.arrays, representative)
            (directory / FILE).write_bytes(_converted(converter))
        interface.write(directory / INDEX, signature=_SIGNATURE)

    def export_several(
        self,
        directory: Path,
        functions: Mapping[str, tuple[Callable[..., Any], Any, Sequence[Any]]],
        *,
        metadata: Mapping[str, Any],
        sizes: Mapping[str, int] | None = None,
        int8: bool = False,
    ) -> None:
        """Writes several networks as one file, with a signature for each.

        Args:
          directory: where to write.
          functions: function, variables and inputs by name.
          metadata: see `export`.
          sizes: a number for each symbolic size of any of them.
          int8: keep large weights in 8 bits.

        Raises:
          ArgumentTypeError: see `export`.
          UnsupportedProgramError: see `export`.
        """
        del metadata
        imported("tensorflow", "litert", "litert")
        fixed = {
            name: (widened(fn), variables, _fixed(inputs, sizes or {}))
            for name, (fn, variables, inputs) in functions.items()
        }
        with tempfile.TemporaryDirectory(dir=directory) as scratch:
            saved = Path(scratch)
            SavedModelExporter().export_several(saved, fixed, metadata={}, platforms=["cpu"])
            (directory / FILE).write_bytes(_converted(_converter(saved, list(functions), int8)))
            shutil.copytree(saved / ENTRY_POINTS, directory / ENTRY_POINTS)

    def load(self, directory: Path) -> Callable[..., Any]:
        """Returns the function of the inputs, computed by LiteRT.

        Raises:
          BundleError: the files are not what `export` wrote, or LiteRT does not load them.
        """
        return _loaded(load_interpreter(directory / FILE), directory / FILE, directory / INDEX)

    def load_several(self, directory: Path) -> dict[str, Callable[..., Any]]:
        """Returns the functions by name; they share the weights.

        Raises:
          BundleError: the files are not what `export_several` wrote, or LiteRT does not load them.
        """
        interpreter, file = load_interpreter(directory / FILE), directory / FILE
        indices = sorted((directory / ENTRY_POINTS).glob("*.json"))
        return {index.stem: _loaded(interpreter, file, index) for index in indices}

    def verification(
        self,
        *,
        sizes: Mapping[str, int] | None = None,
        int8: bool = False,
        representative: Sequence[Sequence[Any]] = (),
        **options: Any,
    ) -> dict[str, Any]:
        """How a file with these options is compared: at its sizes, and in 8 bits on what it was made for."""
        del options
        fixed = {name: [size] for name, size in (sizes or {}).items()}
        return {"sizes": fixed, "given": representative, **({"tolerance": 0.1} if int8 else {})}


def _loaded(interpreter: Any, file: Path, index: Path) -> LiteRTModel:
    interface, content = Interface.read(index)
    return LiteRTModel(interpreter, interface, signature_of(content, index), file)


def _converter(saved: Path, signatures: list[str], int8: bool) -> Any:
    tf = imported("tensorflow", "litert", "litert")
    converter = tf.lite.TFLiteConverter.from_saved_model(str(saved / MODEL), signature_keys=signatures)
    if int8:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    return converter


def _fixed(inputs: Sequence[Any], sizes: Mapping[str, int]) -> list[Any]:
    specs = [jax.tree.map(spec_of, value) for value in inputs]
    flat = jax.tree_util.tree_leaves_with_path(specs)
    free = [
        f"{name} in input {jax.tree_util.keystr(path, simple=True, separator='/')}"
        for path, spec in flat
        for size in spec.shape
        for name in sorted(symbols_of(size) - set(sizes))
    ]
    if free:
        raise exporter_option(
            "litert", "sizes={…} with a number for each free size", f"no number for {', '.join(free)}"
        )

    def fix(spec: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(
            [evaluated(size, sizes) for size in spec.shape], spec.dtype, weak_type=spec.weak_type
        )

    return [jax.tree.map(fix, spec) for spec in specs]


def _converted(converter: Any) -> bytes:
    try:
        with warnings.catch_warnings():
            # TensorFlow finds scales by an interpreter that it tells others not to use.
            warnings.filterwarnings("ignore", r"\s*Warning: tf\.lite\.Interpreter is deprecated", UserWarning)
            return converter.convert()
    # The converter raises classes of its own, RuntimeError and ValueError.
    except Exception as error:
        raise refused_by_format(_reasons(error)) from error


def _reasons(error: Exception) -> str:
    """What the converter says is wrong, with the lines of the model, without those of its own graph."""
    reasons: dict[str, None] = {}
    for line, text in re.findall(r"(?:(/[^\s:]+\.py:\d+):\d+: )?error: (.+)", str(error)):
        illegal = re.match(r"failed to legalize operation '([\w.]+)'", text)
        reason = f"no {illegal[1]} in these dtypes" if illegal else text.strip()
        if not reason.startswith("failed while converting"):
            reasons[f"{reason} ({line})" if line and not line.startswith(_OWN) else reason] = None
    return "; ".join(reasons)[:2000] or f"{type(error).__name__}: {str(error)[:500]}"
