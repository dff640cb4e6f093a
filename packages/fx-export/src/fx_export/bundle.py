"""Inference bundles: a directory with a manifest, and an exporter's files below ``data/``."""

import dataclasses
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from fx_core.files import read_manifest, settled, verify_files
from fx_core.plugins import Exporter, registry

from fx_export.errors import BundleError
from fx_export.plugin import fx_exporters

FORMAT, VERSION = "fx-bundle", 1
DATA = "data"

StrPath = str | os.PathLike[str]


@dataclasses.dataclass(frozen=True)
class Bundle:
    """A loaded network; call it with the inputs.

    Attributes:
      path: where it was loaded from.
      exporter: name of the exporter that made it.
      metadata: what was stored beside it.
      written_by: versions of the packages that made it.
      verification: how it was compared with the model, None where it was not.
      program: the function that the exporter gave.
    """

    path: Path
    exporter: str
    metadata: Mapping[str, Any]
    written_by: Mapping[str, str]
    verification: Mapping[str, Any] | None = dataclasses.field(repr=False)
    program: Callable[..., Any] = dataclasses.field(repr=False)

    def __call__(self, *inputs: Any) -> Any:
        """Compute the outputs.

        Raises:
          InputMismatchError: the inputs are not those that were exported.
        """
        return self.program(*inputs)


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
    verification = manifest.get("verification")
    return Bundle(source, name, metadata, written_by, verification, _reader(name).load(source / DATA))


_FIELDS: dict[str, type] = {"exporter": str, "metadata": dict, "written_by": dict}


def _field(path: StrPath, manifest: Mapping[str, Any], name: str, kind: type) -> Any:
    if name not in manifest:
        raise BundleError(str(path), f"the manifest lacks {name!r}.")
    if not isinstance(manifest[name], kind):
        raise BundleError(str(path), f"{name!r} in the manifest is no {kind.__name__}.", got=repr(manifest[name])[:80])
    return manifest[name]


def _reader(name: str) -> Exporter:
    # Names without a dot are fx's own. Asking the registry would import every installed plugin, the training packages
    # among them; a server needs none of those.
    own = {entry.name: entry for entry in fx_exporters()}
    return own[name].load()() if name in own else exporter_named(name)


def exporter_named(name: str) -> Exporter:
    """Give an exporter by name.

    Raises:
      UnknownEntryError: there is no such exporter.
    """
    return registry().exporters[name].load()()
