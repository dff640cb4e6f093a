"""All that a trace of a module's method depends on, as something hashable."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from fx_core.frozen_dict import FrozenDict
from fx_core.scope import Scope, Variable
from fx_core.serialization import registered, to_state_dict

from fx_linen.module import naming_of
from fx_linen.module._base import ModuleBase
from fx_linen.module._context import context

__all__ = ["Fingerprint", "Same"]

_PLAIN = frozenset({bool, bytes, int, str, type(None)})
_OURS = frozenset({"_parent", "_state", "name", "scope"})


class Same:
    """What has no hash, compared by identity; kept alive so that the identity stays its own."""

    __slots__ = ("value",)

    def __init__(self, value: Any):
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Same) and other.value is self.value

    def __hash__(self) -> int:
        return id(self.value)


class Fingerprint:
    """Describes modules so that equal descriptions give equal traces.

    Names and paths of the modules are left out: a layer that occurs many times is traced once.

    Args:
      modules: modules, or trees of them.
      scopes: their outermost scopes.
      target: the class that the first module has inside, if it is another one.

    Attributes:
      bound: the bound modules, in a fixed order.
      value: the description.
    """

    def __init__(self, modules: list[Any], scopes: list[Scope], target: type[ModuleBase] | None = None):
        self._places: dict[int, tuple[Any, ...]] = {id(scope): (index,) for index, scope in enumerate(scopes)}
        self._seen: dict[int, int] = {}
        self._first, self._target = modules[0], target
        self.bound: list[ModuleBase] = []
        # Interceptors and captures are part of a trace as well.
        here = context
        capture = here.captures[-1] if here.captures else None
        around = tuple(here.interceptors), capture, here.named_call
        self.value = self._of(around), self._of(modules)

    def _of(self, value: Any) -> Any:
        kind = type(value)
        if kind in _PLAIN:
            return kind, value
        if kind is float:
            return kind, value.hex()  # 0.0 is not -0.0, and nan is nan
        if isinstance(value, (complex, np.generic)):
            return kind, repr(value)
        if isinstance(value, ModuleBase):
            return self._of_module(value)
        if isinstance(value, Variable):
            return kind, self._place(value.scope), value.collection, value.name, value.unbox
        if isinstance(value, (list, tuple)):
            return (kind, *map(self._of, value))
        if isinstance(value, (dict, FrozenDict)):
            return kind, self._of_items(value)
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            return kind, tuple(self._of(getattr(value, field.name, None)) for field in dataclasses.fields(value))
        if registered(kind) is not None:
            # Such an object tells what it holds. It may leave something out, so it has to be the same one as well.
            return kind, Same(value), self._of(to_state_dict(value))
        try:
            hash(value)
        except TypeError:
            return Same(value)
        return kind, value

    def _of_items(self, value: Mapping[Any, Any]) -> Any:
        return tuple((self._of(key), self._of(x)) for key, x in value.items())

    def _of_module(self, module: ModuleBase) -> Any:
        number = self._seen.get(id(module))
        if number is not None:
            return number
        self._seen[id(module)] = len(self._seen)
        attributes, state = module.__dict__, module._state
        fields = tuple(self._of(attributes.get(name)) for name in type(module)._info.fields)
        kind = self._target if module is self._first and self._target is not None else type(module)
        # What came before setup and is no field, made by __post_init__ say, goes along with copies.
        before = attributes if state.before_setup is None else {key: attributes.get(key) for key in state.before_setup}
        others = {
            key: value for key, value in before.items() if key not in _OURS and key not in type(module)._info.fields
        }
        own = fields, self._of(others)
        if module.scope is None:
            return kind, module.name, own
        self.bound.append(module)
        counters, _, inner = naming_of(module)
        running = state.name_scope and state.name_scope.name, inner
        return kind, self._place(module.scope), state.in_compact, state.in_setup, counters, running, own

    def _place(self, scope: Scope) -> tuple[Any, ...]:
        known = self._places.get(id(scope))
        if known is None:
            assert scope.parent is not None
            known = self._places[id(scope)] = (*self._place(scope.parent), scope.name)
        return known
