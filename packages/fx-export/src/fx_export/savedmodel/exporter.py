"""The SavedModel exporter: what TensorFlow Serving and every TensorFlow runs, without JAX."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from fx_export.errors import exporter_option, unsupported_program
from fx_export.interface import Interface, interface_of, signature_of
from fx_export.keys import on_words, words_of
from fx_export.lowering import lowered
from fx_export.savedmodel.model import SavedModel, save_model, tensorflow_names, unique
from fx_export.savedmodel.program import ProgramOp
from fx_export.weights import named_arrays

MODEL, INDEX = "model", "index.json"
_SMALL = frozenset(
    {"int1", "int2", "int4", "uint1", "uint2", "uint4", "float4_e2m1fn", "float6_e2m3fn", "float6_e3m2fn"}
)
PLATFORMS = ("cpu", "cuda", "rocm", "tpu")


class SavedModelExporter:
    """Writes a SavedModel in the directory ``model``, with one signature."""

    def export(
        self,
        directory: Path,
        fn: Callable[..., Any],
        variables: Any,
        inputs: Sequence[Any],
        *,
        metadata: Mapping[str, Any],
        signature: str = "serving_default",
        input_names: Sequence[str] | None = None,
        output_names: Sequence[str] | None = None,
        platforms: Sequence[str] = ("cpu", "cuda", "tpu"),
        stablehlo_version: str | None = None,
    ) -> None:
        """Lowers the function, and saves it with its variables.

        Args:
          directory: where to write.
          fn: a pure function of the variables and the inputs.
          variables: a pytree of arrays; each becomes a `tf.Variable` with its path as name, and an array in several
            places becomes one.
          inputs: examples or `jax.ShapeDtypeStruct`; sizes may come from `jax.export.symbolic_shape`. Typed PRNG keys
            become their words.
          metadata: not used here; the bundle keeps it.
          signature: name of the signature.
          input_names: a name for each array of the inputs; by default ``input``, or ``input_0`` and so on with paths.
            What is no letter, digit or underscore becomes an underscore.
          output_names: the same of the outputs; by default ``output`` with paths.
          platforms: where the program is to run: ``"cpu"``, ``"cuda"``, ``"rocm"``, ``"tpu"``.
          stablehlo_version: version of StableHLO to write, such as ``"1.10.0"`` for older TensorFlow; by default the
            one that the installed TensorFlow has.

        Raises:
          UnsupportedProgramError: the function has effects or operations that TensorFlow does not take, or inputs or
            outputs are custom containers.
          ArgumentTypeError: a variable is no array of numbers.
          ArgumentTypeError: an option has another value than those above.
        """
        del metadata
        if isinstance(platforms, str) or not platforms or not set(platforms) <= set(PLATFORMS):
            raise exporter_option("savedmodel", f"platforms out of {', '.join(PLATFORMS)}", platforms)
        interface = interface_of(fn, variables, inputs, input_names, output_names)
        interface = interface.renamed(tensorflow_names(interface.inputs), tensorflow_names(interface.outputs))
        weights = named_arrays(variables)
        _refuse_small(
            [*((p.name, p.dtype) for p in [*interface.inputs, *interface.outputs]), *((n, a.dtype) for n, a in weights)]
        )
        words = jax.tree.map(words_of, interface.specs)
        program = lowered(on_words(fn, interface.specs), variables, [a for _, a in weights], words, platforms)
        places = unique(variables)
        once = [weights[places.index(number)] for number in range(len(set(places)))]
        op = ProgramOp(program, stablehlo_version)
        save_model(directory / MODEL, op, once, places, interface, signature)
        interface.write(directory / INDEX, signature=signature)

    def load(self, directory: Path) -> Callable[..., Any]:
        """Returns the function of the inputs, computed by TensorFlow on the CPU.

        Raises:
          BundleError: the files are not what `export` wrote, or TensorFlow does not load them.
        """
        interface, index = Interface.read(directory / INDEX)
        signature = signature_of(index, directory / INDEX)
        return SavedModel(directory / MODEL, interface, signature)


def _refuse_small(arrays: Sequence[tuple[str, np.dtype]]) -> None:
    """TensorFlow packs numbers of 4 bits otherwise than XLA does, and computes with other ones."""
    for name, dtype in arrays:
        if dtype.name in _SMALL:
            problem = f"{name!r} has the dtype {dtype.name}, which TensorFlow hands over wrongly: use int8 there"
            raise unsupported_program(problem)
