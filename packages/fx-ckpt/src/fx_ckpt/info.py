"""What a checkpoint says about itself."""

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from fx_ckpt.tree.structure import Leaf, Node, spelled, step_of

_Path = tuple[Any, ...]


@dataclasses.dataclass(frozen=True)
class CheckpointInfo:
    """A checkpoint without its arrays.

    Attributes:
      path: where it is.
      backend: name of the backend that wrote it.
      backend_reason: why it was chosen, or that it was asked for.
      step: the step, if a manager wrote it.
      metrics: the metrics that were saved with it.
      metadata: what the caller stored beside the tree.
      created: when, in ISO format, UTC.
      written_by: versions of the packages that wrote it.
      files: size in bytes of each file.
      structure: containers, keys and leaves of the tree.
      left_out: paths of collections that were not stored, since a plugin registers them with ``saved=False``.

    >>> import tempfile
    >>> import fx_ckpt
    >>> path = fx_ckpt.save(tempfile.mkdtemp() + "/final", {"step": 3}, metadata={"run": "a"})
    >>> info = fx_ckpt.inspect(path)
    >>> info.backend, info.metadata, list(info.leaves())
    ('msgpack', {'run': 'a'}, ['step'])
    """

    path: Path
    backend: str
    backend_reason: str
    step: int | None
    metrics: Mapping[str, float]
    metadata: Any
    created: str
    written_by: Mapping[str, str]
    files: Mapping[str, int]
    structure: Node = dataclasses.field(repr=False)
    left_out: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(self.files.values())

    def leaves(self) -> dict[str, Leaf]:
        """Returns what each leaf is, by its path.

        A key such as ``"a/b"`` stands in braces where it would read like a path of two keys: ``{'a/b'}``.
        """
        found = dict(leaves_of(self.structure, ()))
        return {text: found[path] for path, text in spelled(found).items()}


def leaves_of(node: Node, path: _Path) -> Iterator[tuple[_Path, Leaf]]:
    """Yields the leaves below a path of a structure, with their paths."""
    if isinstance(node, Leaf):
        yield path, node
        return
    for key, child in zip(node.keys, node.children):
        yield from leaves_of(child, (*path, step_of(node.kind, key)))
