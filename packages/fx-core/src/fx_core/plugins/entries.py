"""What a plugin may register: one frozen, typed entry per kind.

An entry only *names* things: its target is a string ``"module:attribute"`` that is not imported until a caller asks for
the entry by name. So a plugin's hooks are cheap, and a plugin with a broken dependency breaks only its users.
"""

import dataclasses
import importlib
import sys
from typing import Any, ClassVar, Literal, Self

from fx_core.errors.plugins import EntryLoadError
from fx_core.plugins.known import FAMILY

Broadcast = Literal["broadcast"]
Carry = Literal["carry"]


@dataclasses.dataclass(frozen=True)
class Origin:
    """Where a plugin comes from.

    Attributes:
      plugin: name of its entry point, or the name it was registered under by hand.
      module: what the entry point names.
      distribution: name of the installed distribution; None for what was registered by hand.
      version: version of that distribution.
    """

    plugin: str
    module: str
    distribution: str | None = None
    version: str | None = None

    @property
    def owner(self) -> str:
        """The distribution, or the plugin where there is none: what a person knows it by."""
        return self.distribution or self.plugin


@dataclasses.dataclass(frozen=True, kw_only=True)
class Entry:
    """What all entries have.

    Attributes:
      name: unique within its kind. Third parties use ``"vendor.Thing"``; names without a dot are fx's own.
      target: ``"module:attribute"``, imported on first use.
      summary: one line for listings.
      origin: the plugin that registered it; the registry fills it in.
    """

    kind: ClassVar[str] = "entry"

    name: str
    target: str
    summary: str
    origin: Origin | None = dataclasses.field(default=None, compare=False, repr=False)

    @property
    def label(self) -> str:
        """The kind of entry in words."""
        return self.kind.replace("_", " ")

    def load(self) -> Any:
        """Imports the target and returns it.

        Raises:
          EntryLoadError: it cannot be imported; the text names the distribution, the extra to install and the cause.

        Example:
          >>> CommandEntry(name="acme.join", target="os.path:join", summary="Any target will do").load()
          <function join at ...>
        """
        return self._load(self.target)

    def _load(self, target: str) -> Any:
        module, _, attribute = target.partition(":")
        try:
            found: Any = importlib.import_module(module)
            for part in attribute.split("."):
                found = getattr(found, part)
        # A dependency may raise anything while it is imported, and some call sys.exit.
        except (Exception, SystemExit) as error:
            raise EntryLoadError(
                self.label,
                self.name,
                target,
                describe(error),
                self.origin.distribution if self.origin else None,
                getattr(self, "extra", None),
                _absent(error),
            ) from error
        return found


def _absent(error: BaseException) -> str | None:
    """Tell which distribution of fx would have brought the module that was not found."""
    if isinstance(error, ModuleNotFoundError) and error.name:
        distribution = error.name.partition(".")[0].replace("_", "-")
        # A missing part of an installed package is a fault of that package, not its absence.
        return distribution if distribution in FAMILY and "." not in error.name else None
    return None


def describe(error: BaseException) -> str:
    """Describes an exception in one line.

    >>> describe(ModuleNotFoundError("No module named 'orbax'"))
    "ModuleNotFoundError: No module named 'orbax'"
    """
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


@dataclasses.dataclass(frozen=True, kw_only=True)
class LayerEntry(Entry):
    """A layer class.

    Attributes:
      face: ``"linen"`` or ``"nnx"``, or ``"both"`` where the target is a `fx_core.layers.Layer`, which is written once
        for the two. One name may be registered once per face.
    """

    kind: ClassVar[str] = "layer"

    face: Literal["linen", "nnx", "both"]

    @property
    def label(self) -> str:
        """The kind of entry in words."""
        return "layer of Linen and NNX" if self.face == "both" else f"{self.face} layer"

    def of_face(self, face: Literal["linen", "nnx"]) -> Self | None:
        """Returns the entry as a face has it; None where it is one of the other face.

        >>> both = LayerEntry(name="acme.Scale", target="acme.layers:Scale", face="both", summary="Scales")
        >>> both.of_face("nnx").label
        'nnx layer'
        """
        if self.face == "both":
            return _SharedLayerEntry(**{**vars(self), "face": face})  # type: ignore[return-value]
        return self if self.face == face else None

    def load(self) -> Any:
        """Imports the target and returns it, as a class of the face.

        Raises:
          EntryLoadError: it, or the package of the face, cannot be imported.
        """
        target = super().load()
        return (
            self._load(f"fx_{self.face}:from_layer")(target) if self.face != "both" and _is_shared(target) else target
        )


class _SharedLayerEntry(LayerEntry):
    """An entry for Linen and NNX, as one of them has it."""

    def load(self) -> Any:
        if not _is_shared(found := self._load(self.target)):
            raise EntryLoadError(
                self.label,
                self.name,
                self.target,
                f"{getattr(found, '__name__', found)!r} is no fx_core.layers.Layer, as face='both' needs",
                self.origin.distribution if self.origin else None,
            )
        return super().load()


def _is_shared(target: Any) -> bool:
    """Whether a target is a layer that is written once; whoever defines one has imported the module asked here."""
    shared = getattr(sys.modules.get("fx_core.layers"), "Layer", None)
    return shared is not None and isinstance(target, type) and issubclass(target, shared)


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
class OnnxPrimitiveEntry(Entry):
    """How ONNX computes a primitive of JAX.

    The target is a function ``translate(build, eqn, *inputs)`` of a `fx_export.onnx.builder.Builder`, the equation of
    the traced program, and a `fx_export.onnx.tensor.Tensor` for each input; it gives one for each output.

    Attributes:
      primitive: name of the primitive.
    """

    kind: ClassVar[str] = "onnx_primitive"

    primitive: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelEntry(Entry):
    """A kind of model that can be exported.

    The target is a function ``as_function(model, variables, **call)`` that gives a pure function of variables and
    inputs, and the variables as a pytree of dicts; ``call`` are keyword arguments of the model's call.

    Attributes:
      type: ``"module:Class"``, the base class of such models; it is compared with, never imported.
      inference: ``"module:attribute"`` of a function ``for_inference(model, variables)`` that gives model and variables
        in evaluation mode without what only training needs, and pairs of a path and a text that say what it did; None
        where there is none.
      resize: ``"module:attribute"`` of a function that lets a model, whose parameters became smaller, take its sizes
        from them; None where a model has none.
    """

    kind: ClassVar[str] = "model"

    type: str
    inference: str | None = None
    resize: str | None = None

    def load_inference(self) -> Any:
        """Imports the function ``inference`` and returns it; None where there is none.

        Raises:
          EntryLoadError: it cannot be imported.
        """
        return None if self.inference is None else self._load(self.inference)

    def load_resize(self) -> Any:
        """Imports the function ``resize`` and returns it; None where there is none.

        Raises:
          EntryLoadError: it cannot be imported.
        """
        return None if self.resize is None else self._load(self.resize)


@dataclasses.dataclass(frozen=True, kw_only=True)
class CommandEntry(Entry):
    """A sub-command of ``fx``; the target is a `click.Command`."""

    kind: ClassVar[str] = "command"
