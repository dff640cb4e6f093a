"""The class that users derive from."""

import dataclasses
import typing
from typing import Any

from fx_core.errors import (
    ArgumentTypeError,
    IncorrectPostInitOverrideError,
    InvalidAttributeError,
    SetAttributeFrozenModuleError,
    SetAttributeInModuleSetupError,
)
from fx_core.scope import Scope

from fx_linen.module._attach import adopt, attach, resolve_parent
from fx_linen.module._base import UNSPECIFIED, ModuleBase, UnspecifiedParent, raw_parent, set_parent, where
from fx_linen.module._call import ensure_setup
from fx_linen.module._fields import as_dataclass, class_info
from fx_linen.module._methods import wrap_class
from fx_linen.module._paths import Listing
from fx_linen.module._pickling import blank, portable, restored
from fx_linen.module._repr import module_repr
from fx_linen.module._sow import Sowing
from fx_linen.module._state import ModuleState

__all__ = ["Module"]


class Module(Listing, Sowing):
    """Base class of all layers and networks.

    A subclass is a dataclass: its annotated attributes are the constructor's arguments. Submodules and variables are
    made in ``setup`` and used in any method, or made where they are used in a method marked `compact`. A module holds
    no arrays: ``init`` returns the variables, ``apply`` takes them.

    Attributes:
      parent: the module that this one belongs to, a scope, or None; by default the module whose method is running.
      name: the module's name in its parent; chosen by the parent if None.

    >>> import jax, jax.numpy as jnp
    >>> import fx_linen as nn
    >>> class Affine(nn.Module):
    ...     features: int
    ...
    ...     @nn.compact
    ...     def __call__(self, x):
    ...         w = self.param("w", jax.nn.initializers.ones, (x.shape[-1], self.features))
    ...         b = self.param("b", jax.nn.initializers.zeros, (self.features,))
    ...         return x @ w + b
    >>> model = Affine(features=2)
    >>> variables = model.init(jax.random.key(0), jnp.ones(3))
    >>> jax.tree.map(jnp.shape, variables)
    {'params': {'b': (2,), 'w': (3, 2)}}
    >>> model.apply(variables, jnp.ones(3))
    Array([3., 3.], dtype=float32)
    """

    if typing.TYPE_CHECKING:
        parent: Any = dataclasses.field(default=UNSPECIFIED, kw_only=True, repr=False)
        name: str | None = dataclasses.field(default=None, kw_only=True)

        # What is only known to be a module can be called; this signature leaves that of subclasses open.
        def __call__(self, *args: Any, **kwargs: Any) -> Any: ...
    else:
        parent: ModuleBase | Scope | UnspecifiedParent | None = dataclasses.field(
            default=UNSPECIFIED, kw_only=True, repr=False
        )
        name: str | None = dataclasses.field(default=None, kw_only=True)

    def __init_subclass__(cls, kw_only: bool = False, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        as_dataclass(cls, kw_only)
        wrap_class(cls)

    def __post_init__(self) -> None:
        self.__dict__["_state"] = ModuleState()
        attach(self, resolve_parent(self))

    def __setattr__(self, name: str, value: Any) -> None:
        state = self.__dict__.get("_state")
        if state is None or not state.initialized or name == "__orig_class__":
            object.__setattr__(self, name, value)
        elif not state.in_setup:
            raise SetAttributeFrozenModuleError(type(self).__name__, name, value, where(self))
        elif name in type(self)._info.frozen:
            raise SetAttributeInModuleSetupError(name, value, where(self))
        else:
            adopt(self, name, value)

    def __getattr__(self, name: str) -> Any:
        if name[:2] == "__":
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        attributes = self.__dict__
        state = attributes.get("_state")
        if state is None:
            if name == "_state":
                raise IncorrectPostInitOverrideError()
        else:
            ensure_setup(self, state)
            if name in attributes:
                return attributes[name]
        raise _module_attribute(type(self).__name__, name, attributes.get("scope") is not None)

    def __dir__(self) -> list[str]:
        if self.__dict__.get("_state") is not None:
            ensure_setup(self, self._state)
        return list(object.__dir__(self))

    def __repr__(self) -> str:
        return module_repr(self)

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if type(other) is not type(self):
            return NotImplemented
        mine, theirs = self.__dict__, other.__dict__
        if raw_parent(self) is not raw_parent(other) or self.name != other.name:
            return False
        compared = type(self)._info.compared
        return tuple(mine.get(f) for f in compared) == tuple(theirs.get(f) for f in compared)

    def __hash__(self) -> int:
        kind, attributes = type(self), self.__dict__
        if attributes.get("scope") is not None:
            raise _unhashable_module(
                kind.__name__, "it holds variables", "Hash the unbound module: module.clone() or module.unbind()[0]."
            )
        try:
            return hash((kind, self.name, *(attributes.get(field) for field in kind._info.hashed)))
        except TypeError as error:
            raise _unhashable_module(
                kind.__name__, f"a field has no hash ({error})", "Use tuples and FrozenDict in the module's fields."
            ) from error

    def __reduce_ex__(self, protocol: Any) -> Any:
        recipe = type(self).__dict__.get("_recipe")
        return super().__reduce_ex__(protocol) if recipe is None else (blank, (recipe,), self.__getstate__())

    def __getstate__(self) -> dict[str, Any]:
        if self.__dict__.get("scope") is not None:
            raise ArgumentTypeError(
                f"A bound {type(self).__name__} cannot be pickled or copied: it holds variables.",
                path=where(self),
                fix="Use module, variables = module.unbind() and keep both, or module.clone().",
            )
        return {key: portable(value) for key, value in self.__dict__.items() if key not in ("_state", "_parent")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        values = {key: restored(value) for key, value in state.items()}
        self.__dict__.update(values, _parent=None, _state=ModuleState())


dataclasses.dataclass(Module, eq=False, repr=False)
Module._info = class_info(Module)
# The dataclass machinery left the default here; the property that keeps parents weakly takes its place.
Module.parent = property(raw_parent, set_parent)  # type: ignore[assignment]


def _module_attribute(cls_name: str, name: str, bound: bool) -> InvalidAttributeError:
    fix = f'If "{name}" is assigned in setup(), it exists only inside init, apply or on a bound module.'
    return InvalidAttributeError(
        f'"{cls_name}" object has no attribute "{name}".',
        fix="Check the spelling; setup() ran and did not assign it." if bound else fix,
    )


def _unhashable_module(cls_name: str, cause: str, fix: str) -> ArgumentTypeError:
    return ArgumentTypeError(f"Can't call __hash__ on this {cls_name}: {cause}.", fix=fix)
