"""Checkpoints of pytrees: Orbax, msgpack and third-party backends behind one interface."""

from fx_ckpt._version import __version__

__all__ = ["__version__"]
