"""Inference bundles: a directory with a manifest, and an exporter's files below ``data/``."""

import dataclasses
import datetime
import inspect
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
from fx_core.files import AtomicDirectory, canonical_json, read_manifest, settled, verify_files
from fx_core.plugins import Exporter, registry

from fx_export._version import __version__
from fx_export.errors import BundleError, ExporterOptionError
from fx_export.plugin import fx_exporters

FORMAT, VERSION = "fx-bundle", 1
_DATA = "data"

StrPath = str | os.PathLike[str]


@dataclasses.dataclass(frozen=True)
class Bundle:
    """A loaded network; call it with the inputs.

    Attributes:
      path: where it was loaded from.
      exporter: name of the exporter that made it.
      metadata: what was stored beside it.
      written_by: versions of the packages that made it.
      program: the function that the exporter gave.
    """

    path: Path
    exporter: str
    metadata: Mapping[str, Any]
    written_by: Mapping[str, str]
    program: Callable[..., Any] = dataclasses.field(repr=False)

    def __call__(self, *inputs: Any) -> Any:
        """Compute the outputs.

        Raises:
          InputMismatchError: the inputs are not those that were exported.
        """
        return self.program(*inputs)


def export(
    path: StrPath,
    fn: Callable[..., Any],
    variables: Any,
    inputs: Sequence[Any],
    *,
    exporter: str = "stablehlo",
    metadata: Mapping[str, Any] | None = None,
    overwrite: bool = False,
    key: bytes | None = None,
    **options: Any,
) -> Path:
    """Write ``fn(variables, *inputs)`` as a bundle that runs without the code that made it.

    Args:
      path: the directory to make; it appears whole or not at all.
      fn: a pure function of the variables and the inputs.
      variables: a pytree of arrays: the weights.
      inputs: an example or a `jax.ShapeDtypeStruct` for each input; sizes from `jax.export.symbolic_shape` stay free.
      exporter: name of the exporter: ``"stablehlo"``, or a plugin's.
      metadata: what else to keep, as JSON: labels, preprocessing, where it comes from.
      overwrite: replace a bundle at ``path``; nothing else is ever replaced.
      key: signs the bundle (HMAC-SHA256), for whoever loads it with the same key.
      **options: for the exporter; ``"stablehlo"`` takes ``platforms``, by default cpu, cuda and tpu.

    Returns:
      The path.

    Raises:
      UnsupportedProgramError: the function has effects or callbacks, or takes or returns custom containers.
      UnsupportedWeightError: a variable is no array of numbers.
      ExporterOptionError: the exporter does not take an option, or the inputs are no list.
      PathTakenError: there is something at the path.
      PathError: the path is the URL of another place, or no name of a file.
      NotJsonError: JSON cannot hold the metadata.
      UnknownEntryError: there is no such exporter.

    Example:
      >>> import tempfile, jax, jax.numpy as jnp
      >>> x = jax.ShapeDtypeStruct(jax.export.symbolic_shape("batch, 3"), jnp.float32)
      >>> path = export(tempfile.mkdtemp() + "/net", lambda w, x: x @ w, jnp.ones((3, 2)), [x], platforms=["cpu"])
      >>> load(path)(jnp.ones((4, 3))).shape
      (4, 2)
    """
    kept = dict(metadata or {})
    canonical_json(kept, "metadata")
    writer = _exporter(exporter)
    _check_options(exporter, writer, options)
    if not isinstance(inputs, (list, tuple)):
        # An array would be taken for as many inputs as it has rows.
        raise ExporterOptionError(exporter, "inputs as a list or tuple, one entry for each", f"{type(inputs).__name__}")
    with AtomicDirectory(path, format=FORMAT, version=VERSION, overwrite=overwrite, key=key) as new:
        (new.directory / _DATA).mkdir()
        writer.export(new.directory / _DATA, fn, variables, inputs, metadata=kept, **options)
        new.manifest.update(
            exporter=exporter,
            metadata=kept,
            created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            written_by={"fx-export": __version__, "jax": jax.__version__},
        )
    return new.path


def load(path: StrPath, *, key: bytes | None = None) -> Bundle:
    """Load a bundle, after checking every byte of it.

    A bundle is a program: one from a stranger can compute anything, and a malformed one can end the process in JAX's
    compiler. Load what you have from somebody you trust; a key makes sure that it is theirs.

    Args:
      path: where `export` wrote it.
      key: the key that it has to be signed with; None accepts any bundle.

    Returns:
      The network as a function of its inputs.

    Raises:
      ManifestError: this is no bundle, its manifest is damaged, or was not signed with the key.
      DamagedFilesError: a file was changed, cut, removed or added.
      BundleError: the exporter cannot read what is there.
      PlatformError: it was made for other hardware.
    """
    source = settled(path)
    manifest = read_manifest(source, format=FORMAT, version=VERSION, key=key)
    verify_files(source, manifest)
    name, metadata, written_by = (_field(path, manifest, *field) for field in _FIELDS.items())
    return Bundle(source, name, metadata, written_by, _reader(name).load(source / _DATA))


_FIELDS: dict[str, type] = {"exporter": str, "metadata": dict, "written_by": dict}


def _field(path: StrPath, manifest: Mapping[str, Any], name: str, kind: type) -> Any:
    if name not in manifest:
        raise BundleError(str(path), f"the manifest lacks {name!r}.")
    if not isinstance(manifest[name], kind):
        raise BundleError(str(path), f"{name!r} in the manifest is no {kind.__name__}.", got=repr(manifest[name])[:80])
    return manifest[name]


def _exporter(name: str) -> Exporter:
    return registry().exporters[name].load()()


def _reader(name: str) -> Exporter:
    # Names without a dot are fx's own. Asking the registry would import every installed plugin, the training packages
    # among them; a server needs none of those.
    own = {entry.name: entry for entry in fx_exporters()}
    return own[name].load()() if name in own else _exporter(name)


def _check_options(name: str, exporter: Exporter, options: Mapping[str, Any]) -> None:
    try:
        inspect.signature(exporter.export).bind(Path(), None, None, (), metadata={}, **options)
    except TypeError as error:
        raise ExporterOptionError(name, str(inspect.signature(exporter.export)), str(error)) from None
