"""Errors of fx-train."""

from fx_train.errors.loop import (
    DataEndedError,
    InvalidCadenceError,
    InvalidModeError,
    InvalidTotalStepsError,
    MetricNeverSeenError,
    MetricValueError,
    MissingExtraError,
    NonFiniteError,
    NotMainThreadError,
    ResumeStepError,
    StepNotRecordedError,
    StepRecordedTwiceError,
)
from fx_train.errors.metrics import (
    InvalidAverageError,
    MetricShapeError,
    SummaryShapeError,
)
from fx_train.errors.report import NoRunError, RunFileError
from fx_train.errors.step import (
    GradientMismatchError,
    InvalidMaskError,
    InvalidStepOptionError,
    LossOutputError,
    MissingFieldError,
    PolicyMismatchError,
)
from fx_train.errors.utils import (
    BatchMismatchError,
    EmptyForestError,
    IndivisibleBatchError,
    InvalidBufferSizeError,
    InvalidScanAxisError,
    InvalidScheduleError,
)

__all__ = [
    "BatchMismatchError",
    "DataEndedError",
    "EmptyForestError",
    "GradientMismatchError",
    "IndivisibleBatchError",
    "InvalidAverageError",
    "InvalidBufferSizeError",
    "InvalidCadenceError",
    "InvalidMaskError",
    "InvalidModeError",
    "InvalidScanAxisError",
    "InvalidScheduleError",
    "InvalidStepOptionError",
    "InvalidTotalStepsError",
    "LossOutputError",
    "MetricNeverSeenError",
    "MetricShapeError",
    "MetricValueError",
    "MissingExtraError",
    "MissingFieldError",
    "NoRunError",
    "NonFiniteError",
    "NotMainThreadError",
    "PolicyMismatchError",
    "ResumeStepError",
    "RunFileError",
    "StepNotRecordedError",
    "StepRecordedTwiceError",
    "SummaryShapeError",
]
