"""Training steps from a loss function: accumulation, mixed precision, clipping, frozen parts, averages, donation."""

from fx_train.step.builder import make_train_step
from fx_train.step.policy import Policy
from fx_train.step.state import StepState
from fx_train.step.trainable import trainable_mask, trainable_only

__all__ = ["Policy", "StepState", "make_train_step", "trainable_mask", "trainable_only"]
