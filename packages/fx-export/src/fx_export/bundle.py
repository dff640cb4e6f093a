"""Inference bundles: a directory with a manifest, and an exporter's files below ``data/``."""

import dataclasses
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fx_core.errors import ItemNotFoundError
from fx_core.files import local_path, read_manifest, verify_files
from fx_core.lazy_imports import import_later
from fx_core.replacing import read_whole

from fx_export.checking import files_are_as_written
from fx_export.errors import exporter_option, unreadable_bundle

if TYPE_CHECKING:
    from fx_core.plugins import Exporter

FORMAT, VERSION = "fx-bundle", 2
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
      program: the function that the exporter gave; in a bundle of several networks it refuses every call.
      entry_points: the networks by name, where there are several.

    >>> import tempfile
    >>> import jax.numpy as jnp
    >>> import fx_export
    >>> double = lambda scale, x: scale * x
    >>> path = fx_export.export(tempfile.mkdtemp() + "/double", double, 2.0, [jnp.ones(2)], metadata={"run": "a"})
    >>> bundle = fx_export.load(path)
    >>> bundle.exporter, bundle.metadata
    ('stablehlo', {'run': 'a'})
    """

    path: Path
    exporter: str
    metadata: Mapping[str, Any]
    written_by: Mapping[str, str]
    verification: Mapping[str, Any] | None = dataclasses.field(repr=False)
    program: Callable[..., Any] = dataclasses.field(repr=False)
    entry_points: Mapping[str, Callable[..., Any]] = dataclasses.field(default_factory=dict, repr=False)

    def __call__(self, *inputs: Any, **named: Any) -> Any:
        """Computes the outputs.

        Args:
          *inputs: the inputs.
          **named: the inputs by the names of their arrays instead, where the format keeps names.

        Raises:
          InputMismatchError: the inputs are not those that were exported.
        """
        return self.program(*inputs, **named)

    def __getitem__(self, name: str) -> Callable[..., Any]:
        """Returns one of several networks.

        Raises:
          ItemNotFoundError: there is none of this name.
        """
        if not isinstance(name, str) or name not in self.entry_points:
            raise _entry_point(str(self.path), repr(name), sorted(self.entry_points))
        return self.entry_points[name]


def load(path: StrPath, *, key: bytes | None = None, compiled: StrPath | None = None, mmap: bool = False) -> Bundle:
    """Loads a bundle, after checking every byte of it.

    A bundle is a program: one from a stranger can compute anything, and a malformed one can end the process in JAX's
    compiler. Load bundles of authors whom you trust; a key makes sure that a bundle is theirs.

    Args:
      path: where `export` wrote it.
      key: the key that it has to be signed with; None accepts any bundle.
      compiled: a directory of yours for what JAX compiles out of a StableHLO bundle: later processes with the same JAX
        on the same hardware take it from there in place of compiling again. Whoever can write there can run code here.
      mmap: memory-map the weights of a StableHLO bundle in place of reading them: on a CPU the network computes with
        the pages of the file, which all processes that do so share. They are checked like others, but only once: a
        program that writes into that file later changes the weights of this process, and one that truncates it crashes
        the process. fx never writes into a bundle; `export` with ``overwrite`` and `renew` put another file in its
        place, and this process keeps the old one. The weights are read where the system cannot map the file.

    Returns:
      The network as a function of its inputs.

    Raises:
      ManifestError: this is no bundle, its manifest is damaged, or was not signed with the key.
      DamagedFilesError: a file was changed, cut, removed or added.
      BundleError: the exporter cannot read what is there.
      PlatformError: it was made for other hardware.
      ArgumentTypeError: ``compiled`` or ``mmap`` was given, and JAX has no part in this format; or a path is none, or
        ``mmap`` neither True nor False.
      AlreadyExistsError: ``compiled`` is a file.

    >>> import tempfile
    >>> import jax.numpy as jnp
    >>> import fx_export
    >>> path = fx_export.export(tempfile.mkdtemp() + "/double", lambda scale, x: scale * x, 2.0, [jnp.ones(2)])
    >>> fx_export.load(path)(jnp.ones(2)).tolist()
    [2.0, 2.0]
    """
    if compiled == "":
        raise exporter_option("stablehlo", "compiled: a directory of yours", "an empty text")
    if not isinstance(mmap, bool):
        raise exporter_option("stablehlo", "mmap: True or False", repr(mmap)[:200])
    directory = None if compiled is None else os.fspath(local_path(compiled))
    return read_whole(path, "bundle", lambda source: _loaded(source, key, directory, mmap))


def _loaded(source: Path, key: bytes | None, compiled: str | None, mapped: bool) -> Bundle:
    manifest = read_manifest(source, format=FORMAT, version=VERSION, key=key)
    name, metadata, written_by = (_field(source, manifest, *field) for field in _FIELDS.items())
    verification, reader = _verification(source, manifest), _reader(name)
    entry_points: dict[str, Callable[..., Any]] = {}
    with _checked(source, manifest, reader, mapped) as how:
        if "entry_points" in manifest:
            entry_points = load_several(reader, source / DATA, _entry_names(source, manifest), **how)
            program: Callable[..., Any] = _Several(str(source), sorted(entry_points))
        else:
            program = reader.load(source / DATA, **how)
        if compiled is not None:
            _keep_compiled(name, list(entry_points.values()) or [program], compiled)
    return Bundle(source, name, metadata, written_by, verification, program, entry_points)


@contextmanager
def _checked(source: Path, manifest: Mapping[str, Any], reader: Any, mapped: bool) -> Iterator[dict[str, Any]]:
    """Check the files, and say how the reader is to read them: by itself, unless it takes what was compared."""
    arrays = getattr(reader, "arrays_alone", None)
    if arrays is None:
        if mapped:
            raise exporter_option(manifest["exporter"], "no mmap: its own runtime reads the weights", "mmap=True")
        verify_files(source, manifest)
        yield {}
    else:
        with files_are_as_written(source, manifest, [f"{DATA}/{file}" for file in arrays], mapped=mapped) as read:
            yield {"read": read}


def _keep_compiled(exporter: str, programs: Sequence[Any], directory: str) -> None:
    for program in programs:
        if not hasattr(program, "keep_compiled"):
            raise exporter_option(exporter, "no directory for compiled programs: JAX compiles none", directory)
        program.keep_compiled(directory)


def load_several(exporter: Any, data: Path, names: Sequence[str], **how: Any) -> dict[str, Callable[..., Any]]:
    """Returns several networks by name: what the exporter wrote as one, or one directory each."""
    if hasattr(exporter, "load_several"):
        programs = exporter.load_several(data, **how)
        if sorted(programs) != sorted(names):
            raise unreadable_bundle(
                str(data), "it has other entry points than the manifest says.", got=sorted(programs)
            )
        return programs
    return {name: exporter.load(data / name, **how) for name in names}


def _entry_names(path: StrPath, manifest: Mapping[str, Any]) -> list[str]:
    names = _field(path, manifest, "entry_points", list)
    # They are names of directories.
    if not names or not all(isinstance(name, str) and name.isidentifier() for name in names):
        raise unreadable_bundle(str(path), "the names of entry points are no identifiers.", got=str(names)[:80])
    return names


class _Several:
    """What stands for the program where a name has to be chosen first."""

    def __init__(self, path: str, names: Sequence[str]):
        self._path, self._names = path, names

    def __call__(self, *inputs: Any, **named: Any) -> Any:
        raise _entry_point(self._path, None, self._names)


_FIELDS: dict[str, type] = {"exporter": str, "metadata": dict, "written_by": dict}


def _field(path: StrPath, manifest: Mapping[str, Any], name: str, kind: type) -> Any:
    if name not in manifest:
        raise unreadable_bundle(str(path), f"the manifest lacks {name!r}.")
    if not isinstance(manifest[name], kind):
        raise unreadable_bundle(
            str(path), f"{name!r} in the manifest is no {kind.__name__}.", got=repr(manifest[name])[:80]
        )
    return manifest[name]


def _verification(path: StrPath, manifest: Mapping[str, Any]) -> Mapping[str, Any] | None:
    found = manifest.get("verification")
    if found is not None and not (isinstance(found, dict) and isinstance(found.get("trials"), list)):
        problem = "'verification' in the manifest lists no trials."
        raise unreadable_bundle(str(path), problem, got=repr(found)[:80])
    return found


def _reader(name: str) -> "Exporter":
    # Names without a dot are fx's own. Asking the registry would import every installed plugin, the training packages
    # among them; a server needs none of those, and for StableHLO no plugins at all.
    if name == "stablehlo":
        return import_later("fx_export.stablehlo").StableHLOExporter()
    own = {entry.name: entry for entry in import_later("fx_export.plugin").fx_exporters()}
    return own[name].load()() if name in own else exporter_named(name)


def exporter_named(name: str) -> "Exporter":
    """Returns an exporter by name.

    Raises:
      UnknownEntryError: there is no such exporter.
      ArgumentTypeError: it is no name.
    """
    if not isinstance(name, str):
        raise exporter_option(name, "format: the name of an exporter", repr(name)[:200])
    return import_later("fx_core.plugins").registry().exporters[name].load()()


def _entry_point(path: str, got: str | None, names: Sequence[str]) -> ItemNotFoundError:
    return ItemNotFoundError(
        "This bundle has several networks." if got is None else f"This bundle has no entry point {got}.",
        path=path,
        expected=", ".join(names) or "no names: it is one network",
        got=got,
        fix=f"Choose one: load(path)[{names[0]!r}](...)." if names else "Call it: load(path)(...).",
    )
