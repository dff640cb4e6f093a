"""The loop kit: a run, its steps and callbacks."""

from fx_train.loop.callbacks import Callback, Checkpointer
from fx_train.loop.checkpoints import Checkpoints
from fx_train.loop.log import Log
from fx_train.loop.progress import ProgressBar
from fx_train.loop.run import Run

__all__ = ["Callback", "Checkpointer", "Checkpoints", "Log", "ProgressBar", "Run"]
