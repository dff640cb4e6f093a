"""Turning a module class into a dataclass."""

import dataclasses
import inspect
from typing import Any

from fx_core.errors import ReservedModuleAttributeError

from fx_linen.module._base import ModuleBase
from fx_linen.module._state import ClassInfo

__all__ = ["as_dataclass"]


def as_dataclass(cls: type[ModuleBase], kw_only: bool) -> None:
    """Creates ``cls`` a dataclass and collects what the module machinery asks about it.

    ``parent`` and ``name`` come from the base and are keyword-only, so a subclass may add fields with or without
    defaults as any dataclass may. Equality, hash and representation are the base's, unless the class has its own.

    Args:
      cls: the new class.
      kw_only: whether its own fields can be given by keyword only.

    Raises:
      ReservedModuleAttributeError: the class declares ``parent``, or a ``name`` that is not the base's.
    """
    _expect_free_names(cls)
    if cls.__dict__.get("__hash__", _ABSENT) is None:
        # Python drops the hash of a class that defines __eq__; ours goes by the fields either way.
        cls.__hash__ = super(cls, cls).__hash__  # type: ignore[method-assign]
    dataclasses.dataclass(cls, eq=False, repr=False, kw_only=kw_only)  # type: ignore[call-overload]
    fields: dict[str, Any] = cls.__dataclass_fields__  # type: ignore[attr-defined]
    # Programs that list the fields expect those of the base, which Python puts first, at the end.
    fields |= {"parent": fields.pop("parent"), "name": fields.pop("name")}
    cls._info = class_info(cls)


def _expect_free_names(cls: type[ModuleBase]) -> None:
    """Checks what a class declares under the names of the base: the base's own ``name`` again is no change."""
    annotations = cls.__annotations__ if inspect.get_annotations(cls) else {}
    taken = [key for key in ("parent", "name") if key in annotations]
    if taken == ["name"] and annotations["name"] in _NAME_TYPES and cls.__dict__.get("name") is None:
        del annotations["name"]
        if "name" in cls.__dict__:
            del cls.name
    elif taken:
        raise ReservedModuleAttributeError({key: annotations[key] for key in taken})


_ABSENT = object()
_NAME_TYPES = (str, str | None, "str", "str | None", "Optional[str]", "typing.Optional[str]")


def class_info(cls: Any) -> ClassInfo:
    """Collects the facts about a class that is a dataclass already."""
    every = [field for field in dataclasses.fields(cls) if field.name not in ("parent", "name")]
    compared = [field for field in every if field.compare]
    return ClassInfo(
        fields=tuple(field.name for field in every if field.init),
        compared=tuple(field.name for field in compared),
        hashed=tuple(field.name for field in every if (field.compare if field.hash is None else field.hash)),
        shown=tuple(field.name for field in every if field.repr),
        has_setup=cls.setup is not ModuleBase.setup,
    )
