"""``fx migrate``: programs written for Flax, rewritten to import fx.

`fx_flax.migration.source` rewrites the text of a program, `fx_flax.migration.tree` files and directories. It needs
libcst, which the extra ``fx-flax[migrate]`` brings.
"""
