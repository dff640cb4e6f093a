"""Checkpoints of pytrees: msgpack, safetensors, Orbax and third-party backends behind one interface."""

from fx_ckpt import checkpoints, errors, orbax_utils
from fx_ckpt._version import __version__
from fx_ckpt.converting import convert
from fx_ckpt.formats.msgpack import MAX_CHUNK_SIZE, from_bytes, msgpack_restore, msgpack_serialize, to_bytes
from fx_ckpt.info import CheckpointInfo
from fx_ckpt.manager import CheckpointManager
from fx_ckpt.operations import inspect, restore, save, verify
from fx_ckpt.renaming import Rule, torch_rules
from fx_ckpt.running.preemption import Preempted
from fx_ckpt.safetensors import load_safetensors, save_safetensors

__all__ = [
    "MAX_CHUNK_SIZE",
    "CheckpointInfo",
    "CheckpointManager",
    "Preempted",
    "Rule",
    "__version__",
    "checkpoints",
    "convert",
    "errors",
    "from_bytes",
    "inspect",
    "load_safetensors",
    "msgpack_restore",
    "msgpack_serialize",
    "orbax_utils",
    "restore",
    "save",
    "save_safetensors",
    "to_bytes",
    "torch_rules",
    "verify",
]
