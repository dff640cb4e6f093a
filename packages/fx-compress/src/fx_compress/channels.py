"""Pruning whole features: channels and attention heads are removed, and what remains is smaller."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fx_compress.errors import MaskError, StructureError
from fx_compress.follow import follow
from fx_compress.inference import difference_of, parts_of
from fx_compress.parameters import map_parameters, parameters
from fx_compress.program import Program, pure, trace
from fx_compress.prune import apply_masks
from fx_compress.rules import choose

__all__ = ["Channels", "Removal", "RemovalReport", "remove_channels"]


@dataclasses.dataclass(frozen=True)
class Channels:
    """A rule that removes the features of the smallest weights.

    Li et al., *Pruning Filters for Efficient ConvNets*, 2017.

    A feature is measured by all weights that go with it, in the layer that makes it, in those that take it, and in
    those that residual connections tie to it: Fang et al., *DepGraph: Towards Any Structural Pruning*, 2023.

    Attributes:
      fraction: of the features that are removed, from 0 up to but not 1; at least one stays.
      axis: of the parameter: -1 for the output features of a layer; -2 for the heads of a query kernel
        ``(in, heads, depth)``.

    Raises:
      MaskError: the fraction is out of range.

    >>> import fx_compress
    >>> fx_compress.Channels(0.5)  # half of the output features of a layer
    Channels(fraction=0.5, axis=-1)
    """

    fraction: float
    axis: int = -1

    def __post_init__(self) -> None:
        if not 0 <= self.fraction < 1:
            raise MaskError("This is no fraction of features.", expected="0 <= fraction < 1", got=self.fraction)


@dataclasses.dataclass(frozen=True)
class Removal:
    """One parameter before and after.

    Attributes:
      path: where it is.
      before: its shape.
      after: its shape now.

    >>> import fx_compress
    >>> fx_compress.Removal("params/dense/kernel", before=(4, 8), after=(4, 6)).after
    (4, 6)
    """

    path: str
    before: tuple[int, ...]
    after: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class RemovalReport:
    """What `remove_channels` did; as text it is a table.

    Attributes:
      rows: the parameters that became smaller.
      masks: those of the model that computes the same at the old size, for `fx_compress.apply_masks`.
      difference: the largest difference to its results on the sample inputs, over the largest result.

    >>> import fx_compress
    >>> row = fx_compress.Removal("params/dense/kernel", before=(4, 8), after=(4, 6))
    >>> print(fx_compress.RemovalReport((row,), masks={}, difference=1e-7))
    params/dense/kernel  4×8 -> 4×6
    results differ from those of the masked model by 1.0e-07
    """

    rows: tuple[Removal, ...]
    masks: Mapping[str, jax.Array]
    difference: float

    def __str__(self) -> str:
        width = max((len(row.path) for row in self.rows), default=0)
        lines = [
            f"{row.path.ljust(width)}  {'×'.join(map(str, row.before))} -> {'×'.join(map(str, row.after))}"
            for row in self.rows
        ]
        return "\n".join([*lines, f"results differ from those of the masked model by {self.difference:.1e}"])


def remove_channels(
    model: Any,
    rules: Any,
    *inputs: Any,
    function: Callable[..., Any] | None = None,
    module: Any = None,
    **call: Any,
) -> tuple[Any, RemovalReport]:
    """Removes whole features, such as channels and attention heads, so that the matrices become smaller.

    Where the features go is read from the traced program, in evaluation mode: through norms with running averages,
    activations, residual connections, pooling and reshapes, to the layers that take them. The result computes what the
    model with zeros in the place of these weights computes, which is checked on the sample inputs.

    Args:
      model: as for `fx_compress.for_inference`.
      rules: a dict from path patterns to `Channels` (None leaves what it matches), or a list of `fx_compress.Rule`.
      *inputs: of one call, to trace the model with.
      function: as for `fx_compress.for_inference`.
      module: for a Linen module with its variables: the module whose fields have the smaller sizes, which only its
        author can name.
      **call: keyword arguments of each call of a module.

    Returns:
      An object of the same kind with smaller arrays, and what was removed.

    Raises:
      RuleError: a rule matches nothing.
      StructureError: features reach the result, a norm over features, or an operation that cannot lose them; or the
        smaller model does not compute what it should.

    >>> import fx_compress, jax.numpy as jnp
    >>> variables = {"a": {"kernel": jnp.eye(4)}, "b": {"kernel": jnp.ones((4, 2))}}
    >>> def network(v, x):
    ...     return jnp.tanh(x @ v["a"]["kernel"]) @ v["b"]["kernel"]
    >>> rules = {"a/kernel": fx_compress.Channels(0.5)}
    >>> smaller, report = fx_compress.remove_channels(variables, rules, jnp.ones((1, 4)), function=network)
    >>> print(report)
    a/kernel  4×4 -> 4×2
    b/kernel  4×2 -> 2×2
    results differ from those of the masked model by 0.0e+00
    """
    parts = parts_of(model, function, call, keep=True)
    if parts.function is None or not inputs:
        raise StructureError(
            "Features are followed through a traced program.",
            expected="sample inputs, and a model that can be called",
            got=f"{len(inputs)} inputs and a {type(model).__name__}",
            fix="pass function=lambda variables, *inputs: ..., or the module beside its variables",
        )
    chosen = choose(parts.tree, rules, Channels)
    program = trace(parts.function, parts.tree, inputs)
    values = {p.path: p.value for p in parameters(parts.tree)}
    kept = _kept(program, values, {path: rule.what for path, rule in chosen.items() if rule.what is not None})
    masks = {path: _mask(values[path].shape, axes) for path, axes in kept.items()}

    def smaller(parameter: Any) -> Any:
        axes, value = kept.get(parameter.path, {}), parameter.value
        for axis, keep in axes.items():
            value = jnp.take(value, np.flatnonzero(keep), axis=axis)
        return value

    made = map_parameters(smaller, parts.tree)
    if parts.resize is not None:
        parts.resize(made)
    rows = tuple(Removal(p.path, values[p.path].shape, p.value.shape) for p in parameters(made) if p.path in kept)
    wanted = _results(parts.function, apply_masks(parts.tree, masks), inputs)
    run, whole = parts.function, parts.whole
    if parts.rebind is not None and module is not None:
        run, whole = parts.rebind(module)
    try:
        difference = difference_of(wanted, _results(run, made, inputs))
    except Exception as error:
        sizes = "; ".join(f"{row.path} is {list(row.after)}" for row in rows[:6])
        raise StructureError(
            "The smaller model does not compute what the masked one does.",
            got=f"{type(error).__name__}: {error}".partition("\n")[0],
            expected=sizes,
            fix="pass module= with the smaller sizes in its fields (Linen), or let layers use their parameters' sizes",
        ) from error
    return whole(made), RemovalReport(rows, masks, difference)


def _results(function: Callable[..., Any], tree: Any, inputs: Sequence[Any]) -> Any:
    run, weights = pure(function, tree)
    return jax.jit(run)(weights, tuple(inputs))


def _kept(
    program: Program, values: Mapping[str, Any], chosen: Mapping[str, Channels]
) -> dict[str, dict[int, np.ndarray]]:
    """Which entries of which axes of which parameters stay."""
    kept: dict[str, dict[int, np.ndarray]] = {}
    for path, what in chosen.items():
        if path not in program.weights:
            raise StructureError("Quantized weights cannot be made smaller.", path=path, fix="dequantize first")
        axis = what.axis % len(values[path].shape)
        if axis in kept.get(path, {}):
            continue  # tied to the features of an earlier rule
        group = follow(program, path, axis)
        size = values[path].shape[axis]
        norms = sum(
            _squares(values[other], at, labels, size)
            for other, axes in group.items()
            for at, labels in axes.items()
            if len(values[other].shape) > 1
        )
        removed = np.argsort(norms, kind="stable")[: min(round(what.fraction * size), size - 1)]
        for other, axes in group.items():
            for at, labels in axes.items():
                # Features of several rules may meet in one axis, one after the other.
                before = kept.setdefault(other, {}).get(at, True)
                kept[other][at] = ~np.isin(labels, removed) & before
    return kept


def _squares(value: Any, axis: int, labels: np.ndarray, size: int) -> np.ndarray:
    wide = np.asarray(value, np.float64)
    squares = (wide**2).sum(tuple(i for i in range(wide.ndim) if i != axis))
    return np.bincount(labels[labels >= 0], squares[labels >= 0], size)


def _mask(shape: tuple[int, ...], axes: Mapping[int, np.ndarray]) -> jax.Array:
    mask = np.ones(shape, bool)
    for axis, keep in axes.items():
        mask &= keep.reshape([-1 if i == axis else 1 for i in range(len(shape))])
    return jnp.asarray(mask)
