"""Errors of schedules, batches and iterators."""

from fx_core.errors import FxError


class InvalidScheduleError(FxError):
    """A learning rate schedule cannot be made of these numbers.

    ::

      create_stepped_learning_rate_schedule(0.1, 100, [(30, 0.1), (10, 0.01)])   # epochs fall
      create_stepped_learning_rate_schedule(0.1, 100, [(10, 0.1), (30, 0.01)])
    """

    def __init__(self, argument: str, expected: str, got: object):
        super().__init__(f"The schedule's {argument} makes no sense.", expected=expected, got=repr(got))


_WAYS = {
    "local devices": "Pad what is left of an epoch (fx_train.jax_utils.pad_shard_unpad), or choose another batch size.",
    "equal parts": "Choose a number of parts that divides the batch size, or pad the batch, with a mask at which the "
    "loss and weight= look.",
    "processes": "Choose a batch size that is a multiple of the number of processes.",
}


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
            fix=_WAYS.get(what, "Choose another batch size."),
        )


class EmptyForestError(FxError):
    """``stack_forest`` and ``get_metrics`` of an empty list: nothing says what the result looks like."""

    def __init__(self):
        super().__init__("There is no tree to stack.", expected="at least one", got="an empty sequence")


class BatchMismatchError(FxError):
    """A batch, or the arguments of a function of batches, have no batch size, or several.

    ::

      pad_shard_unpad(apply)(params, x, 3.0)                            # 3.0 is no batch
      pad_shard_unpad(apply, static_argnums=(0, 2))(params, x, 3.0)
    """

    def __init__(self, shapes: list[tuple[int, ...]]):
        super().__init__(
            "The arrays have no common batch size.",
            expected="at least one array, and one leading axis for all",
            got=", ".join(map(str, shapes)) or "no array",
            fix="Give arrays, no lists, with one leading axis; name others of pad_shard_unpad in static_argnums.",
        )


class UnpaddableResultError(FxError):
    """A padded function gave a scalar: nothing of the padding can be taken off a number.

    ::

      pad_shard_unpad(lambda params, x: loss(params, x).mean())(params, x)     # the mean has the padding in it
      pad_shard_unpad(lambda params, x: loss(params, x))(params, x).mean()
    """

    def __init__(self, devices: int, examples: int):
        super().__init__(
            "A function of padded batches gave a scalar.",
            expected=f"arrays ({devices} devices, {examples} examples, ...)",
            got="a scalar",
            fix="Return a value per example, or pass static_return=True if the padding does no harm.",
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


class NotEnoughDataError(FxError):
    """There are fewer examples than one batch has, or none."""

    def __init__(self, examples: int, size: int):
        super().__init__(
            f"{examples} examples make no batch of {size}.",
            expected="a batch of 1 or more examples, and at least as many examples",
            got=f"{examples} examples and a batch of {size}",
            fix="Choose a smaller batch, or see why there are so few examples.",
        )


class InvalidPartError(FxError):
    """A process asks for a part of every batch that does not exist; it would train on nothing."""

    def __init__(self, index: int, count: int):
        super().__init__(
            "There is no such part of a batch.",
            expected=f"process=(index, count) with an index from 0 to {count - 1}"
            if count > 0
            else "at least one part",
            got=f"({index}, {count})",
            fix="Use fx_train.distributed.batch_part(mesh).",
        )


class NoPositionError(FxError):
    """An iterator does not know its position, so that it cannot be saved or restored.

    ::

      Checkpoints(manager, every=100, iterators={"data": Prefetch(generator())})        # a generator cannot go back
      run.steps(batches_from)                            # a function of the step needs no position
    """

    def __init__(self, kind: str):
        super().__init__(
            f"The position of a {kind} cannot be saved.",
            expected="an iterator with get_state and set_state, such as those of grain",
            got=kind,
            fix="Use such an iterator, or give run.steps a function of the first step.",
        )
