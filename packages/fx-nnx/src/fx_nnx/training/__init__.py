"""Training: optimizers, moving averages, functional train states, and which variables are trained."""

from fx_nnx.training.ema import EMA
from fx_nnx.training.opt_state import OptArray, OptState, OptVariable
from fx_nnx.training.optimizer import GradientTransformation, ModelAndOptimizer, Optimizer
from fx_nnx.training.train_state import TrainState
from fx_nnx.training.trainable import Trainable, freeze, unfreeze

__all__ = [
    "EMA",
    "GradientTransformation",
    "ModelAndOptimizer",
    "OptArray",
    "OptState",
    "OptVariable",
    "Optimizer",
    "TrainState",
    "Trainable",
    "freeze",
    "unfreeze",
]
