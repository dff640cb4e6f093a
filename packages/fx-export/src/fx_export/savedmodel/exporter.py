"""The SavedModel exporter: what TensorFlow Serving and every TensorFlow runs, without JAX."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fx_export.errors import unsupported_program
from fx_export.inputs import word_specs
from fx_export.interface import Interface, interface_of, signature_of
from fx_export.keys import on_words
from fx_export.lowering import lowered
from fx_export.savedmodel.model import SavedModel, Signature, load_model, save_model, tensorflow_names, unique
from fx_export.savedmodel.program import ProgramOp
from fx_export.weights import named_arrays

MODEL, INDEX, ENTRY_POINTS = "model", "index.json", "entry_points"
_SMALL = frozenset(
    {"int1", "int2", "int4", "uint1", "uint2", "uint4", "float4_e2m1fn", "float6_e2m3fn", "float6_e3m2fn"}
)


class SavedModelExporter:
    """Writes a SavedModel in the directory ``model``, with a signature for each network."""

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
        interface = interface_of(fn, variables, inputs, input_names, output_names)
        program = _Lowered(fn, variables, inputs, interface, platforms, stablehlo_version)
        _save(directory / MODEL, {signature: program})
        program.interface.write(directory / INDEX, signature=signature)

    def export_several(
        self,
        directory: Path,
        functions: Mapping[str, tuple[Callable[..., Any], Any, Sequence[Any]]],
        *,
        metadata: Mapping[str, Any],
        platforms: Sequence[str] = ("cpu", "cuda", "tpu"),
        stablehlo_version: str | None = None,
    ) -> None:
        """Writes several networks as one SavedModel: a signature for each, and one variable for an array they share.

        Args:
          directory: where to write.
          functions: function, variables and inputs by name.
          metadata: see `export`.
          platforms: see `export`.
          stablehlo_version: see `export`.

        Raises:
          UnsupportedProgramError: see `export`.
          ArgumentTypeError: see `export`.
        """
        del metadata
        programs = {
            name: _Lowered(fn, variables, inputs, interface_of(fn, variables, inputs), platforms, stablehlo_version)
            for name, (fn, variables, inputs) in functions.items()
        }
        _save(directory / MODEL, programs)
        (directory / ENTRY_POINTS).mkdir()
        for name, program in programs.items():
            program.interface.write(directory / ENTRY_POINTS / f"{name}.json", signature=name)

    def load(self, directory: Path) -> Callable[..., Any]:
        """Returns the function of the inputs, computed by TensorFlow on the CPU.

        Raises:
          BundleError: the files are not what `export` wrote, or TensorFlow does not load them.
        """
        return _loaded(load_model(directory / MODEL), directory / INDEX)

    def load_several(self, directory: Path) -> dict[str, Callable[..., Any]]:
        """Returns the functions by name; they share the variables.

        Raises:
          BundleError: the files are not what `export_several` wrote, or TensorFlow does not load them.
        """
        model = load_model(directory / MODEL)
        return {path.stem: _loaded(model, path) for path in sorted((directory / ENTRY_POINTS).glob("*.json"))}


def _loaded(model: Any, index: Path) -> SavedModel:
    interface, content = Interface.read(index)
    return SavedModel(model, interface, signature_of(content, index), index)


class _Lowered:
    """A function as an operation of TensorFlow, with its weights and its interface in TensorFlow's names."""

    def __init__(
        self,
        fn: Callable[..., Any],
        variables: Any,
        inputs: Sequence[Any],
        interface: Interface,
        platforms: Sequence[str],
        stablehlo_version: str | None,
    ):
        self.variables, self.weights = variables, named_arrays(variables)
        self.interface = interface.renamed(tensorflow_names(interface.inputs), tensorflow_names(interface.outputs))
        ports = [*self.interface.inputs, *self.interface.outputs]
        _refuse_small([*((p.name, p.dtype) for p in ports), *((n, a.dtype) for n, a in self.weights)])
        given = on_words(fn, interface.specs)
        program = lowered("savedmodel", given, variables, word_specs(inputs), platforms)
        self.op = ProgramOp(program, stablehlo_version)


def _save(path: Path, programs: Mapping[str, _Lowered]) -> None:
    places = unique([program.variables for program in programs.values()])
    weights = [weight for program in programs.values() for weight in program.weights]
    once = [weights[places.index(number)] for number in range(len(set(places)))]
    signatures: dict[str, Signature] = {}
    for name, program in programs.items():
        own, places = places[: len(program.weights)], places[len(program.weights) :]
        signatures[name] = Signature(program.op, own, program.interface)
    save_model(path, once, signatures)


def _refuse_small(arrays: Sequence[tuple[str, np.dtype]]) -> None:
    """TensorFlow packs numbers of 4 bits otherwise than XLA does, and computes with other ones."""
    for name, dtype in arrays:
        if dtype.name in _SMALL:
            problem = f"{name!r} has the dtype {dtype.name}, which TensorFlow hands over wrongly: use int8 there"
            raise unsupported_program(problem)
