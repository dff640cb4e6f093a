"""`flax.linen.fp8_ops`: see `fx_linen.names_of_flax`. The arithmetic is in `fx_core.ops.lowp`."""

from fx_linen.names_of_flax import finder

__getattr__ = finder(__name__)
