"""Variables: boxes for a value that changes, with metadata."""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, ClassVar, Generic, Self, TypeVar

import jax
from fx_core.compat.jax import at_top_level, current_trace, is_current

from fx_nnx.captures import constants, frames, note, warn_of_constant
from fx_nnx.errors import variable_type, wrong_metadata
from fx_nnx.links import announce
from fx_nnx.representation import Representable, show_fields, size_note
from fx_nnx.trace_state import ReadingOnly, TraceState, cannot_change
from fx_nnx.variables.attributes import (
    MetadataView,
    delete_attribute,
    early_attributes,
    extras_of,
    metadata_from,
    parts_of,
    put_extras,
    set_attribute,
    state_of,
)
from fx_nnx.variables.defaults import default_options
from fx_nnx.variables.fields import VariableFields, VariableType, filled, keep_links
from fx_nnx.variables.initial import VariableMetadata, rename, renamed
from fx_nnx.variables.metadata import (
    REQUIRED,
    Metadata,
    changes_of,
    check_options,
    first_metadata,
    hooks_of,
    make_metadata,
)
from fx_nnx.variables.operators import ValueOperators
from fx_nnx.variables.sharding import place
from fx_nnx.variables.writing import is_ref, new_ref, own_value, write_ref, written

__all__ = ["Variable", "new_variable"]

A = TypeVar("A")
_MISSING: Any = object()
_NO_VALUES = (*VariableFields.__slots__, "_var_metadata", "_trace_state")
"""Names that are never looked for in the value."""
_PROTOCOLS = ("__dlpack__", "__dlpack_device__", "__array_namespace__", "__cuda_array_interface__")
"""By which other libraries take arrays; a variable has those that its value has."""


class Variable(Representable, ValueOperators, VariableFields, Generic[A], metaclass=VariableType):
    """A box with a value that changes, an array or any pytree, and with metadata.

    The type of a variable says what it is for; filters select by it. Reading and writing go through ``[...]``, or
    `get_value` and `set_value` for values that are not arrays; in computations a variable stands for its value.

    >>> import jax.numpy as jnp
    >>> count = Variable(jnp.array([1, 2]), tag="steps")
    >>> count[...] = count + 1
    >>> count[0], count.tag
    (Array(2, dtype=int32), 'steps')

    Metadata named ``on_get_value``, ``on_set_value``, ``on_create_value`` are functions ``(variable, value) -> value``
    (or tuples of them) that see each value on its way; ``on_add_axis`` and ``on_remove_axis`` are called as
    ``(variable, axis_index, axis_name)`` when a transform adds or removes an axis. Methods may have these names, too.

    A variable may only be changed inside the transform in which it was made, see `fx_nnx.errors.TraceLevelError`.

    Args:
      value: the value, or one with metadata: a `VariableMetadata`, or a variable, whose ``on_create_value`` has run.
      hijax: whether writing is an error where plain `jax.jit` and the like have the variable, instead of being lost.
      ref: whether to keep the value in a `jax.Ref`, which transforms can change in place.
      eager_sharding: whether a value with ``out_sharding`` metadata is placed at once, if there is a mesh.
      **metadata: anything.
    """

    __slots__ = ()
    _shows_numbers = True
    __hash__ = None  # type: ignore[assignment]  # `==` compares values
    __fx_identity__ = "variable"

    _nnx_open: ClassVar[bool]
    _nnx_meta: Metadata

    def __init__(
        self,
        value: A | VariableMetadata[A],
        *,
        hijax: bool | None = None,
        ref: bool | None = None,
        eager_sharding: bool | None = None,
        **metadata: Any,
    ):
        init = object.__setattr__
        early = early_attributes(self, new=keep_links(self))
        init(self, "_nnx_trace", current_trace())
        if isinstance(value, VariableMetadata):
            metadata = {**metadata, **value.entries()}
            value = value.raw_value
        elif isinstance(value, Variable):
            metadata = {**value._nnx_meta.without("on_create_value").visible(), **metadata}  # which has run
            value = value.get_raw_value()
        meta = first_metadata(early, renamed(metadata), default_options(hijax, ref, eager_sharding))
        init(self, "_nnx_meta", meta)
        value = self.create_value(value)  # type: ignore[arg-type]
        value = place(own_value(type(self), value), meta)
        init(self, "_raw_value", new_ref(type(self), value) if meta.ref else value)
        announce(self)

    # --- values ---------------------------------------------------------------------------------------------------

    def get_value(self, *, index: Any = _MISSING) -> Any:
        """Returns the value as its hooks present it, or with an index ``value[index]``."""
        if frames or not at_top_level():
            note(self)
        value = self._raw_value
        if self._nnx_meta.ref:
            value = value[...]
        for hook in self._nnx_meta.on_get:
            value = hook(self, value)
        if index is _MISSING or (index is Ellipsis and not hasattr(value, "shape")):
            return value
        return value if index is Ellipsis and isinstance(value, jax.Array) else value[index]

    def set_value(self, value: Any, *, index: Any = _MISSING) -> None:
        """Puts a value in the place of the old one, through the hooks; with an index, write into the old one.

        ``variable[index] = value`` is the same with an index. An array keeps its shape, dtype and sharding then:
        ``variable[...] = value`` broadcasts and casts. A dictionary or list gets another item.

        >>> import jax.numpy as jnp
        >>> scale = Variable(jnp.ones(2, jnp.bfloat16))
        >>> scale[...] = 3.0
        >>> scale[...]
        Array([3, 3], dtype=bfloat16)
        >>> scale.set_value(3.0)
        >>> scale.get_value()
        3.0

        Raises:
          TraceLevelError: the variable was made outside the transform that runs.
          NnxError: the value does not fit the place, or the reference that holds it.
        """
        if isinstance(value, Variable):
            value = value.get_value()
        for hook in self._nnx_meta.on_set:
            value = hook(self, value)
        if index is not _MISSING:
            self._nnx_check_trace()
            value = written(self, index, value)
        self.set_raw_value(own_value(type(self), value) if index is _MISSING else value)

    def get_raw_value(self) -> Any:
        """Returns what is stored, without hooks; the `jax.Ref` itself if there is one."""
        if frames or not at_top_level():
            note(self)
        return self._raw_value

    def set_raw_value(self, value: Any, *, _unsafe_bypass_check: bool = False) -> None:
        """Stores a value without hooks.

        Raises:
          TraceLevelError: the variable was made outside the transform that runs.
        """
        if not _unsafe_bypass_check:
            self._nnx_check_trace()
        if constants and value is not self._raw_value:
            warn_of_constant(self)
        if self._nnx_meta.ref and not is_ref(value):
            write_ref(self, self._raw_value, value)
        else:
            object.__setattr__(self, "_raw_value", value)

    @property
    def raw_value(self) -> Any:
        """What is stored, without hooks."""
        return self.get_raw_value()

    @property
    def value(self) -> Any:
        """The value; the same as `get_value` and `set_value`."""
        return self.get_value()

    @value.setter
    def value(self, value: Any) -> None:
        self.set_value(value)

    def create_value(self, value: Any) -> Any:
        """Passes a first value through the ``on_create_value`` hooks."""
        for hook in hooks_of(self._nnx_meta.get("on_create_value")):
            value = hook(self, value)
        return value

    # --- metadata -------------------------------------------------------------------------------------------------

    def get_metadata(
        self, name: str | None = None, default: Any = _MISSING, *, exclude_required: bool | None = None
    ) -> Any:
        """Returns one entry of the metadata, or a dictionary of all.

        Args:
          name: which entry.
          default: what to give if there is none.
          exclude_required: leave out ``hijax``, ``ref`` and ``eager_sharding``, which every variable has.

        Raises:
          KeyError: there is no such entry and no default.
        """
        if name is None:
            return self._nnx_meta.visible() if exclude_required else dict(self._nnx_meta)
        return self._nnx_meta[rename(name)] if default is _MISSING else self._nnx_meta.get(rename(name), default)

    def set_metadata(self, *args: Any, **kwargs: Any) -> None:
        """Changes metadata: ``set_metadata(name=value, …)`` adds, ``set_metadata(name, value)`` too.

        ``set_metadata({...})`` replaces everything but the required entries.

        Raises:
          NnxError: the arguments are neither of these, or ``ref`` is to change, which is where the value lives.
          TraceLevelError: the variable was made outside the transform that runs.
        """
        self._nnx_check_trace()
        base, changes = changes_of(type(self).__name__, self._nnx_meta, args, kwargs)
        self._nnx_set_meta(make_metadata({**base, **renamed(changes)}))

    def has_metadata(self, name: str) -> bool:
        """Returns whether there is such an entry."""
        return rename(name) in self._nnx_meta

    def del_metadata(self, name: str) -> None:
        """Takes out an entry.

        Raises:
          KeyError: there is no such entry.
          NnxError: every variable has the entry.
          TraceLevelError: the variable was made outside the transform that runs.
        """
        self._nnx_check_trace()
        name = rename(name)
        if name in REQUIRED:
            raise wrong_metadata(type(self).__name__, f"cannot be without {name!r}", fix="set it to another value")
        if name not in self._nnx_meta:
            raise KeyError(name)
        self._nnx_set_meta(self._nnx_meta.without(name))

    def add_axis(self, axis_index: int, axis_name: str | None) -> None:
        """Calls the ``on_add_axis`` hooks: the value has a new axis. The transform puts in names before."""
        for hook in hooks_of(self._nnx_meta.get("on_add_axis")):
            hook(self, axis_index, axis_name)

    def remove_axis(self, axis_index: int, axis_name: str | None) -> None:
        """Calls the ``on_remove_axis`` hooks: an axis is gone. The transform takes its names out before."""
        for hook in hooks_of(self._nnx_meta.get("on_remove_axis")):
            hook(self, axis_index, axis_name)

    def _nnx_set_meta(self, meta: Metadata) -> None:
        keep_links(self)
        object.__setattr__(self, "_nnx_meta", meta)
        announce(self)

    # --- copies ---------------------------------------------------------------------------------------------------

    def replace(self, value: Any = _MISSING, *, _copy_ref: bool = True, **updates: Any) -> Self:
        """Returns a variable like this one with another value, other metadata, or both."""
        if isinstance(value, Variable):
            updates = {**value._nnx_meta.visible(), **updates}
            value = value.get_raw_value()
        value = Variable.get_raw_value(self) if value is _MISSING else value  # a count stays a number
        check_options(updates)
        meta = self._nnx_meta.updated(**renamed(updates)) if updates else self._nnx_meta
        if meta.ref and (_copy_ref or not is_ref(value)):
            value = new_ref(type(self), value[...] if is_ref(value) else value)
        elif self._nnx_meta.ref and not meta.ref and is_ref(value):
            value = value[...]
        made = new_variable(type(self), own_value(type(self), value), meta)
        put_extras(made, extras_of(self))
        return made

    def copy(self, value: Any = _MISSING, *, _copy_ref: bool = True, **updates: Any) -> Self:
        """Returns a second variable with the same value and metadata, or with other ones."""
        return self.replace(value, _copy_ref=_copy_ref, **updates)

    to_state = copy

    def copy_from(self, other: "Variable[A]") -> None:
        """Takes over value and metadata of another variable of the same type.

        Raises:
          NnxError: it has another type.
          TraceLevelError: the variable was made outside the transform that runs.
        """
        if type(other) is not type(self):
            raise variable_type(type(self).__name__, type(other).__name__)
        self.update_from_state(other)

    def update_from_state(self, variable_state: "Variable[A]") -> None:
        """Takes over value and metadata of a variable of a state, whatever its type; a `jax.Ref` is shared then.

        Raises:
          TraceLevelError: the variable was made outside the transform that runs.
        """
        self.set_raw_value(own_value(type(self), variable_state).get_raw_value())
        meta = variable_state._nnx_meta
        if meta.ref != is_ref(self._raw_value):  # the value was written into the reference that was here
            meta = meta.updated(ref=is_ref(self._raw_value))
        if meta is not self._nnx_meta and meta != self._nnx_meta:
            self._nnx_set_meta(meta)

    @classmethod
    def from_metadata(cls, value: Any, attributes: Mapping[str, Any]) -> Self:
        """Creates a variable without running hooks."""
        check_options(attributes)
        meta = make_metadata({**REQUIRED, **renamed(attributes)})
        value = new_ref(cls, value) if meta.ref and not is_ref(value) else own_value(cls, value)
        return new_variable(cls, value, meta)

    type = property(lambda self: type(self), doc="The type of the variable.")
    var_type = type
    hijax = property(lambda self: self._nnx_meta.hijax, doc="Whether plain JAX passes it on for reading only.")
    ref = property(lambda self: self._nnx_meta.ref, doc="Whether the value lives in a `jax.Ref`.")
    sharding_names = property(lambda self: self._nnx_meta.get("out_sharding"), doc="The axis names, or None.")
    shape = property(lambda self: self.get_value().shape, doc="The shape of the value.")

    def __getattr__(self, name: str) -> Any:
        if (name.startswith("__") and name not in _PROTOCOLS) or name in _NO_VALUES:
            raise AttributeError(name)
        meta = self._nnx_meta
        if name in meta:
            return meta[name]
        return getattr(self.get_value(), name)

    def __setattr__(self, name: str, value: Any) -> None:
        set_attribute(self, name, value)

    def __delattr__(self, name: str) -> None:
        delete_attribute(self, name)

    def __getstate__(self) -> dict[str, Any]:
        return state_of(self)

    def __setstate__(self, state: Mapping[str, Any] | tuple[Any, Metadata]) -> None:
        value, meta, extras = parts_of(state)
        keep_links(self)
        fields = new_ref(type(self), value) if meta.ref else value, meta, current_trace()
        for name, field in zip(("_raw_value", "_nnx_meta", "_nnx_trace"), fields):
            object.__setattr__(self, name, field)
        put_extras(self, extras)
        announce(self)

    @property
    def _var_metadata(self) -> MetadataView:
        _ = self._nnx_meta  # there is none before a variable is initialized
        return MetadataView(self)

    @_var_metadata.setter
    def _var_metadata(self, entries: Mapping[str, Any]) -> None:
        self._nnx_set_meta(metadata_from(entries))

    @property
    def _trace_state(self) -> TraceState:
        return TraceState(self)

    def __init_subclass__(cls, **kwargs: Any):
        super().__init_subclass__(**kwargs)
        register(cls)

    def _show(self) -> str:
        return show_fields(type(self).__name__, self._fields(), size_note(self._raw_value))

    def _fields(self) -> Mapping[str, Any]:
        return MappingProxyType({"value": self._raw_value, **self._nnx_meta.visible()})

    def _nnx_check_trace(self) -> None:
        trace = self._nnx_trace
        if not is_current(trace) or type(trace) is ReadingOnly:
            raise cannot_change(self)


def new_variable(cls: type[Any], value: Any, meta: Metadata, trace: object = None) -> Any:
    """Creates a variable of parts, without hooks and placement. Many at once may share one ``trace`` token."""
    return filled(cls, value, meta, current_trace() if trace is None else trace)


def register(cls: type[Any]) -> None:
    """Registers a type of variable as a pytree whose structure is the metadata and whose child is the value."""
    key = jax.tree_util.GetAttrKey("value")

    def unflatten(meta: Metadata, children: Iterable[Any]) -> Any:
        (value,) = children
        trace = ReadingOnly() if meta.hijax and not at_top_level() else current_trace()
        return filled(cls, value, meta, trace)

    flat = lambda v: ((v._raw_value if at_top_level() and not frames else v.get_raw_value(),), v._nnx_meta)  # noqa: E731
    with_keys = lambda v: (((key, flat(v)[0][0]),), v._nnx_meta)  # noqa: E731
    jax.tree_util.register_pytree_with_keys(cls, with_keys, unflatten, flat)


register(Variable)
