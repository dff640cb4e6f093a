"""Attributes that subclasses of variables set on themselves.

They are metadata, so that clones, states and compiled functions have them, too. A class that inherits from a foreign
class has a dictionary of attributes as well, where those without a hash stay: these are copied with the variable, but
no structure knows of them.
"""

from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any

from fx_core.errors import InvalidAttributeError

from fx_nnx.trace_state import TraceState
from fx_nnx.variables.fields import VariableFields
from fx_nnx.variables.metadata import HOOKS, REQUIRED, Metadata, make_metadata

__all__ = [
    "MetadataView",
    "delete_attribute",
    "early_attributes",
    "extras_of",
    "metadata_from",
    "parts_of",
    "put_extras",
    "set_attribute",
    "state_of",
]

_meta = VariableFields.__dict__["_nnx_meta"]
_raw_value = VariableFields.__dict__["_raw_value"]
_REQUIRED = make_metadata(REQUIRED)


class MetadataView(MutableMapping[str, Any]):
    """The metadata of a variable as a dictionary that can be changed."""

    __slots__ = ("_owner",)

    def __init__(self, owner: Any):
        self._owner = owner

    def __getitem__(self, name: str) -> Any:
        return _metadata_of(self._owner)[name]

    def __setitem__(self, name: str, value: Any) -> None:
        self._owner._nnx_set_meta(_metadata_of(self._owner).updated(**{name: value}))

    def __delitem__(self, name: str) -> None:
        meta = _metadata_of(self._owner)
        if name not in meta:
            raise KeyError(name)
        self._owner._nnx_set_meta(meta.without(name))

    def __iter__(self) -> Iterator[str]:
        return iter(_metadata_of(self._owner))

    def __len__(self) -> int:
        return len(_metadata_of(self._owner))

    def __repr__(self) -> str:
        return repr(dict(self))


def set_attribute(variable: Any, name: str, value: Any) -> None:
    """Sets an attribute: by a property or slot of its class, or as metadata if the class is a user's.

    Raises:
      InvalidAttributeError: the class has no such attribute and is one of ours.
    """
    cls = type(variable)
    found = getattr(cls, name, None)
    if hasattr(type(found), "__set__") and not (isinstance(found, property) and found.fset is None):
        object.__setattr__(variable, name, value)
        return
    if isinstance(found, property) or not cls._nnx_open:
        raise InvalidAttributeError(
            f"Cannot set attribute {name!r} of {cls.__name__}.",
            fix=f"variable.set_metadata({name}=value) for metadata, variable[...] = value for the value",
        )
    ready = _is_made(variable)
    if ready:
        variable._nnx_check_trace()
    attributes, meta = own_attributes(variable), _metadata_of(variable, required=ready)
    if attributes is not None and not _is_hashable(value):
        attributes[name] = value
        if name in meta:
            variable._nnx_set_meta(meta.without(name))
        return
    if attributes is not None:
        attributes.pop(name, None)
    variable._nnx_set_meta(meta.updated(**{name: value}))


def delete_attribute(variable: Any, name: str) -> None:
    """Deletes an attribute that `set_attribute` has set.

    Raises:
      AttributeError: there is none.
    """
    if type(variable)._nnx_open and name not in (own_attributes(variable) or ()) and name in _metadata_of(variable):
        variable.del_metadata(name)
    else:
        object.__delattr__(variable, name)


def early_attributes(variable: Any, *, new: bool) -> dict[str, Any]:
    """Returns the metadata that a variable has by its class: hooks that are methods of it, and the attributes that a
    foreign base class has set before the variable was made.

    Args:
      variable: the variable, before it is initialized.
      new: whether nothing was set yet.
    """
    cls = type(variable)
    hooks = {name: hook for name in HOOKS if (hook := getattr(cls, name, None)) is not None}
    return hooks if new or _is_made(variable) else {**hooks, **_metadata_of(variable, required=False)}


def own_attributes(variable: Any) -> dict[str, Any] | None:
    """Returns the dictionary of attributes, if the class has one by a base class that is no variable."""
    return object.__getattribute__(variable, "__dict__") if type(variable).__dictoffset__ else None


def extras_of(variable: Any) -> dict[str, Any]:
    """Returns attributes that are not metadata: those in the dictionary, and in slots that subclasses have."""
    kind = type(variable)
    if not kind.__dictoffset__ and kind.__basicsize__ == VariableFields.__basicsize__:
        return {}
    found = dict(own_attributes(variable) or {})
    for cls in kind.__mro__:
        slots = vars(cls).get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if name not in VariableFields.__slots__ and hasattr(type(getattr(cls, name, None)), "__set__"):
                try:
                    found[name] = object.__getattribute__(variable, name)
                except AttributeError:
                    continue  # not set
    return found


def put_extras(variable: Any, extras: Mapping[str, Any]) -> None:
    """Sets attributes that `extras_of` gave."""
    for name, value in extras.items():
        object.__setattr__(variable, name, value)


def state_of(variable: Any) -> dict[str, Any]:
    """Returns what a variable is made of again: value, metadata, trace and attributes."""
    value = variable._raw_value[...] if variable.ref else variable._raw_value
    state = {"_raw_value": value, "_var_metadata": variable._nnx_meta, "_trace_state": TraceState()}
    return {**extras_of(variable), **state}


def parts_of(state: Mapping[str, Any] | tuple[Any, Metadata]) -> tuple[Any, Metadata, dict[str, Any]]:
    """Returns value, metadata and other attributes of what `state_of` gave; or of a pair, as earlier versions
    pickled.
    """
    extras = {"_raw_value": state[0], "_var_metadata": state[1]} if isinstance(state, tuple) else dict(state)
    extras.pop("_trace_state", None)
    return extras.pop("_raw_value"), metadata_from(extras.pop("_var_metadata", {})), extras


def _metadata_of(variable: Any, *, required: bool = True) -> Metadata:
    try:
        return _meta.__get__(variable)
    except AttributeError:
        if required:
            raise
        return _REQUIRED


def _is_made(variable: Any) -> bool:
    try:
        _raw_value.__get__(variable)
    except AttributeError:
        return False
    return True


def _is_hashable(value: Any) -> bool:
    try:
        hash(value)
    except TypeError:
        return False
    return True


def metadata_from(entries: Mapping[str, Any]) -> Metadata:
    """Returns metadata with these entries, and the required ones."""
    return entries if isinstance(entries, Metadata) else make_metadata({**REQUIRED, **entries})
