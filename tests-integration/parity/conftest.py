"""Older releases of Flax, which Python 3.11 gets, lack some of what fx is compared with."""

from flax import nnx

collect_ignore = [] if hasattr(nnx, "RoPE") else ["test_parity_rope.py"]
# Programs to run, for Flax as they are and for fx when they have been migrated.
collect_ignore_glob = ["flax_programs/*"]
