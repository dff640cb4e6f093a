"""Modules of NNX and Linen in compact methods of bridge modules."""

from collections.abc import Callable
from typing import Any

from fx_nnx import Module as NnxModule

from fx_bridge.context import current_context
from fx_bridge.errors import bridge_place, bridge_target
from fx_bridge.module.compact import entered
from fx_bridge.module.module import attach
from fx_bridge.streams import lacks_fallback, mark_absent
from fx_bridge.to_nnx import ToNNX

__all__ = ["linen_in_bridge_mdl", "nnx_in_bridge_mdl"]


def nnx_in_bridge_mdl(factory: Callable[[Any], Any], name: str | None = None) -> Any:
    """Creates an NNX module as a submodule of the bridge module whose compact method runs.

    >>> import jax, jax.numpy as jnp
    >>> import fx_nnx as nnx
    >>> from fx_bridge import Module, compact
    >>> class Network(Module):
    ...     @compact
    ...     def __call__(self, x):
    ...         return nnx_in_bridge_mdl(lambda rngs: nnx.Linear(2, 3, rngs=rngs))(x)
    >>> jax.tree.map(jnp.shape, Network().init(jax.random.key(0), jnp.ones((1, 2))))
    {'params': {'Linear_0': {'bias': (3,), 'kernel': (2, 3)}}}

    Args:
      factory: makes the module of the streams of the running module.
      name: its name; by default its class with a number, or in ``setup`` that of the attribute.

    Returns:
      The module.

    Raises:
      BridgeError: neither ``setup`` nor a compact method of a bridge module runs.
      ArgumentTypeError: the factory makes something else.
      BridgeError: the name is taken.
    """
    parent, in_compact = _parent("nnx_in_bridge_mdl")
    rngs = parent.scope.rngs
    absent = lacks_fallback(rngs)
    if absent:
        # The values come from the variables; streams that nobody gave are only to be there, until they are drawn from.
        rngs = rngs.with_fallback()
    with entered(None):
        module = factory(rngs)
    if not isinstance(module, NnxModule):
        raise bridge_target("nnx_in_bridge_mdl", "a function of streams that makes an NNX module", module)
    if absent:
        mark_absent(module)
    if in_compact or name is not None:
        attach(parent, module, name)
    return module


def linen_in_bridge_mdl(linen_module: Any, name: str | None = None) -> ToNNX:
    """Creates a Linen module a submodule of the bridge module whose compact method runs.

    Args:
      linen_module: the module.
      name: its name; by default its class with a number, or in ``setup`` that of the attribute.

    Returns:
      The module as an NNX module.

    Raises:
      BridgeError: neither ``setup`` nor a compact method of a bridge module runs.
      BridgeError: the name is taken.

    >>> import jax, jax.numpy as jnp
    >>> import fx_bridge
    >>> import fx_linen as nn
    >>> class Mixed(fx_bridge.Module):
    ...     @fx_bridge.compact
    ...     def __call__(self, x):
    ...         return fx_bridge.linen_in_bridge_mdl(nn.Dense(2), name="dense")(x)
    >>> variables = Mixed().init(jax.random.key(0), jnp.ones(3))
    >>> variables["params"]["dense"]["kernel"].shape
    (3, 2)
    """
    parent, in_compact = _parent("linen_in_bridge_mdl")
    module = ToNNX(linen_module, parent.scope.rngs)
    if parent.scope.initializing:
        module.to_nnx__initializing = True
    if in_compact or name is not None:
        attach(parent, module, name, type(linen_module))
    return module


def _parent(what: str) -> tuple[Any, bool]:
    entry = current_context()
    if entry is None or not entry.may_attach or entry.module.scope is None:
        raise bridge_place(
            what,
            "setup or a compact method of a bridge module that init or apply runs",
            "make the module as in NNX elsewhere",
        )
    return entry.module, entry.in_compact
