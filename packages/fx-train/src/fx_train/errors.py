"""Errors of the training loop."""

from fx_core.errors import FxError


class DataEndedError(FxError):
    """The data gave fewer batches than the run has steps.

    An iterable is read once. Give `Run.steps` a function of the first step instead, which can start anew::

      for step, batch in run.steps(iter(batches)):        # ends after one epoch
      for step, batch in run.steps(batches_from):         # batches_from(step) goes on for ever
    """

    def __init__(self, steps: int, total: int):
        super().__init__(
            "The data ended before the run did.",
            expected=f"{total} steps",
            got=f"{steps} steps",
            fix="Give data that repeats, or set total_steps to what the data has.",
        )


class StepNotRecordedError(FxError):
    """A step's body ended without `Run.record`, so callbacks would never see the new state.

    ::

      for step, batch in run.steps(batches):
        state, metrics = train_step(state, batch)
        run.record(state, metrics)                        # this line was missing
    """

    def __init__(self, step: int):
        super().__init__(
            f"Step {step} was not recorded.",
            expected="one call of run.record(state, metrics) per step",
            got="none",
            fix="Call run.record at the end of the loop's body.",
        )


class InvalidCadenceError(FxError):
    """``every`` of a callback has to be a positive number of steps."""

    def __init__(self, callback: str, every: object):
        super().__init__(
            f"{callback} cannot act every {every!r} steps.", expected="an int of at least 1", got=repr(every)
        )
