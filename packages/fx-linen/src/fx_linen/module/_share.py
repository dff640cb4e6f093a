"""Two modules in one scope."""

from fx_core.errors import CallShareScopeOnUnboundModuleError
from fx_core.scope import Scope

from fx_linen.module._base import ModuleBase

__all__ = ["share_scope"]


def share_scope(module: ModuleBase, other: ModuleBase, /) -> None:
    """Lets two bound modules use one scope, so that their variables lie side by side.

    A module that wraps another one can so keep the wrapped module's parameter structure. If ``other`` lies below
    ``module``, it moves up into the scope of ``module``; otherwise ``module`` moves into the scope of ``other``. Call
    it in ``setup``. Submodules move along; they draw the PRNG keys that they would have drawn where they were.

    Args:
      module: the wrapping module.
      other: the module it wraps.

    Raises:
      CallShareScopeOnUnboundModuleError: one of them is not bound.

    >>> import jax, jax.numpy as jnp
    >>> import fx_linen as nn
    >>> class Inner(nn.Module):
    ...     @nn.compact
    ...     def __call__(self, x):
    ...         return x * self.param("scale", jax.nn.initializers.ones, ())
    >>> class Shifted(nn.Module):
    ...     base: nn.Module
    ...
    ...     def setup(self):
    ...         nn.share_scope(self, self.base)
    ...
    ...     @nn.compact
    ...     def __call__(self, x):
    ...         return self.base(x) + self.param("shift", jax.nn.initializers.zeros, ())
    >>> sorted(Shifted(Inner()).init(jax.random.key(0), 1.0)["params"])
    ['scale', 'shift']
    """
    if module.scope is None or other.scope is None:
        raise CallShareScopeOnUnboundModuleError()
    depth = len(module.scope.path)
    below = len(other.scope.path) > depth and other.scope.path[:depth] == module.scope.path
    if below and other.scope.root is module.scope.root:
        _move(other, module.scope)
    else:
        _move(module, other.scope)


def _move(module: ModuleBase, scope: Scope) -> None:
    before = module.scope
    module.__dict__["scope"] = scope
    for child in module._state.children.values():
        # Children that already share another scope do not follow.
        if isinstance(child, ModuleBase) and child.scope is not None and child.scope.parent is before:
            assert child.name is not None
            moved = scope.push(child.name, reuse=True)
            moved.draw_as(child.scope)
            _move(child, moved)
