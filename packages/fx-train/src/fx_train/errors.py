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


class InvalidScheduleError(FxError):
    """A learning rate schedule cannot be made of these numbers.

    ::

      create_stepped_learning_rate_schedule(0.1, 100, [(30, 0.1), (10, 0.01)])   # epochs fall
      create_stepped_learning_rate_schedule(0.1, 100, [(10, 0.1), (30, 0.01)])
    """

    def __init__(self, argument: str, expected: str, got: object):
        super().__init__(f"The schedule's {argument} makes no sense.", expected=expected, got=repr(got))


class IndivisibleBatchError(FxError):
    """A batch cannot be split evenly.

    ::

      shard(np.zeros((7, 3)))                # 7 examples on 4 devices
      pad_shard_unpad(predict)(params, x)    # pads what is left of an epoch
    """

    def __init__(self, shape: tuple[int, ...], parts: int, what: str):
        super().__init__(
            f"A batch of shape {tuple(shape)} cannot be split between {parts} {what}.",
            expected=f"a leading axis that is a multiple of {parts}",
            got=f"{shape[0]}" if shape else "a scalar",
            fix="Drop or pad the last examples (fx_train.jax_utils.pad_shard_unpad), or choose another batch size.",
        )


class EmptyForestError(FxError):
    """``stack_forest`` and ``get_metrics`` of an empty list: nothing says what the result looks like."""

    def __init__(self):
        super().__init__("There is no tree to stack.", expected="at least one", got="an empty sequence")


class BatchMismatchError(FxError):
    """The arguments of a function of batches have no batch size, or several.

    ::

      pad_shard_unpad(apply)(params, x, 3.0)                            # 3.0 is no batch
      pad_shard_unpad(apply, static_argnums=(0, 2))(params, x, 3.0)
    """

    def __init__(self, shapes: list[tuple[int, ...]]):
        super().__init__(
            "The arguments have no common batch size.",
            expected="at least one array, and one leading axis for all",
            got=", ".join(map(str, shapes)) or "no array",
            fix="Name arguments that are no batches in static_argnums or static_argnames.",
        )


class InvalidScanAxisError(FxError):
    """``scan_in_dim`` over axes that an array does not have, or twice over one.

    With ``keepdims=False`` the body's x and y lack the scanned axes; so a y of the body must have as many axes as are
    needed for the scanned ones to come in between.
    """

    def __init__(self, axes: tuple[int, ...], ndim: int):
        super().__init__(
            f"Cannot scan over axes {axes} of an array with {ndim} axes.",
            expected=f"different axes from {-ndim} to {ndim - 1}",
            got=str(axes),
        )


class InvalidBufferSizeError(FxError):
    """A buffer of no or fewer items cannot hold anything."""

    def __init__(self, what: str, size: object):
        super().__init__(f"{what} cannot hold {size} items.", expected="a size of at least 1", got=repr(size))


class MissingExtraError(FxError):
    """Something needs a package that an extra of fx-train brings."""

    def __init__(self, what: str, package: str, extra: str):
        super().__init__(f"{what} needs {package}.", fix=f"pip install 'fx-train[{extra}]'")


class SummaryShapeError(FxError):
    """A summary cannot be made of this array.

    ::

      writer.scalar("loss", losses, step)          # 32 values
      writer.scalar("loss", losses.mean(), step)
    """

    def __init__(self, kind: str, tag: str, expected: str, got: object):
        super().__init__(f"No {kind} can be made for {tag!r}.", expected=expected, got=str(got))


class PolicyMismatchError(FxError):
    """Parameters are stored in another dtype than the policy of the step says.

    ::

      policy = Policy(params="float32", compute="bfloat16")
      StepState.create(params=bfloat16_params, tx=tx)
      StepState.create(params=policy.to_params(bfloat16_params), tx=tx)
    """

    def __init__(self, path: str, expected: object, got: object):
        super().__init__(
            "A parameter has another dtype than the policy stores.",
            path=path,
            expected=expected,
            got=got,
            fix="Make the state with policy.to_params(params), or change the policy's params.",
        )


class InvalidMaskError(FxError):
    """A mask of trainable parameters does not fit them."""

    def __init__(self, what: str, expected: object, got: object):
        super().__init__(
            what,
            expected=expected,
            got=got,
            fix="Give a tree of booleans like the parameters (or of its subtrees), or a function of path and array.",
        )


class InvalidStepOptionError(FxError):
    """An option of ``make_train_step`` makes no sense."""

    def __init__(self, option: str, expected: str, got: object):
        super().__init__(f"make_train_step cannot work with this {option}.", expected=expected, got=str(got))


class LossOutputError(FxError):
    """A loss function gave something else than a training step needs.

    ::

      return (logits - y) ** 2                      # an array: which number should fall?
      return jnp.mean((logits - y) ** 2)
      return loss, updates                          # a function with a parameter `variables` gives three things
      return loss, {"accuracy": accuracy}, updates
    """

    def __init__(self, expected: str, got: str):
        super().__init__("The loss function gave an unexpected result.", expected=expected, got=got)


class MissingFieldError(FxError):
    """The training step needs something that its state does not have.

    ::

      StepState.create(params=params, tx=tx)                            # loss_fn(params, batch, key) finds no key
      StepState.create(params=params, tx=tx, key=jax.random.key(0))
    """

    def __init__(self, state: str, field: str):
        super().__init__(
            f"The state has no {field}.",
            expected=f"a {state} with a value in its field {field!r}",
            fix=f"Give {field}= to StepState.create.",
        )


class GradientMismatchError(FxError):
    """Gradients are a tree of another structure than the parameters."""

    def __init__(self, missing: list[str], unknown: list[str], params: object, grads: object):
        names = missing or unknown
        super().__init__(
            "The gradients do not fit the parameters.",
            path=", ".join(names) or None,
            expected=f"gradients for {', '.join(missing)}" if missing else f"a tree like the parameters, {params}",
            got=f"none for them, but some for {', '.join(unknown)}" if missing and unknown else grads,
            fix="Differentiate with respect to state.params.",
        )
