"""Objects with attributes that are data or static: the base of modules, containers and RNG streams."""

import abc
import functools
import inspect
from collections.abc import Callable, Iterable
from types import MappingProxyType
from typing import Any, ClassVar, Self

import jax
from fx_core.compat.jax import current_trace, is_current

from fx_nnx.errors import ArgumentTypeError, HiddenDataError, TraceLevelError, no_initializer, static_attribute
from fx_nnx.links import announce
from fx_nnx.locate import calling_line, path_of
from fx_nnx.objects.fields import (
    annotated,
    declaration,
    exchangeable,
    has_data,
    is_branch,
    is_data,
    is_leaf,
    register_data_type,
)
from fx_nnx.objects.storage import (
    AttributeView,
    PytreeState,
    SharedKinds,
    Storage,
    attributes_of,
    begin,
    begin_once,
    put_fields,
    set_kinds,
)
from fx_nnx.paths import sorted_keys
from fx_nnx.representation import Representable, show_fields
from fx_nnx.snapshots import exact, snapshot_of, thawed
from fx_nnx.trace_state import TraceState

__all__ = [
    "Object",
    "Pytree",
    "PytreeState",
    "SharedKinds",
    "Storage",
    "attributes_of",
    "check_pytree",
    "filled_object",
    "kinds_of",
    "new_object",
    "owned_kinds",
]

_MISSING: Any = object()
_MUTABLE = (list, dict, set)


def owned_kinds(obj: Any) -> dict[Any, bool]:
    """Returns the kinds of the attributes of an object, to be changed."""
    kinds = obj._nnx_kinds
    if type(kinds) is SharedKinds:
        kinds = dict(kinds)
        set_kinds(obj, kinds)
    return kinds


def kinds_of(obj: Any) -> dict[Any, bool]:
    """Returns the kinds of the attributes of an object, to be read; of those too that came by
    ``object.__setattr__``.
    """
    attributes, kinds = attributes_of(obj), obj._nnx_kinds
    if len(kinds) != len(attributes):
        # Another thread that sets or deletes an attribute has a kind more for a moment, which stays.
        missing = [(name, value) for name, value in list(attributes.items()) if name not in kinds]
        if missing:
            kinds = owned_kinds(obj)
            found = is_data if type(obj)._nnx_pytree else is_branch
            kinds.update((name, found(value)) for name, value in missing)
    return kinds


class _Meta(abc.ABCMeta):
    """Looks, after ``__init__``, for data that was put into a plain container behind the object's back."""

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        made = super().__call__(*args, **kwargs)
        if isinstance(made, Pytree):
            if cls._nnx_foreign_new:
                begin_once(made)
            check_pytree(made)
        return made

    @property
    def __signature__(cls) -> inspect.Signature:  # `inspect` and editors would show that of `__call__`
        return inspect.signature(functools.partial(cls.__init__, None))

    _nnx_foreign_new: bool


class Pytree(Representable, Storage, metaclass=_Meta):
    """An object whose attributes are data or static.

    Data attributes hold arrays, variables, other objects, and what was declared with `fx_nnx.data`; everything else is
    static. Objects are pytrees, whose children are the data attributes, and nodes of graphs, see `fx_nnx.split`.

    An attribute keeps the kind of its first assignment. Every change of structure is noticed: that is what lets
    `fx_nnx.split` know the structure of a model without looking at it again.

    >>> import jax, jax.numpy as jnp
    >>> class Point(Pytree):
    ...     def __init__(self, x):
    ...         self.x, self.name = jnp.array(x), "here"
    >>> jax.tree.leaves(Point(1.0))
    [Array(1., dtype=float32, weak_type=True)]

    Class keyword arguments:
      pytree: whether JAX may see the class as a pytree. With False, what an attribute is depends on the value that it
        has now, whatever it had before, and plain containers may hold anything: lists, dictionaries and other pytrees
        are searched for variables, modules and arrays.
    """

    __slots__ = ()

    _nnx_declared: ClassVar[dict[str, bool]] = {}
    _nnx_pytree: ClassVar[bool] = True
    _nnx_foreign_new: ClassVar[bool] = False
    __fx_identity__: ClassVar[str] = "object"

    _nnx_kinds: dict[Any, bool]
    _nnx_links: tuple[Any, ...] | None
    _nnx_record: Any
    _nnx_trace: object

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """Creates an object without attributes, ready for ``__init__``."""
        if (args or kwargs) and cls.__init__ is object.__init__:  # which would drop them
            raise no_initializer(cls.__name__, args, kwargs)
        self = super().__new__(cls)
        if not cls._nnx_foreign_new:
            begin(self)
        return self

    def __init_subclass__(cls, *, pytree: bool | None = None, **kwargs: Any):
        super().__init_subclass__(**kwargs)
        if pytree is not None:
            cls._nnx_pytree = pytree
        # Another class that makes the object may set attributes before we know of it.
        cls._nnx_foreign_new = any("__new__" in vars(base) for base in cls.__mro__ if base not in (Pytree, object))
        declared = {name: found[0] for name, value in vars(cls).items() if (found := declaration(value))}
        cls._nnx_declared = {**cls._nnx_declared, **annotated(cls), **declared}
        register_data_type(cls)
        if cls._nnx_pytree:
            jax.tree_util.register_pytree_with_keys(cls, _flatten_with_keys, _unflattener(cls), _flatten)

    @property
    def __dict__(self) -> Any:  # type: ignore[override]
        return AttributeView(self)

    def __dir__(self) -> Iterable[str]:
        return sorted({*object.__dir__(self), *map(str, attributes_of(self))})

    def __setattr__(self, name: str, value: Any) -> None:
        found = getattr(type(self), name, None)
        if found is not None and (hasattr(type(found), "__set__") or name == "__class__"):
            object.__setattr__(self, name, value)
            if name == "__class__":
                announce(self)
        else:
            self._nnx_set(name, value)

    def __delattr__(self, name: str) -> None:
        if name in attributes_of(self):
            self._nnx_delete(name)
        else:
            object.__delattr__(self, name)

    def _nnx_items(self) -> Iterable[tuple[Any, Any]]:
        return attributes_of(self).items()

    def _nnx_check_trace(self) -> None:
        try:
            trace = self._nnx_trace
        except AttributeError:  # a foreign base class sets attributes while it makes the object
            begin_once(self)
            return
        if not is_current(trace):
            self._check_valid_context(lambda: f"Cannot change {type(self).__name__} from a different trace level")

    def _check_valid_context(self, error_msg: Callable[[], str]) -> None:
        """Refuse a change in another trace; programs that know better override it."""
        raise TraceLevelError(type(self).__name__, path_of(self) or type(self).__name__, calling_line())

    @property
    def _trace_state(self) -> TraceState:
        return TraceState(self)

    def _nnx_set(self, name: Any, value: Any) -> None:
        """Set an attribute or item, note its kind, and announce it if the structure changed."""
        self._nnx_check_trace()
        explicit = type(self)._nnx_declared.get(name)
        found = declaration(value)
        if found is not None:
            explicit, value = found
            if value is _MISSING or type(value) is object:
                raise ArgumentTypeError(
                    "nnx.data() and nnx.static() need a value on assignment.",
                    expected=f"a value for the attribute {name!r}",
                    got="none, which means something in the body of a class only",
                )
        attributes, kinds = attributes_of(self), self._nnx_kinds
        old, known = attributes.get(name, _MISSING), kinds.get(name)
        if found is None and known is not None and known is not explicit:
            explicit = None  # what was said at an assignment holds for later ones, rather than what the class says
        if explicit is None:
            kind = self._nnx_kind(name, value, known)
        else:
            kind = explicit or self._nnx_static_kind(name, value)
        if old is value and kind is known:
            return
        if known is not kind:  # first, so that a walk of another thread finds it with the attribute
            owned_kinds(self)[name] = kind
        attributes[name] = value
        if not (kind and known and exchangeable(old, value)):
            announce(self)

    def _nnx_kind(self, name: Any, value: Any, known: bool | None) -> bool:
        if not type(self)._nnx_pytree:
            return is_branch(value)
        if is_data(value):
            if known is False:
                raise static_attribute(type(self).__name__, name, type(value))
            return True
        if not known and not is_leaf(value):
            self._nnx_refuse_hidden(name, value)
        return bool(known)

    def _nnx_static_kind(self, name: Any, value: Any) -> bool:
        """Look at what is declared as static: no data may be there, or it counts although it is declared so."""
        if not type(self)._nnx_pytree:
            return is_branch(value)
        if isinstance(value, jax.ShapeDtypeStruct):  # has a hash, so that it may be either
            return False
        if is_data(value):
            raise static_attribute(type(self).__name__, name, type(value))
        self._nnx_refuse_hidden(name, value)
        return False

    def _nnx_refuse_hidden(self, name: Any, value: Any) -> None:
        hidden = has_data(value)
        if hidden:
            raise HiddenDataError(type(self).__name__, name, type(value), [type(leaf).__name__ for leaf in hidden])

    def _nnx_delete(self, name: Any) -> None:
        self._nnx_check_trace()
        del attributes_of(self)[name]
        owned_kinds(self).pop(name, None)
        announce(self)

    def __getstate__(self) -> tuple[dict[Any, Any], dict[Any, bool]]:
        return dict(attributes_of(self)), dict(self._nnx_kinds)

    def __setstate__(self, state: tuple[dict[Any, Any], dict[Any, bool]]) -> None:
        attributes_of(self).update(state[0])
        owned_kinds(self).update(state[1])
        announce(self)

    def _show(self) -> str:
        # Python writes __orig_class__ into what a subscripted class makes.
        fields = {key: value for key, value in attributes_of(self).items() if key != "__orig_class__"}
        return show_fields(type(self).__name__, fields, self._note() if self._outermost() else "")

    def _fields(self) -> Any:
        return MappingProxyType(attributes_of(self))


class Object(Pytree, pytree=False):
    """An object that is no pytree to JAX, so that its attributes may hold anything and change what they hold.

    >>> import jax.numpy as jnp
    >>> import fx_nnx as nnx
    >>> class Table(Object):
    ...     def __init__(self):
    ...         self.best = None
    ...         self.rows = [nnx.Param(jnp.ones(2))]
    >>> table = Table()
    >>> table.best = nnx.Param(jnp.zeros(2))
    >>> [path for path, _ in nnx.state(table).flat_state()]
    [('best',), ('rows', 0)]
    """

    __slots__ = ()


def new_object(cls: type[Any], trace: object) -> Any:
    """Creates an object without calling ``__init__``; its attributes and kinds are to be filled in."""
    return filled_object(cls, {}, {}, trace)


def filled_object(cls: Any, attributes: dict[Any, Any], kinds: Any, trace: object, links: Any = None) -> Any:
    """Creates an object without calling ``__init__``; the dictionary of attributes becomes its own."""
    # A bare object takes its fields faster than one that guards its attributes.
    self: Any = Storage()
    self.__dict__ = attributes
    self._nnx_kinds = kinds
    self._nnx_links = links
    self._nnx_record = None
    self._nnx_trace = trace
    try:
        self.__class__ = cls
    except TypeError:  # a class with __slots__ of its own
        self = object.__new__(cls)
        for put, field in zip(put_fields, (attributes, kinds, links, None, trace)):
            put(self, field)
    return self


def check_pytree(pytree: Any) -> None:
    """Makes sure that no static attribute hides data in a plain container.

    Assignments are checked when they happen; this finds what was put into a list, dict or set afterwards.

    Raises:
      HiddenDataError: one does.

    >>> import fx_nnx as nnx
    >>> nnx.check_pytree(nnx.Linear(2, 1, rngs=nnx.Rngs(0)))
    """
    if not type(pytree)._nnx_pytree:
        return
    kinds = kinds_of(pytree)
    for name, value in attributes_of(pytree).items():
        if type(value) in _MUTABLE and not kinds[name]:
            pytree._nnx_refuse_hidden(name, list(value) if isinstance(value, set) else value)


def _flatten(obj: Pytree) -> tuple[list[Any], Any]:
    attributes, kinds = attributes_of(obj), kinds_of(obj)
    keys = sorted_keys(attributes)
    names = tuple(key for key in keys if kinds[key])
    kept = [(key, snapshot_of(attributes[key])) for key in keys if not kinds[key]]
    statics = tuple([(key, exact(value), value) for key, value in kept])
    return [attributes[name] for name in names], (names, statics)


def _flatten_with_keys(obj: Pytree) -> tuple[list[Any], Any]:
    children, aux = _flatten(obj)
    return [(_key(name), child) for name, child in zip(aux[0], children)], aux


def _key(name: Any) -> Any:
    return jax.tree_util.GetAttrKey(name) if isinstance(name, str) else jax.tree_util.SequenceKey(name)


def _unflattener(cls: type[Pytree]) -> Callable[[Any, Any], Any]:
    def unflatten(aux: Any, children: Any) -> Any:
        names, statics = aux
        self = new_object(cls, current_trace())
        attributes, kinds = attributes_of(self), owned_kinds(self)
        for name, child in zip(names, children):
            attributes[name], kinds[name] = child, True
        for name, _, value in statics:
            attributes[name], kinds[name] = thawed(value), False
        return self

    return unflatten


register_data_type(Pytree)
jax.tree_util.register_pytree_with_keys(Pytree, _flatten_with_keys, _unflattener(Pytree), _flatten)
