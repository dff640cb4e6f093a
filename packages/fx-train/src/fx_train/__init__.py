"""Training state, metrics and loop helpers for fx and any pytree model."""

from fx_train._version import __version__
from fx_train.early_stopping import EarlyStopping
from fx_train.loop import Callback, Checkpoints, Log, ProgressBar, Run
from fx_train.metrics import Confusion, Mean
from fx_train.train_state import TrainState

__all__ = [
    "Callback",
    "Checkpoints",
    "Confusion",
    "EarlyStopping",
    "Log",
    "Mean",
    "ProgressBar",
    "Run",
    "TrainState",
    "__version__",
]
