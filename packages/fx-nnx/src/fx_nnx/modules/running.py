"""Which module is running: for libraries that change what layers compute, depending on where."""

import sys
from collections.abc import Iterator
from typing import Any

from fx_nnx.graph.iterate import iter_graph
from fx_nnx.modules.module import Module
from fx_nnx.paths import Path

__all__ = ["current_module"]


def current_module() -> tuple[Module, Path] | None:
    """Returns the module whose method is running, and its path in the outermost running module that holds it.

    Modules are ordinary objects whose calls nothing records. So this looks at the stack of calls for the innermost
    ``self`` that is a module, and searches the modules around it. It costs nothing unless it is called, and is meant
    for tracing, where a quantizer that replaces `jax.lax.dot_general` asks which layer it multiplies for.

    >>> import fx_nnx as nnx
    >>> import jax
    >>> def spying(*args, **options):
    ...     module, path = current_module()
    ...     print(type(module).__name__, path)
    ...     return jax.lax.dot_general(*args, **options)
    >>> model = nnx.Sequential(nnx.Linear(1, 1, rngs=nnx.Rngs(0), dot_general=spying))
    >>> y = model(jax.numpy.ones((1, 1)))
    Linear ('layers', 0)

    Returns:
      Module and path, which is empty for a module that no running module holds; None if no module is running.
    """
    running = list(_running())
    if not running:
        return None
    module = running[0]
    for around in reversed(running):
        for path, found in iter_graph(around, graph=True):
            if found is module:
                return module, path
    return module, ()


def _running() -> Iterator[Any]:
    """Give the modules whose methods are running, the innermost first."""
    frame = sys._getframe(2)
    seen: set[int] = set()
    while frame is not None:
        code = frame.f_code
        if code.co_argcount and code.co_varnames[0] == "self":
            found = frame.f_locals.get("self")
            if isinstance(found, Module) and id(found) not in seen:
                seen.add(id(found))
                yield found
        frame = frame.f_back
