"""The loop kit: a run, its steps and callbacks."""

from fx_train.loop.callbacks import Callback, Checkpointer, Progress
from fx_train.loop.checkpoints import Checkpoints
from fx_train.loop.describe import Describe
from fx_train.loop.evaluate import Evaluate, Throughput
from fx_train.loop.guard import NanGuard
from fx_train.loop.log import Log
from fx_train.loop.progress import ProgressBar
from fx_train.loop.run import Run
from fx_train.loop.stopping import StopEarly, StopOnSignal

__all__ = [
    "Callback",
    "Checkpointer",
    "Checkpoints",
    "Describe",
    "Evaluate",
    "Log",
    "NanGuard",
    "Progress",
    "ProgressBar",
    "Run",
    "StopEarly",
    "StopOnSignal",
    "Throughput",
]
