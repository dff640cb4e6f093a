"""`flax.linen.batch_apply`: see `fx_linen.names_of_flax`."""

from fx_linen.names_of_flax import finder

__getattr__ = finder(__name__)
