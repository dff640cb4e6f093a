"""What a plugin may register: one frozen, typed entry per kind.

An entry only *names* things: its target is a string ``"module:attribute"`` that nobody imports until someone asks for
the entry by name. So a plugin's hooks are cheap, and a plugin with a broken dependency breaks only its users.
"""

import dataclasses
from typing import ClassVar, Literal

Broadcast = Literal["broadcast"]
Carry = Literal["carry"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Entry:
    """What all entries have.

    Attributes:
      name: unique within its kind. Third parties use ``"vendor.Thing"``; names without a dot are fx's own.
      target: ``"module:attribute"``, imported on first use.
      summary: one line for listings.
    """

    kind: ClassVar[str] = "entry"

    name: str
    target: str
    summary: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class LayerEntry(Entry):
    """A layer class.

    Attributes:
      face: ``"linen"`` or ``"nnx"``. One name may be registered once per face.
    """

    kind: ClassVar[str] = "layer"

    face: Literal["linen", "nnx"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class CollectionEntry(Entry):
    """A variable collection and the NNX variable type that stands for it.

    ``target`` names the variable type, such as ``"fx_nnx:Param"``.

    Attributes:
      vmap_slot: the collection's place in a vmap unless the caller says otherwise: an axis, or ``"broadcast"``.
      scan_slot: the same for scan: an axis, ``"broadcast"`` or ``"carry"``.
      saved: whether checkpoints hold it.
      mutable_in_init: whether ``init`` creates and returns it.
      differentiable: whether gradients are taken with respect to it by default.
    """

    kind: ClassVar[str] = "collection"

    vmap_slot: int | Broadcast = 0
    scan_slot: int | Broadcast | Carry = 0
    saved: bool = True
    mutable_in_init: bool = True
    differentiable: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class CheckpointBackendEntry(Entry):
    """A way to store trees on disk; the target is a `fx_core.plugins.interfaces.CheckpointBackend` class.

    Attributes:
      extra: the extra of the distribution that brings its dependencies, for the error when they are absent.
    """

    kind: ClassVar[str] = "checkpoint_backend"

    extra: str | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExporterEntry(Entry):
    """A way to ship a network; the target is a `fx_core.plugins.interfaces.Exporter` class.

    Attributes:
      extra: the extra of the distribution that brings its dependencies, for the error when they are absent.
    """

    kind: ClassVar[str] = "exporter"

    extra: str | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class LoggerEntry(Entry):
    """A destination for metrics; the target is a `fx_core.plugins.interfaces.MetricLogger` class.

    Attributes:
      extra: the extra of the distribution that brings its dependencies, for the error when they are absent.
    """

    kind: ClassVar[str] = "logger"

    extra: str | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class CommandEntry(Entry):
    """A sub-command of ``fx``; the target is a `click.Command`."""

    kind: ClassVar[str] = "command"
