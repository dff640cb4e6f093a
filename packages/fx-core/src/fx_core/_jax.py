"""Everything of JAX that is private, experimental or moves between versions, in one place.

The rest of fx imports such things from here, so that a new JAX release is looked at in one file.
"""

import jax.extend.core

__all__ = ["current_trace"]


def current_trace() -> object:
    """Token of the innermost trace: equal tokens mean the same trace, the absence of one included."""
    return jax.extend.core.get_opaque_trace_state()
