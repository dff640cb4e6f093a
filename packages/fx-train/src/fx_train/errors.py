"""The errors of fx-train: a class for each kind that a caller would catch."""

from fx_core.errors import (
    ArgumentError,
    ArgumentTypeError,
    FxError,
    InvalidAttributeError,
    MissingPackageError,
    ShapeMismatchError,
    ShardingRuleError,
)
from fx_core.typing import Dtype

__all__ = [
    "ArgumentError",
    "ArgumentTypeError",
    "BatchError",
    "DataEndedError",
    "DistributedStartError",
    "DonatedStateError",
    "InvalidAttributeError",
    "MetricError",
    "MissingPackageError",
    "NonFiniteError",
    "RunError",
    "RunFileError",
    "ShapeMismatchError",
    "ShardingRuleError",
    "StateMismatchError",
]


class RunError(FxError):
    """The calls of a `fx_train.Run` do not fit the order of its steps: one was forgotten, came twice, or too late.

    ::

      for step, batch in run.steps(batches):
        state, metrics = train_step(state, batch)
        run.record(state, metrics)                        # this line was missing
    """


class RunFileError(FxError):
    """A file or directory of a run cannot be read or written, or is none of its own.

    ::

      write_report("data")                                # a directory without records of a run
    """


class DistributedStartError(FxError):
    """The processes of a program did not come together, or one does not know its place among them.

    ::

      initialize(process=1)                               # coordinator and number of processes are missing
    """


class StateMismatchError(FxError):
    """A state, its parameters, gradients, variables, masks, dtypes or optimizer do not fit each other.

    ::

      state.apply_gradients(grads=per_example_grads)                                    # (32, 3, 2) for (3, 2)
      state.apply_gradients(grads=jax.tree.map(lambda g: g.mean(axis=0), per_example_grads))
    """


class BatchError(FxError):
    """A batch has no size, several, or one that cannot be split as it has to be.

    ::

      shard(np.zeros((7, 3)))                # 7 examples on 4 devices
      pad_shard_unpad(predict)(params, x)    # pads what is left of an epoch
    """


class MetricError(FxError):
    """Metrics or summaries of a step have no names, are no numbers, or do not fit each other.

    ::

      run.record(state, {"loss": losses})                # an array
      run.record(state, {"loss": losses.mean()})
    """


class DataEndedError(FxError):
    """The data gave fewer batches than the run has steps.

    An iterable is read once. Give `Run.steps` a function of the first step instead, which can start anew::

      for step, batch in run.steps(iter(batches)):        # ends after one epoch
      for step, batch in run.steps(batches_from):         # batches_from(step) goes on for ever
    """


class DonatedStateError(FxError):
    """The memory of a state was given to its successor; it can be used once.

    ::

      new, metrics = train_step(state, batch)
      other, metrics = train_step(state, batch)                           # its arrays are gone
      train_step = make_train_step(loss_fn, donate=False)                 # keeps both
    """


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


_REPAIR = "Remove the line that is named, or the file, from a copy of the directory: the page is made of what is left."


_WAYS = {
    "local devices": "Pad what is left of an epoch (fx_train.jax_utils.pad_shard_unpad), or choose another batch size.",
    "equal parts": "Choose a number of parts that divides the batch size, or pad the batch, with a mask at which the "
    "loss and weight= look.",
    "processes": "Choose a batch size that is a multiple of the number of processes.",
}


def missing_extra(what: str, package: str, extra: str) -> MissingPackageError:
    """Something needs a package that an extra of fx-train brings."""
    return MissingPackageError(f"{what} needs {package}.", fix=f"pip install 'fx-train[{extra}]'")


def invalid_callback_option(callback: str, option: str, expected: str, got: object) -> ArgumentError:
    """An option of a callback makes no sense."""
    return ArgumentError(f"{callback} cannot work with this {option}.", expected=expected, got=repr(got))


def metrics_not_mapping(metrics: object) -> MetricError:
    """The metrics of a step have no names."""
    return MetricError(
        "The metrics of a step have no names.",
        expected='a mapping from names to numbers, such as {"loss": loss}',
        got=type(metrics).__name__,
    )


def damaged_record(file: str, problem: str) -> RunFileError:
    """A file of a run cannot be read."""
    return RunFileError("A record of the run is damaged.", path=file, got=problem, fix=_REPAIR)


def invalid_step_option(
    option: str, expected: str, got: object, *, fix: str | None = None, where: str = "make_train_step"
) -> ArgumentError:
    """An option of ``make_train_step``, or of a state, makes no sense."""
    return ArgumentError(f"{where} cannot work with this {option}.", expected=expected, got=str(got), fix=fix)


def loss_output(expected: str, got: str) -> ArgumentTypeError:
    """A loss function gave something else than a training step needs."""
    return ArgumentTypeError("The loss function gave an unexpected result.", expected=expected, got=got)


def not_trainable(path: str, dtype: Dtype) -> StateMismatchError:
    """A parameter of whole numbers, or of codes of eight bits, cannot be trained."""
    return StateMismatchError(
        "A parameter has no gradient.",
        path=path,
        expected="numbers of floating point, of 16 bits or more",
        got=str(dtype),
        fix="Keep it in the state's variables, or leave it out: trainable= of make_train_step does, and so do "
        "gradients of jax.dtypes.float0, which jax.grad gives with allow_int=True.",
    )


def metric_shape(shapes: dict[str, tuple[int, ...]]) -> MetricError:
    """Arrays for a metric do not belong together."""
    return MetricError(
        "The arrays of a metric do not fit each other.",
        expected="one entry of each for every example",
        got=", ".join(f"{name} {shape}" for name, shape in shapes.items()),
    )


def summary_shape(kind: str, tag: str, expected: str, got: object) -> MetricError:
    """A summary cannot be made of this array."""
    return MetricError(f"No {kind} can be made for {tag!r}.", expected=expected, got=str(got))


def indivisible_batch(shape: tuple[int, ...], parts: int, what: str) -> BatchError:
    """A batch cannot be split evenly."""
    return BatchError(
        f"A batch of shape {tuple(shape)} cannot be split between {parts} {what}.",
        expected=f"a leading axis that is a multiple of {parts}",
        got=f"{shape[0]}" if shape else "a scalar",
        fix=_WAYS.get(what, "Choose another batch size."),
    )


def batch_mismatch(
    shapes: list[tuple[int, ...]], fix: str = "Give arrays, no lists, with one leading axis."
) -> BatchError:
    """A batch, or the arguments of a function of batches, have no batch size, or several."""
    return BatchError(
        "The arrays have no common batch size.",
        expected="at least one array, and one leading axis for all",
        got=", ".join(map(str, shapes)) or "no array",
        fix=fix,
    )


def invalid_buffer_size(what: str, size: object) -> ArgumentError:
    """A buffer of no or fewer items cannot hold anything."""
    return ArgumentError(f"{what} cannot hold {size} items.", expected="a size of at least 1", got=repr(size))
