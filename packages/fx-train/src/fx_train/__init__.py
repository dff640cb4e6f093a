"""Training state, metrics and loop helpers for fx and any pytree model."""

from fx_train._version import __version__
from fx_train.early_stopping import EarlyStopping
from fx_train.loop import (
    Callback,
    Checkpoints,
    Describe,
    Evaluate,
    Log,
    NanGuard,
    ProgressBar,
    Run,
    StopEarly,
    StopOnSignal,
    Throughput,
)
from fx_train.metrics import Accuracy, Confusion, Mean, Perplexity, PrecisionRecall, TopK, Welford
from fx_train.step import Policy, StepState, make_train_step
from fx_train.train_state import TrainState

__all__ = [
    "Accuracy",
    "Callback",
    "Checkpoints",
    "Confusion",
    "Describe",
    "EarlyStopping",
    "Evaluate",
    "Log",
    "Mean",
    "NanGuard",
    "Perplexity",
    "Policy",
    "PrecisionRecall",
    "ProgressBar",
    "Run",
    "StepState",
    "StopEarly",
    "StopOnSignal",
    "Throughput",
    "TopK",
    "TrainState",
    "Welford",
    "__version__",
    "make_train_step",
]
