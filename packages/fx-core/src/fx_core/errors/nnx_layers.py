"""Errors of the layers of object modules, their metrics and their training."""

from collections.abc import Iterable, Sequence
from typing import Any

from fx_core.errors._base import FxError
from fx_core.errors.nnx import NnxError


class LayerInputError(NnxError):
    """An input does not have as many features as the layer was made for, or is no array.

    Wrong: ``nnx.Linear(3, 4, rngs=rngs)(jnp.ones((2, 5)))``. Right: an input of shape ``(2, 3)``.
    """

    def __init__(
        self,
        layer: str,
        path: str | None,
        expected: int | None,
        shape: Sequence[int] | None,
        *,
        what: str = "input",
        axis: int | Sequence[int] = -1,
        got: Any = None,
    ):
        if shape is None:
            problem, wanted, got = "is no array", "an array of numbers", type(got).__name__
            fix = f"make the {what} an array (jnp.asarray)"
        else:
            where = f"axis {axis}" if isinstance(axis, int) else f"axes {tuple(axis)}"
            problem = "does not have the features that the layer was made for"
            wanted = f"{expected} features in {'the last axis' if axis == -1 else where}"
            got = f"shape {tuple(shape)}"
            fix = f"give the {what} {expected} features, or make the layer for those that it has"
        super().__init__(f"{layer}: the {what} {problem}.", path=path or layer, expected=wanted, got=got, fix=fix)


class CacheMissingError(NnxError):
    """An attention layer is to decode without a cache.

    ::

        layer = nnx.MultiHeadAttention(2, 8, decode=True, rngs=rngs)
        layer(x)                              # wrong
        layer.init_cache((2, 16, 8))          # right: for 2 sequences of 16 tokens
        layer(x)
    """

    def __init__(self, layer: str, path: str | None):
        super().__init__(
            f"{layer}: there is no cache to decode with.",
            path=path or layer,
            expected="a cache for the batch and the longest sequence",
            got="none",
            fix="call init_cache((*batch, length, features)), or set_view(batch_size=..., max_length=...)",
        )


class MetricUpdateError(FxError, TypeError):
    """A metric was updated without the argument that it collects.

    Wrong: ``Average("loss").update(values=x)``. Right: ``Average("loss").update(loss=x)``.
    """

    def __init__(self, metric: str, name: str, got: Iterable[str]):
        super().__init__(
            f"Expected keyword argument {name!r} for {metric}.",
            expected=f"{name}=...",
            got=f"the arguments {sorted(got)}",
            fix=f"pass {name}=..., or make the metric for another argument",
        )


class MetricInputError(NnxError):
    """The values given to a metric do not fit each other."""

    def __init__(self, metric: str, what: str, *, expected: Any, got: Any, fix: str):
        super().__init__(f"{metric}: {what}", expected=expected, got=got, fix=fix)


class EmaStructureError(NnxError):
    """The values for a moving average do not have the structure that it was made for, or are no variables."""

    def __init__(self, what: str, *, path: str | None = None, expected: Any = None, got: Any = None):
        super().__init__(
            what,
            path=path,
            expected=expected,
            got=got,
            fix="update with the model, or a state of it, that the average was made of; choose variables by only=...",
        )


class CaptureTargetError(FxError, TypeError):
    """`capture` was given something whose sown values it cannot find.

    Wrong: ``nnx.capture(lambda x: model(x), nnx.Intermediate)(x)``. Right: ``nnx.capture(model, nnx.Intermediate)(x)``,
    or ``nnx.capture(lambda model, x: model(x), nnx.Intermediate)(model, x)``.
    """

    def __init__(self, got: Any):
        super().__init__(
            "capture needs the module to look at.",
            expected="a module, a method of one, or a function whose arguments hold one",
            got=got,
            fix="pass the module as an argument of the function",
        )


class NoSuchMethodError(FxError, AttributeError):
    """A method that was to be called by name does not exist."""

    def __init__(self, layer: str, name: str):
        super().__init__(
            f"{layer} has no method {name!r}.",
            path=layer,
            expected="the name of a method",
            got=name,
            fix="check the spelling",
        )


class MetricInterfaceError(FxError, NotImplementedError):
    """A metric lacks a method: a subclass of ``Metric`` defines ``update``, ``compute`` and ``reset``."""

    def __init__(self, metric: str, missing: str):
        super().__init__(
            f"{metric} cannot be used as a metric.",
            expected="update(**kwargs), compute(), reset()",
            got=f"no {missing}",
            fix=f"define {missing} in {metric}",
        )


class RngsTypeError(FxError, TypeError):
    """A layer got something else than RNG streams to draw its parameters from.

    Wrong: ``nnx.Linear(3, 4, rngs=0)``. Right: ``nnx.Linear(3, 4, rngs=nnx.Rngs(0))``.
    """

    def __init__(self, got: Any):
        super().__init__(
            "A layer draws its parameters from RNG streams.",
            expected="rngs=nnx.Rngs(seed)",
            got=f"{type(got).__name__}: {got!r}",
            fix="make one Rngs, and hand it to all layers",
        )


class LayerCallError(NnxError):
    """A layer was made or called with arguments that do not fit."""

    def __init__(self, layer: str, what: str, *, expected: Any = None, got: Any = None, fix: str | None = None):
        super().__init__(f"{layer}: {what}", path=layer, expected=expected, got=got, fix=fix)


class OptimizerStateError(NnxError):
    """An optimizer has nothing to train, or gradients do not have the structure of its parameters.

    ::

        nnx.Optimizer(model, tx, wrt=nnx.LoRAParam)   # wrong for a model without adapters
        nnx.Optimizer(model, tx, wrt=nnx.Param)       # right
    """

    def __init__(self, message: str, *, expected: Any, got: Any, fix: str):
        super().__init__(message, expected=expected, got=got, fix=fix)
