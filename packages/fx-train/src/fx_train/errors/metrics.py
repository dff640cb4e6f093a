"""Errors of metrics and summaries."""

from fx_core.errors import FxError


class MetricShapeError(FxError):
    """Arrays for a metric do not belong together.

    ::

      accuracy.update(labels=labels, predictions=logits)             # (32,) and (32, 10)
      accuracy.update(labels=labels, predictions=logits.argmax(-1))
    """

    def __init__(self, shapes: dict[str, tuple[int, ...]]):
        super().__init__(
            "The arrays of a metric do not fit each other.",
            expected="one entry of each for every example",
            got=", ".join(f"{name} {shape}" for name, shape in shapes.items()),
        )


class MetricMergeError(FxError):
    """Two metrics have not counted the same things."""

    def __init__(self, one: str, other: str):
        super().__init__(
            "These metrics cannot be merged.", expected=f"another {one}", got=other, fix="Make both by one empty(...)."
        )


class InvalidAverageError(FxError):
    """There are three ways to average over classes."""

    def __init__(self, average: object):
        super().__init__(
            "There is no such average.", expected='"macro", "micro", "weighted" or None', got=repr(average)
        )


class SummaryShapeError(FxError):
    """A summary cannot be made of this array.

    ::

      writer.scalar("loss", losses, step)          # 32 values
      writer.scalar("loss", losses.mean(), step)
    """

    def __init__(self, kind: str, tag: str, expected: str, got: object):
        super().__init__(f"No {kind} can be made for {tag!r}.", expected=expected, got=str(got))
