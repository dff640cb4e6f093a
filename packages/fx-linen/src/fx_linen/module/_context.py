"""What the running thread is inside of: modules, interceptors, captures, and whether calls are named."""

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

from fx_linen.module._base import ModuleBase

__all__ = [
    "CaptureFilter",
    "context",
    "current_module",
    "detached",
    "disable_named_call",
    "enable_named_call",
    "enclosing_module",
    "override_named_call",
    "running_module",
]

CaptureFilter = Callable[[Any, str], bool]


class Context(threading.local):
    """The stacks of one thread, the innermost entry last."""

    def __init__(self) -> None:
        self.modules: list[ModuleBase | None] = [None]
        self.interceptors: list[Callable[..., Any]] = []
        self.captures: list[CaptureFilter | None] = []
        # None: as the flag fx_core.config.profile says.
        self.named_call: bool | None = None


context = Context()


def running_module() -> ModuleBase | None:
    """Returns the module whose method is running in this thread."""
    return context.modules[-1]


def enclosing_module() -> ModuleBase | None:
    """Returns the innermost module whose method is running in this thread, also from within `detached`."""
    return next((module for module in reversed(context.modules) if module is not None), None)


def current_module() -> tuple[Any, tuple[str, ...]] | None:
    """Returns the module whose method is running in this thread, and its path from the top module.

    For libraries that change what layers compute, depending on where: a quantizer that replaces `jax.lax.dot_general`
    asks which layer it multiplies for.

    >>> import jax
    >>> import fx_linen as nn
    >>> def spying(*args, **options):
    ...     module, path = nn.current_module()
    ...     print(type(module).__name__, path)
    ...     return jax.lax.dot_general(*args, **options)
    >>> model = nn.Sequential([nn.Dense(1, dot_general=spying)])
    >>> y, variables = model.init_with_output(jax.random.key(0), jax.numpy.ones((1, 1)))
    Dense ('layers_0',)

    Returns:
      Module and path, which is empty for the top module and for a module that is not bound; None outside of modules.
    """
    module = context.modules[-1]
    if module is None:
        return None
    return module, () if module.scope is None else module.scope.path


def __getattr__(name: str) -> Any:
    if name == "module_stack":  # where libraries look in Flax; `current_module` is the interface
        return context.modules
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


@contextlib.contextmanager
def detached() -> Iterator[None]:
    """Within a block, act as if no method of a module were running: modules that are made have no parent.

    For code of other libraries that is called from a method.
    """
    context.modules.append(None)
    try:
        yield
    finally:
        context.modules.pop()


def enable_named_call() -> None:
    """Names method calls in profiles and HLO by the module (the default, see ``fx_core.config.profile``).

    Each call of a module method runs in `jax.named_scope`: operations carry paths such as ``Encoder/Dense_0``.

    >>> import fx_linen as nn
    >>> nn.enable_named_call()
    """
    context.named_call = True


def disable_named_call() -> None:
    """Stops naming method calls in profiles and HLO.

    >>> import fx_linen as nn
    >>> nn.disable_named_call()
    >>> nn.enable_named_call()
    """
    context.named_call = False


@contextlib.contextmanager
def override_named_call(enable: bool = True) -> Iterator[None]:
    """Names method calls, or does not, within a block.

    Args:
      enable: whether calls are named in the block.

    >>> import jax, jax.numpy as jnp
    >>> import fx_linen as nn
    >>> with nn.override_named_call(False):
    ...     variables = nn.Dense(2).init(jax.random.key(0), jnp.ones(3))
    """
    before, context.named_call = context.named_call, enable
    try:
        yield
    finally:
        context.named_call = before
