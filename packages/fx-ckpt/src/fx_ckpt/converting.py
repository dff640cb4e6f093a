"""Checkpoints in another backend's format."""

from pathlib import Path

from fx_core.files import local_path, settled, verify_files

from fx_ckpt.draft import DATA, ITERATORS, Draft, load_backend
from fx_ckpt.formats import digests
from fx_ckpt.operations import StrPath, inspect, manifest_of


def convert(path: StrPath, to: str, destination: StrPath | None = None, *, overwrite: bool = False) -> Path:
    """Writes a checkpoint in the format of another backend; everything else stays as it is.

    Args:
      path: the checkpoint.
      to: name of the backend.
      destination: where to write; without it the checkpoint is replaced, whole or not at all.
      overwrite: replace a checkpoint at the destination.

    Returns:
      Where the new checkpoint is.

    Raises:
      ManifestError: this is no checkpoint, or its manifest is damaged.
      DamagedFilesError: a file was changed, cut, removed or added.
      AlreadyExistsError: there is something at the destination; what is no checkpoint is never replaced.
      UnknownEntryError: there is no such backend.

    Example:
      >>> import tempfile, fx_ckpt
      >>> path = fx_ckpt.save(tempfile.mkdtemp() + "/final", {"step": 3}, backend="msgpack")
      >>> fx_ckpt.inspect(convert(path, "safetensors")).backend
      'safetensors'
    """
    source = settled(path)
    manifest = manifest_of(source)
    info = inspect(path)
    writer = load_backend(to)
    verify_files(source, manifest, matches=digests.matches)
    state = load_backend(info.backend).restore(source / DATA)
    fields = {key: value for key, value in manifest.items() if key not in _OWN}
    fields["backend_reason"] = f"converted from {info.backend}"
    draft = Draft(
        local_path(path if destination is None else destination),
        overwrite or destination is None,
        to,
        writer,
        info.structure,
        state,
        None,
        fields,
        beside=source / ITERATORS,
    )
    return draft.write()


_OWN = {"format", "version", "files", "backend", "structure"}
"""Fields of the manifest that belong to the directory, or are written with it."""
