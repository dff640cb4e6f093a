"""Stop when a metric no longer improves."""

import math

from fx_core import struct


class EarlyStopping(struct.PyTreeNode):
    """Watches a metric that should fall, and says when it has not for too long.

    >>> stopping = EarlyStopping(min_delta=0.1, patience=1)
    >>> for loss in [1.0, 0.5, 0.49, 0.48]:
    ...     stopping = stopping.update(loss)
    >>> stopping.should_stop, stopping.best_metric
    (True, 0.5)

    A NaN is no improvement, and never the best value.

    Attributes:
      min_delta: an improvement must be larger than this.
      patience: how many updates without improvement are forgiven.
      best_metric: the best value so far.
      patience_count: updates since the last improvement.
      should_stop: whether patience has run out.
      has_improved: whether the last update improved.
    """

    min_delta: float = 0
    patience: int = 0
    best_metric: float = math.inf
    patience_count: int = 0
    should_stop: bool = False
    has_improved: bool = False

    def reset(self) -> "EarlyStopping":
        """Returns the same settings with nothing seen yet."""
        return self.replace(best_metric=math.inf, patience_count=0, should_stop=False, has_improved=False)

    def update(self, metric: float) -> "EarlyStopping":
        """Takes the next value of the metric."""
        nothing_yet = math.isinf(self.best_metric) or math.isnan(self.best_metric)
        if not math.isnan(metric) and (nothing_yet or self.best_metric - metric > self.min_delta):
            return self.replace(best_metric=metric, patience_count=0, has_improved=True)
        should_stop = self.patience_count >= self.patience or self.should_stop
        return self.replace(patience_count=self.patience_count + 1, should_stop=should_stop, has_improved=False)
