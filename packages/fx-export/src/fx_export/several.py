"""Several networks in one bundle, such as the two of a text generator: one reads the prompt, the other goes on."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fx_export.bundle import DATA, StrPath, exporter_named, load_several
from fx_export.errors import BundleError, PlatformError, exporter_option, refused_by_runtime
from fx_export.exporting import (
    check_arguments,
    check_call,
    check_flags,
    check_options,
    new_bundle,
    verification_settings,
)
from fx_export.free_sizes import sizes_stay_free
from fx_export.inputs import input_specs, listed
from fx_export.models import as_function
from fx_export.trial_sizes import sizes_to_try
from fx_export.verification import verified


@dataclasses.dataclass(frozen=True)
class EntryPoint:
    """One of several networks in a bundle.

    Attributes:
      model: as in `fx_export.export`.
      inputs: as in `fx_export.export`.
      call: keyword arguments of the model's call.
      constraints: what is known about sizes in texts, such as ``"length <= 128"``.
      verify_sizes: sizes to try, by symbol.

    >>> import tempfile
    >>> import jax.numpy as jnp
    >>> import fx_export
    >>> double = fx_export.EntryPoint(lambda scale, x: scale * x, [jnp.ones(2)])
    >>> path = fx_export.export_several(tempfile.mkdtemp() + "/programs", {"double": double}, 2.0)
    >>> fx_export.load(path)["double"](jnp.ones(2)).tolist()
    [2.0, 2.0]
    """

    model: Any
    inputs: Sequence[Any]
    call: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    constraints: Sequence[str] = ()
    verify_sizes: Mapping[str, Sequence[int]] | None = None


def export_several(
    path: StrPath,
    entry_points: Mapping[str, EntryPoint],
    variables: Any = None,
    *,
    format: str = "stablehlo",
    metadata: Mapping[str, Any] | None = None,
    overwrite: bool = False,
    key: bytes | None = None,
    verify: bool = True,
    tolerance: float | None = None,
    **options: Any,
) -> Path:
    """Writes several networks as one bundle, and compares each with its model.

    ``fx_export.load(path)["name"]`` is one of them. Each weight is stored once, and is in memory once when they are
    loaded; SavedModels and LiteRT files have a signature for each. ONNX has a model for each, with its weights.

    Args:
      path: the directory to make; it appears whole or not at all.
      entry_points: the networks by name, which is an identifier.
      variables: the variables of all of them; None where the models have their own.
      format: as in `fx_export.export`.
      metadata: as in `fx_export.export`.
      overwrite: as in `fx_export.export`.
      key: as in `fx_export.export`.
      verify: as in `fx_export.export`.
      tolerance: as in `fx_export.export`.
      **options: for the exporter.

    Returns:
      The path.

    Raises:
      ArgumentTypeError: there are no entry points, a name is no identifier, the exporter does not take an option, or an
        argument is of another type than it says.
      ExportError: what `fx_export.export` raises for one of them.
      AlreadyExistsError: there is something at the path.

    Example:
      >>> import tempfile, jax.numpy as jnp
      >>> from fx_export import load
      >>> halves = {
      ...     "first": EntryPoint(lambda w, x: x @ w, ["float32[batch, 3]"]),
      ...     "second": EntryPoint(lambda w, y: y @ w.T, ["float32[batch, 2]"]),
      ... }
      >>> network = load(export_several(tempfile.mkdtemp() + "/net", halves, jnp.ones((3, 2))))
      >>> network["second"](network["first"](jnp.ones((4, 3)))).shape
      (4, 3)
    """
    _check(format, entry_points)
    check_flags(format, overwrite=overwrite, verify=verify)
    writer: Any = exporter_named(format)
    together = getattr(writer, "export_several", None)
    check_options(format, together or writer.export, ({},) if together else (None, None, ()), options)
    functions, settings = {}, {}
    for name, entry in entry_points.items():
        fn, weights = as_function(entry.model, variables, entry.call or {})
        specs = input_specs(format, entry.inputs, entry.constraints)
        functions[name] = fn, weights, specs
        settings[name] = verification_settings(writer, specs, tolerance, entry.verify_sizes, options)
        check_arguments(fn, weights, specs)
        if verify:
            sizes_to_try(specs, settings[name]["sizes"])
    with new_bundle(path, format, metadata, overwrite, key) as new:
        data = new.directory / DATA
        with sizes_stay_free([specs for _, _, specs in functions.values()]):
            _write(writer, data, functions, new.manifest["metadata"], options)
        if verify:
            new.manifest["verification"] = _verified(writer, data, functions, settings)
        new.manifest["entry_points"] = list(entry_points)
        new.manifest["inputs"] = {name: listed(specs) for name, (_, _, specs) in functions.items()}
    return new.path


def _check(format: str, entry_points: Any) -> None:
    if not isinstance(entry_points, Mapping) or not entry_points:
        raise exporter_option(
            format, "entry points: a dictionary of them, whose names are identifiers", repr(entry_points)[:200]
        )
    for name, entry in entry_points.items():
        if not isinstance(name, str) or not name.isidentifier():
            raise exporter_option(format, "entry points whose names are identifiers", repr(name)[:200])
        if not isinstance(entry, EntryPoint):
            raise exporter_option(format, f"an EntryPoint for {name!r}", repr(entry)[:200])
        check_call(format, entry.call)


def _write(writer: Any, data: Path, functions: Mapping[str, Any], metadata: Any, options: Mapping[str, Any]) -> None:
    if hasattr(writer, "export_several"):
        writer.export_several(data, functions, metadata=metadata, **options)
        return
    for name, (fn, weights, specs) in functions.items():
        (data / name).mkdir()
        writer.export(data / name, fn, weights, specs, metadata=metadata, **options)


def _verified(
    writer: Any, data: Path, functions: Mapping[str, Any], settings: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any] | None:
    try:
        programs = load_several(writer, data, list(functions))
        return _compared(programs, functions, settings)
    except PlatformError:
        return None
    except BundleError as error:
        raise refused_by_runtime(error) from error


def _compared(
    programs: Mapping[str, Any], functions: Mapping[str, Any], settings: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    found: dict[str, Any] = {"trials": [], "max_absolute_error": 0.0, "max_relative_error": 0.0, "sizes": {}}
    for name, (fn, weights, specs) in functions.items():
        report = verified(programs[name], fn, weights, specs, **settings[name])
        found["trials"] += [f"{name}: {trial}" for trial in report["trials"]]
        found["sizes"][name] = report.get("sizes", {})
        for which in ("max_absolute_error", "max_relative_error"):
            found[which] = max(found[which], report[which])
    return found
