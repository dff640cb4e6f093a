"""Writing StableHLO bundles anew, by the JAX of today, without the code that made them."""

import collections
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
from fx_core.files import read_manifest

from fx_export.bundle import DATA, FORMAT, VERSION, Bundle, StrPath, exporter_named, load
from fx_export.errors import unreadable_bundle
from fx_export.exporting import new_bundle
from fx_export.verification import verified


def renew(path: StrPath, *, key: bytes | None = None, **options: Any) -> Path:
    """Writes a StableHLO bundle anew in its place, so that JAX promises half a year more of reading it.

    The programs are those in the bundle; names, metadata and weights stay, and what is written is compared with what
    was there. It works while the JAX of today reads the bundle.

    Args:
      path: the bundle.
      key: the key that it is signed with.
      **options: for the exporter: ``stablehlo`` for older readers.

    Returns:
      The path.

    Raises:
      BundleError: it is of another format, or cannot be read any more.
      VerificationError: the new one computes something else; the old one stays.

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
    with new_bundle(old.path, "stablehlo", manifest["metadata"], True, key) as new:
        data = new.directory / DATA
        _write(writer, data, old, options)
        again = writer.load_several(data) if old.entry_points else {"": writer.load(data)}
        for name, program in programs.items():
            verified(again[name], *_of(program))
        kept = {k: v for k, v in manifest.items() if k not in ("files", "digest", "signature", "format", "version")}
        new.manifest.update(kept)
    return new.path


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
    variables = collections.OrderedDict(zip(program.weight_names, program.weights, strict=True))
    specs = jax.tree.map(lambda aval: jax.ShapeDtypeStruct(aval.shape, aval.dtype), program.inputs)
    return lambda variables, *inputs: program.exported.call(list(variables.values()), *inputs), variables, specs
