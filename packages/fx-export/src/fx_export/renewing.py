"""Writing StableHLO bundles anew, by the JAX of today, without the code that made them."""

import collections
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
from fx_core.files import read_manifest

from fx_export.bundle import DATA, FORMAT, VERSION, Bundle, StrPath, exporter_named, load
from fx_export.errors import unreadable_bundle
from fx_export.exporting import check_options, new_bundle
from fx_export.inputs import check_width
from fx_export.trial_sizes import check_sizes, free_sizes
from fx_export.verification import verified


def renew(
    path: StrPath,
    *,
    key: bytes | None = None,
    verify_sizes: Mapping[str, Sequence[int]] | None = None,
    **options: Any,
) -> Path:
    """Writes a StableHLO bundle anew in its place, so that JAX promises half a year more of reading it.

    The programs are those in the bundle; names, metadata and weights stay, and what is written is compared with what
    was there. It works while the JAX of today reads the bundle.

    Args:
      path: the bundle.
      key: the key that it is signed with.
      verify_sizes: sizes to compare at, by symbol; by default those of the export.
      **options: for the exporter: ``stablehlo`` for older readers.

    Returns:
      The path.

    Raises:
      BundleError: it is of another format, or cannot be read any more.
      VerificationError: the new one computes something else; the old one stays.
      DtypeError: it takes inputs of 64 bits, and this process computes with 32.
      ArgumentError: no input has a free size of a name in ``verify_sizes``.
      ArgumentTypeError: the exporter does not take an option.

    Example:
      >>> import fx_export, tempfile, jax.numpy as jnp
      >>> path = fx_export.export(tempfile.mkdtemp() + "/net", lambda w, x: x @ w, jnp.ones((3, 2)), ["float32[n, 3]"])
      >>> fx_export.load(renew(path))(jnp.ones((4, 3))).shape
      (4, 2)
    """
    old = load(path, key=key)
    if old.exporter != "stablehlo":
        raise unreadable_bundle(str(path), f"{old.exporter!r} bundles do not expire.", fix="Leave it as it is.")
    manifest = read_manifest(old.path, format=FORMAT, version=VERSION, key=key)
    writer: Any = exporter_named("stablehlo")
    programs = dict(old.entry_points) or {"": old.program}
    if not isinstance(verify_sizes or {}, Mapping):
        check_sizes([_specs(program) for program in programs.values()], verify_sizes)
    sizes = {name: _sizes(program, name, old, verify_sizes) for name, program in programs.items()}
    unknown = sorted(set(verify_sizes or {}).difference(*sizes.values()))
    if unknown:
        check_sizes([_specs(program) for program in programs.values()], dict.fromkeys(unknown))
    own = writer.export_several if old.entry_points else writer.export
    check_options("stablehlo", own, ({},) if old.entry_points else (None, None, ()), options)
    with new_bundle(old.path, "stablehlo", manifest["metadata"], True, key) as new:
        data = new.directory / DATA
        _write(writer, data, old, options)
        again = writer.load_several(data) if old.entry_points else {"": writer.load(data)}
        for name, program in programs.items():
            verified(again[name], *_of(program), sizes=sizes[name])
        kept = {k: v for k, v in manifest.items() if k not in ("files", "digest", "signature", "format", "version")}
        new.manifest.update(kept)
    return new.path


def _sizes(program: Any, name: str, old: Bundle, given: Mapping[str, Any] | None) -> dict[str, list[int]]:
    """Sizes to compare a program at: JAX does not say which constraints it has."""
    if given is None:
        found = (old.verification or {}).get("sizes")
        given = found.get(name) if name and isinstance(found, Mapping) else found
    specs = _specs(program)
    known = {name: given[name] for name in free_sizes(specs) if name in given} if isinstance(given, Mapping) else {}
    return check_sizes(specs, known)


def _write(writer: Any, data: Path, old: Bundle, options: Mapping[str, Any]) -> None:
    if old.entry_points:
        functions = {name: _of(program) for name, program in old.entry_points.items()}
        platforms = old.entry_points[next(iter(functions))].platforms  # type: ignore[attr-defined]
        writer.export_several(data, functions, metadata={}, **{"platforms": platforms, **options})
        return
    program: Any = old.program
    names = {"input_names": program.input_names or None, "output_names": program.output_names or None}
    writer.export(data, *_of(program), metadata={}, **{"platforms": program.platforms, **names, **options})


def _of(program: Any) -> tuple[Callable[..., Any], Any, list[Any]]:
    """A program as a function, its variables, and its inputs."""
    variables: collections.OrderedDict[str, Any] = collections.OrderedDict()
    names: dict[int, str] = {}
    for name, weight in zip(program.weight_names, program.weights, strict=True):
        # Equal weights are one array under one name; weights of several entry points may have the same one.
        if id(weight) not in names:
            names[id(weight)] = name if name not in variables else f"{name}_{len(variables)}"
            variables[names[id(weight)]] = weight
    order = [names[id(weight)] for weight in program.weights]

    def called(variables: Any, *inputs: Any) -> Any:
        return program.exported.call([variables[name] for name in order], *inputs)

    return called, variables, _specs(program)


def _specs(program: Any) -> list[Any]:
    specs = jax.tree.map(lambda aval: jax.ShapeDtypeStruct(aval.shape, aval.dtype), program.inputs)
    for spec in jax.tree.leaves(specs):
        check_width(spec)
    return specs
