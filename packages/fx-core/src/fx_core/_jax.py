"""Everything of JAX that is private, experimental or moves between versions, in one place.

The rest of fx imports such things from here, so that a new JAX release is looked at in one file.
"""

import jax
import jax.extend.core
import jax.extend.core.primitives

__all__ = ["current_trace", "weakly_typed"]


def current_trace() -> object:
    """Token of the innermost trace: equal tokens mean the same trace, the absence of one included."""
    return jax.extend.core.get_opaque_trace_state()


def weakly_typed(array: jax.Array) -> jax.Array:
    """The same array with JAX's weak type, as results of arithmetic with Python numbers have it."""
    primitive = jax.extend.core.primitives.convert_element_type_p
    return primitive.bind(array, new_dtype=array.dtype, weak_type=True, sharding=None)
