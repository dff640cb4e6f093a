"""Errors of runs and their callbacks."""

from fx_core.errors import FxError


class DataEndedError(FxError):
    """The data gave fewer batches than the run has steps.

    An iterable is read once. Give `Run.steps` a function of the first step instead, which can start anew::

      for step, batch in run.steps(iter(batches)):        # ends after one epoch
      for step, batch in run.steps(batches_from):         # batches_from(step) goes on for ever
    """

    def __init__(self, steps: int, total: int, *, empty: bool = False):
        super().__init__(
            "The data is empty." if empty else "The data ended before the run did.",
            expected=f"{total} steps",
            got=f"{steps} steps",
            fix="See whether an earlier loop has used up the iterator: a function of the first step makes a new one."
            if empty
            else "Give data that repeats, or set total_steps to what the data has.",
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


class StepRecordedTwiceError(FxError):
    """`Run.record` was called twice in one step, so that steps and batches would come out of order."""

    def __init__(self, step: int):
        super().__init__(
            f"Step {step} was recorded already.",
            expected="one call of run.record(state, metrics) per step",
            got="two",
        )


class InvalidCadenceError(FxError):
    """``every`` of a callback has to be a positive number of steps."""

    def __init__(self, callback: str, every: object):
        super().__init__(
            f"{callback} cannot act every {every!r} steps.", expected="an int of at least 1", got=repr(every)
        )


class InvalidTotalStepsError(FxError):
    """``total_steps`` of a run has to be a natural number."""

    def __init__(self, total_steps: object):
        super().__init__("A run cannot have that many steps.", expected="an int, not negative", got=repr(total_steps))


class ResumeStepError(FxError):
    """The checkpoint that a run would go on from has more steps behind it than the run has in all."""

    def __init__(self, step: int, total: int):
        super().__init__(
            f"The run cannot go on from step {step}.",
            expected=f"a checkpoint of step 0 to {total}",
            got=f"step {step}",
            fix="Raise total_steps, which counts the steps before a resume too, or use another directory.",
        )


class NonFiniteError(FxError):
    """Numbers of a step are infinite or none at all.

    Usual causes: a learning rate that is too high, a logarithm or a division of zero, an overflow in float16
    (see `fx_train.dynamic_scale`). ``jax.config.update("jax_debug_nans", True)`` finds the operation.

    Attributes:
      step: the step that was recorded, counted from 1.
      metrics: names of the metrics that are not finite.
      parameters: paths of the arrays of the state that are not finite, with how many of their numbers are not.
    """

    def __init__(self, step: int, metrics: list[str], parameters: list[tuple[str, str]]):
        self.step, self.metrics, self.parameters = step, metrics, parameters
        named = [f"{path} ({share})" for path, share in parameters[:5]]
        if len(parameters) > 5:
            named.append(f"{len(parameters) - 5} more")
        super().__init__(
            f"Step {step} gave numbers that are not finite.",
            expected="finite metrics and parameters",
            got="; ".join(
                part
                for part in (
                    f"metrics {', '.join(metrics)}" if metrics else "",
                    f"in the state {', '.join(named)}" if named else "",
                )
                if part
            ),
            fix="Go on from the last checkpoint with a lower learning rate or clipped gradients; jax_debug_nans finds "
            "the operation.",
        )


class MetricValueError(FxError):
    """A metric of a step is no single number.

    ::

      run.record(state, {"loss": losses})                # an array
      run.record(state, {"loss": losses.mean()})
    """

    def __init__(self, name: str, value: object):
        shape = getattr(value, "shape", None)
        super().__init__(
            f"The metric {name!r} is no single number.",
            expected="a scalar, or a metric object whose compute() gives one",
            got=type(value).__name__ if shape is None else f"an array of shape {shape}",
        )


class MetricNeverSeenError(FxError):
    """A callback waited for a metric that no step had."""

    def __init__(self, name: str, seen: list[str]):
        super().__init__(f"No step had the metric {name!r}.", expected=f"one of {', '.join(seen)}", got=name)


class InvalidModeError(FxError):
    """A metric should become smaller or larger, nothing else."""

    def __init__(self, mode: object):
        super().__init__("The metric has no direction.", expected='"min" or "max"', got=repr(mode))


class NotMainThreadError(FxError):
    """Python takes signals in the main thread only."""

    def __init__(self):
        super().__init__(
            "StopOnSignal works in the main thread only.",
            fix="Leave the callback out, and call run.stop(reason) from a callback of your own.",
        )


class MissingExtraError(FxError):
    """Something needs a package that an extra of fx-train brings."""

    def __init__(self, what: str, package: str, extra: str):
        super().__init__(f"{what} needs {package}.", fix=f"pip install 'fx-train[{extra}]'")


class InvalidCallbackError(FxError):
    """Something among the callbacks of a run is none.

    ::

      Run(directory, total_steps=10, callbacks=NanGuard())        # no list
      Run(directory, total_steps=10, callbacks=[NanGuard])        # a class
      Run(directory, total_steps=10, callbacks=[NanGuard()])
    """

    def __init__(self, callback: object):
        super().__init__(
            "A run cannot call this back.",
            expected="a list of objects of subclasses of fx_train.Callback",
            got=f"the class {callback.__name__}" if isinstance(callback, type) else repr(callback),
        )


class InvalidCallbackOptionError(FxError):
    """An option of a callback makes no sense."""

    def __init__(self, callback: str, option: str, expected: str, got: object):
        super().__init__(f"{callback} cannot work with this {option}.", expected=expected, got=repr(got))


class InvalidDataError(FxError):
    """The data of a run cannot be iterated over.

    ::

      run.steps(load_batches)          # a function of the first step that gives batches
      run.steps(batches)               # an iterable
    """

    def __init__(self, data: object):
        super().__init__(
            "There are no batches in the data of the run.",
            expected="an iterable of batches, or a function of the first step that gives one",
            got=f"{data!r} of type {type(data).__name__}",
        )


class LateResumeError(FxError):
    """`Run.resume` was called after steps had been recorded, so that steps would come out of order."""

    def __init__(self, step: int):
        super().__init__(
            f"The run cannot resume at step {step}.",
            expected="one call of run.resume before the loop",
            got="a call after steps were recorded",
        )


class ResumeForgottenError(FxError):
    """A run would begin at step 0 beside the checkpoints of an earlier one, which it could not add its own to.

    ::

      with Run(directory, total_steps=1000, callbacks=[Checkpoints(manager, every=100)]) as run:
        state = run.resume(state)                       # this line was missing
    """

    def __init__(self, step: int):
        super().__init__(
            "There are checkpoints of an earlier run, and this one did not resume it.",
            expected="a call of run.resume before the loop, or a manager of a new directory",
            got=f"checkpoints up to step {step}",
        )


class RunDirectoryError(FxError):
    """The directory of a run cannot be made: there is a file of that name, or it may not be written."""

    def __init__(self, path: str, problem: str):
        super().__init__(
            "A run needs a directory.", path=path, expected="a directory, or a place where one can be made", got=problem
        )


class StepBeyondEndError(FxError):
    """`Run.record` was called more often than the run has steps."""

    def __init__(self, total: int):
        super().__init__(
            "All steps of the run were recorded already.",
            expected=f"{total} calls of run.record in all",
            got="one more",
            fix="Loop over run.steps(data), or raise total_steps.",
        )


class MetricsNotMappingError(FxError):
    """The metrics of a step have no names.

    ::

      run.record(state, loss)
      run.record(state, {"loss": loss})
    """

    def __init__(self, metrics: object):
        super().__init__(
            "The metrics of a step have no names.",
            expected='a mapping from names to numbers, such as {"loss": loss}',
            got=type(metrics).__name__,
        )
