"""The StableHLO exporter: `jax.export` programs, the weights that they share, and an index."""

import dataclasses
import datetime
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.export
from fx_core.compat import jax as compat
from fx_core.files import canonical_json

from fx_export.contents import Read, read_file
from fx_export.errors import (
    PlatformError,
    exporter_option,
    input_mismatch,
    other_names,
    refused_by_format,
    unreadable_bundle,
    unsupported_program,
)
from fx_export.executables import Executables
from fx_export.expiry import check_expiry, dates
from fx_export.inputs import InputCheck, check_width, text_of
from fx_export.interface import are_names, constraint_entry, constraint_scope, read_index
from fx_export.lowering import downgraded, lowered
from fx_export.sizes import is_fixed
from fx_export.weights import SharedWeights, read_weights, write_weights

_PROGRAM, _WEIGHTS, _INDEX = "program.bin", "weights.bin", "index.json"


class StableHLOExporter:
    """Writes what JAX compiles: a StableHLO module that runs on several platforms and any size of symbolic axes.

    Attributes:
      arrays_alone: files of numbers, which are no program: they may be used before their digest is known.
    """

    arrays_alone = (_WEIGHTS,)

    def export(
        self,
        directory: Path,
        fn: Callable[..., Any],
        variables: Any,
        inputs: Sequence[Any],
        *,
        metadata: Mapping[str, Any],
        platforms: Sequence[str] = ("cpu", "cuda", "tpu"),
        stablehlo: str | None = None,
        input_names: Sequence[str] | None = None,
        output_names: Sequence[str] | None = None,
    ) -> None:
        """Writes the program, the weights and the index.

        Args:
          directory: where to write.
          fn: a pure function of the variables and the inputs.
          variables: a pytree of arrays.
          inputs: examples or `jax.ShapeDtypeStruct`; sizes may come from `jax.export.symbolic_shape`.
          metadata: not used here; the bundle keeps it.
          platforms: where the program is to run: ``"cpu"``, ``"cuda"``, ``"rocm"``, ``"tpu"``.
          stablehlo: version of StableHLO to write, such as ``"1.10.0"``, for older readers than this JAX.
          input_names: a name for each array of the inputs, by which a call may give them.
          output_names: a name for each array of the outputs.

        Raises:
          UnsupportedProgramError: the function has effects, or takes or returns custom containers; or the older
            version of StableHLO does not have what it computes.
          ArgumentTypeError: a variable is no array of numbers.
          ArgumentTypeError: a platform is unknown, or there are more names or fewer than arrays.
        """
        del metadata
        weights = SharedWeights()
        entry = _written(
            directory / _PROGRAM,
            fn,
            variables,
            inputs,
            weights,
            platforms=platforms,
            stablehlo=stablehlo,
            input_names=input_names,
            output_names=output_names,
        )
        self._write_index(directory, weights, entry, stablehlo)

    def export_several(
        self,
        directory: Path,
        functions: Mapping[str, tuple[Callable[..., Any], Any, Sequence[Any]]],
        *,
        metadata: Mapping[str, Any],
        platforms: Sequence[str] = ("cpu", "cuda", "tpu"),
        stablehlo: str | None = None,
    ) -> None:
        """Writes several programs, with each weight stored once.

        Args:
          directory: where to write.
          functions: function, variables and inputs by name.
          metadata: see `export`.
          platforms: see `export`.
          stablehlo: see `export`.

        Raises:
          UnsupportedProgramError: see `export`.
          ArgumentTypeError: see `export`.
          ArgumentTypeError: see `export`.
        """
        del metadata
        weights, programs = SharedWeights(), {}
        for name, (fn, variables, inputs) in functions.items():
            file = directory / _file_of(name)
            programs[name] = _written(file, fn, variables, inputs, weights, platforms=platforms, stablehlo=stablehlo)
        self._write_index(directory, weights, {"programs": programs}, stablehlo)

    def load(self, directory: Path, *, read: Read = read_file) -> Callable[..., Any]:
        """Returns the function of the inputs.

        Args:
          directory: where `export` wrote.
          read: gives the bytes of its files.

        Raises:
          BundleError: the files are not what `export` wrote, or come from a newer JAX.
          PlatformError: the program was not exported for this process's platform.
        """
        index, weights = self._read_index(directory, read)
        return _loaded(directory / _PROGRAM, read, index, index, weights)

    def load_several(self, directory: Path, *, read: Read = read_file) -> dict[str, Callable[..., Any]]:
        """Returns the functions by name; they share the weights.

        Args:
          directory: where `export_several` wrote.
          read: gives the bytes of its files.

        Raises:
          BundleError: the files are not what `export_several` wrote, or come from a newer JAX.
          PlatformError: the programs were not exported for this process's platform.
        """
        index, weights = self._read_index(directory, read)
        programs = index.get("programs")
        if not isinstance(programs, dict) or not all(name.isidentifier() for name in programs):
            raise unreadable_bundle(str(directory / _INDEX), "the index lacks the programs.")
        return {name: _loaded(directory / _file_of(name), read, index, programs[name], weights) for name in programs}

    def _write_index(
        self, directory: Path, weights: SharedWeights, entries: Mapping[str, Any], stablehlo: str | None
    ) -> None:
        index = {
            "weights": write_weights(directory / _WEIGHTS, weights.arrays),
            **entries,
            **dates(datetime.date.today()),
            **({"stablehlo": stablehlo} if stablehlo else {}),
        }
        (directory / _INDEX).write_text(canonical_json(index, "index"))

    def _read_index(self, directory: Path, read: Read) -> tuple[dict[str, Any], list[Any]]:
        index = read_index(directory / _INDEX, read)
        check_expiry(directory, index, datetime.date.today())
        arrays = read_weights(directory / _WEIGHTS, index.get("weights"), read)
        return index, jax.device_put(arrays)


def _file_of(name: str) -> str:
    """The file of an entry point; one that is called "weights" may not take the name of theirs."""
    file = f"{name}.bin"
    return f"{name}.program.bin" if file == _WEIGHTS else file


class Program:
    """A loaded program with its weights; call it with the inputs, by place or by name.

    Attributes:
      inputs: shapes and dtypes of the inputs.
      outputs: shapes and dtypes of the outputs, flat.
      platforms: where it runs.
      input_names: names of the inputs' arrays, where they were given.
      output_names: the same of the outputs.
      exported: the program as JAX has it, a function of the list of weights and the inputs.
      weights: the weights.
      weight_names: their paths in the variables.
    """

    def __init__(
        self,
        program: jax.export.Exported,
        weights: Sequence[Any],
        weight_names: Sequence[str],
        input_names: Sequence[str] = (),
        output_names: Sequence[str] = (),
        scope: jax.export.SymbolicScope | None = None,
    ):
        (_, *specs), _ = jax.tree.unflatten(program.in_tree, program.in_avals)
        if scope is not None:
            specs = jax.tree.map(lambda spec: _within(spec, scope), specs)
        self._check = InputCheck(specs)
        self.weights = list(weights)
        self._call = jax.jit(program.call)
        self._executables: Executables | None = None
        self.exported, self.weight_names = program, tuple(weight_names)
        self.inputs, self.outputs, self.platforms = specs, program.out_avals, program.platforms
        self.input_names, self.output_names = tuple(input_names), tuple(output_names)

    def __call__(self, *inputs: Any, **named: Any) -> Any:
        """Computes.

        Raises:
          InputMismatchError: the inputs are not those that were exported.
          DtypeError: the inputs are of 64 bits, and this process computes with 32.
          BundleError: the program was written by a newer JAX.
        """
        if named:
            inputs = tuple(self._by_name(inputs, named))
        inputs = self._check(inputs)
        try:
            return self._computed(inputs)
        except ValueError as error:
            # Arrays and sizes are checked; what JAX still finds are numbers of 64 bits where it computes with 32.
            for spec in jax.tree.leaves(self.inputs):
                check_width(jax.ShapeDtypeStruct(spec.shape, spec.dtype))
            expected = [jax.tree.map(text_of, spec) for spec in self.inputs]
            raise input_mismatch("all inputs", expected, str(error).partition("\n")[0]) from error
        except RuntimeError as error:
            # Older compilers find out when they compile.
            if "deserialize StableHLO" not in str(error):
                raise
            fix = 'Use a newer JAX, or export with stablehlo="1.10.0".'
            raise unreadable_bundle(
                "the program", "it was written by a newer JAX.", got=jax.__version__, fix=fix
            ) from error

    def keep_compiled(self, directory: str) -> None:
        """Keeps what is compiled from now on in a directory, and takes it from there in later processes."""
        self._executables = Executables(directory, self.exported, self._call, self.weights)
        self._executables.prepare(self.inputs)

    def _computed(self, inputs: Sequence[Any]) -> Any:
        return self._call(self.weights, *inputs) if self._executables is None else self._executables(inputs)

    def _by_name(self, inputs: Sequence[Any], named: Mapping[str, Any]) -> Sequence[Any]:
        if inputs or sorted(named) != sorted(self.input_names):
            raise input_mismatch("all inputs", f"the names {', '.join(self.input_names)}", ", ".join(sorted(named)))
        treedef = jax.tree.structure(self.inputs)
        return jax.tree.unflatten(treedef, [named[name] for name in self.input_names])


def _written(
    path: Path,
    fn: Callable[..., Any],
    variables: Any,
    inputs: Sequence[Any],
    weights: SharedWeights,
    *,
    platforms: Sequence[str],
    stablehlo: str | None,
    input_names: Sequence[str] | None = None,
    output_names: Sequence[str] | None = None,
) -> dict[str, Any]:
    """Write a program, and give its entry of the index."""
    program = lowered("stablehlo", fn, variables, inputs, platforms)
    taken, given = program.in_avals[len(jax.tree.leaves(variables)) :], program.out_avals
    names = {}
    for option, value, arrays in (("input_names", input_names, taken), ("output_names", output_names, given)):
        if value is not None and not are_names(value, len(arrays)):
            raise other_names(option, f"{len(arrays)} different names", value)
        names |= {option: list(value)} if value is not None else {}
    if stablehlo is not None:
        program = dataclasses.replace(program, mlir_module_serialized=_in_version(program, stablehlo))
    path.write_bytes(_serialized(program))
    return {
        "uses": weights.places(variables),
        "inputs": [text_of(aval) for aval in taken],
        "outputs": [text_of(aval) for aval in given],
        "platforms": list(program.platforms),
        **constraint_entry(taken),
        **names,
    }


def _in_version(program: jax.export.Exported, version: Any) -> bytes:
    oldest, newest = compat.oldest_stablehlo_version(), compat.stablehlo_version()
    if not isinstance(version, str) or not re.fullmatch(r"\d{1,9}\.\d{1,9}\.\d{1,9}", version, re.ASCII):
        raise exporter_option("stablehlo", 'stablehlo: a version such as "1.10.0"', version)
    if not _numbers(oldest) <= _numbers(version) <= _numbers(newest):
        raise exporter_option("stablehlo", f"stablehlo: a version from {oldest} to {newest}", version)
    return downgraded(program, version)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))


def _serialized(program: jax.export.Exported) -> bytes:
    try:
        return bytes(program.serialize())
    except KeyError as error:  # a dtype that JAX has no number for
        raise refused_by_format(f"{type(error).__name__}: {error}") from error
    except (NotImplementedError, ValueError, TypeError, RuntimeError) as error:
        raise unsupported_program(f"{type(error).__name__}: {error}") from error


def _loaded(path: Path, read: Read, index: Mapping[str, Any], entry: Any, weights: Sequence[Any]) -> Program:
    known: dict[str, Any] = entry if isinstance(entry, dict) else {"uses": None}
    names = [known.get(which, []) for which in ("input_names", "output_names")]
    # Version 0.1 wrote each program with all weights, in order.
    places: Any = known.get("uses", list(range(len(weights))))
    if not all(isinstance(each, list) for each in names) or not _are_places(places, len(weights)):
        raise unreadable_bundle(str(path), "its entry of the index is malformed.", got=str(entry)[:100])
    program = _deserialized(path, read, index)
    platform = jax.export.default_export_platform()
    if platform not in program.platforms:
        raise PlatformError(
            "This bundle was made for other platforms.",
            path=str(path.parent),
            expected=", ".join(program.platforms),
            got=platform,
            fix=f"Export with platforms=[…, {platform!r}], or run where one of the platforms is there.",
        )
    weight_names = [index["weights"][place]["name"] for place in places]
    own = [weights[place] for place in places]
    _check_interface(path, program, [index["weights"][place] for place in places], names)
    _check_width(path, program, own)
    # The program itself has no constraints any more.
    return Program(program, own, weight_names, *names, scope=constraint_scope(known, str(path)))


def _check_width(path: Path, program: jax.export.Exported, weights: Sequence[Any]) -> None:
    """Refuse weights of 64 bits where JAX has made others of them."""
    wide = [aval for weight, aval in zip(weights, program.in_avals) if weight.dtype != aval.dtype]
    if wide:
        raise unreadable_bundle(
            str(path),
            f"it computes with {wide[0].dtype}, and this process with 32 bits.",
            fix='Set JAX_ENABLE_X64=1, or jax.config.update("jax_enable_x64", True), before it is loaded.',
        )


def _check_interface(path: Path, program: jax.export.Exported, weights: Sequence[Any], names: Sequence[Any]) -> None:
    """Compare what the program takes and gives with what the index says of its weights and names."""
    try:
        (taken, *_), keywords = jax.tree.unflatten(program.in_tree, program.in_avals)
        sizes = [len(program.in_avals) - len(taken), len(program.out_avals)]
        expected = [f"{aval.dtype}{aval.shape}" for aval in taken]
    # A file may hold any program.
    except (TypeError, ValueError, AttributeError) as error:
        raise unreadable_bundle(str(path), "the program takes no list of weights.", got=error) from error
    got = [f"{weight['dtype']}{tuple(weight['shape'])}" for weight in weights]
    if type(taken) is not list or keywords or got != expected:
        raise unreadable_bundle(str(path), "the program takes other weights.", got=f"{got}, not {expected}"[:500])
    for given, size in zip(names, sizes):
        if given and (len(given) != size or len({name for name in given if isinstance(name, str)}) != size):
            raise unreadable_bundle(str(path), f"the names of its {size} inputs or outputs are malformed.", got=given)


def _within(spec: Any, scope: jax.export.SymbolicScope) -> Any:
    """Return a description whose symbols are of a scope."""
    if all(map(is_fixed, spec.shape)):
        return spec
    return spec.update(shape=jax.export.symbolic_shape(", ".join(map(str, spec.shape)), scope=scope))


def _are_places(places: Any, count: int) -> bool:
    return isinstance(places, list) and all(type(place) is int and 0 <= place < count for place in places)


def _deserialized(path: Path, read: Read, index: Mapping[str, Any]) -> jax.export.Exported:
    try:
        return jax.export.deserialize(bytearray(read(path)))
    # The parser of JAX raises whatever it stumbles upon.
    except Exception as error:
        written, here = index.get("jax"), jax.__version__
        fix = f"It was written with jax {written} and this is jax {here}: use that version or a newer one."
        raise unreadable_bundle(
            str(path), "JAX does not read the program.", got=f"{type(error).__name__}: {error}", fix=fix
        ) from error
