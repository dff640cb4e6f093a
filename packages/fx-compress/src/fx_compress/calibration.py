"""Statistics of what layers multiply their weights with, from a few batches of real inputs."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from fx_core import struct
from fx_core.typing import Dtype, PrecisionLike
from jax import lax

from fx_compress.errors import CalibrationError
from fx_compress.held import Held
from fx_compress.parameters import Parameter, map_parameters
from fx_compress.rules import Rule, choose
from fx_compress.schemes import Scheme

__all__ = ["Statistics", "calibrate", "input_scale"]

# Magnitudes that are kept of one layer: enough for a percentile of 99.99, few enough for thousands of layers.
_KEPT = 1 << 16


@dataclasses.dataclass
class Inputs:
    """What is known of the inputs of one layer.

    Attributes:
      rows: number of vectors seen.
      largest: the largest magnitude.
      magnitudes: a sample of the magnitudes of all vectors.
      gram: sum of outer products of the vectors, float64 ``(in, in)``; None where it was not asked for.
    """

    rows: int = 0
    largest: float = 0.0
    magnitudes: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0, np.float32))
    gram: np.ndarray | None = None
    # Each magnitude draws a number, and those of the lowest stay: batches and features have equal chances.
    _draws: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0, np.float32), repr=False)
    _random: np.random.Generator = dataclasses.field(default_factory=lambda: np.random.default_rng(0), repr=False)

    def add(self, inputs: np.ndarray, with_gram: bool) -> None:
        """Takes in vectors, of shape ``(rows, in)``."""
        flat = np.abs(inputs, dtype=np.float32).ravel()
        self.rows += len(inputs)
        self.largest = float(np.maximum(self.largest, flat.max(initial=0.0)))  # NaN stays NaN
        both = np.concatenate([self.magnitudes, flat])
        draws = np.concatenate([self._draws, self._random.random(flat.size, np.float32)])
        kept = np.argpartition(draws, _KEPT)[:_KEPT] if len(both) > _KEPT else slice(None)
        self.magnitudes, self._draws = both[kept], draws[kept]
        if with_gram:
            wide = inputs.astype(np.float64)
            gram = wide.T @ wide
            self.gram = gram if self.gram is None else self.gram + gram


Statistics = Mapping[tuple[int, ...], Inputs]
"""The inputs of a parameter, by the index among stacked layers; ``()`` where layers are not stacked."""


class _Recorder:
    def __init__(self) -> None:
        self.found: dict[str, dict[tuple[int, ...], Inputs]] = {}

    def receive(self, path: str, with_gram: bool, index: Any, inputs: Any) -> None:
        place = tuple(int(i) for i in np.atleast_1d(index)) if np.size(index) else ()
        self.found.setdefault(path, {}).setdefault(place, Inputs()).add(np.asarray(inputs), with_gram)


@struct.dataclass
class _Observed(Held):
    """A weight that notes down what it is multiplied with."""

    array: jax.Array
    index: jax.Array  # int32 [*stacked, number of stacked axes]: which of the stacked layers a slice belongs to
    path: str = struct.field(pytree_node=False)
    with_gram: bool = struct.field(pytree_node=False)
    recorder: _Recorder = struct.field(pytree_node=False)

    def dot_general(
        self,
        lhs: jax.Array,
        dimension_numbers: lax.DotDimensionNumbers,
        precision: PrecisionLike = None,
        preferred_element_type: Dtype | None = None,
        **options: Any,
    ) -> jax.Array:
        (contracted, of_rhs), _ = dimension_numbers
        # In the order of the kernel's axes, which is that of the rows of its matrix.
        order = [axis for _, axis in sorted(zip(of_rhs, contracted))]
        free = [axis for axis in range(lhs.ndim) if axis not in contracted]
        rows = lax.transpose(lhs, (*free, *order)).reshape(-1, int(np.prod([lhs.shape[axis] for axis in order])))
        self._note(rows)
        return super().dot_general(lhs, dimension_numbers, precision, preferred_element_type, **options)

    def conv_general_dilated(self, lhs: jax.Array, *args: Any, **options: Any) -> jax.Array:
        if self.with_gram:
            raise CalibrationError(
                "Rounding that knows its inputs is for linear maps, and this is a convolution.",
                path=self.path,
                expected="a kernel that is contracted",
                got="a kernel that is convolved",
                fix='give convolutions a rule of their own with rounding="nearest"',
            )
        self._note(lhs.reshape(-1, lhs.shape[-1]))
        return super().conv_general_dilated(lhs, *args, **options)

    def _note(self, rows: jax.Array) -> None:
        def receive(index: Any, inputs: Any) -> None:
            self.recorder.receive(self.path, self.with_gram, index, inputs)

        jax.debug.callback(receive, self.index, rows.astype(jnp.float32))


def calibrate(
    function: Callable[..., Any], model: Any, batches: Iterable[Any], rules: Any
) -> dict[str, dict[tuple[int, ...], Inputs]]:
    """Runs a model on batches and gather statistics of the inputs of the weights that rules name.

    Args:
      function: computes the model: ``function(model, *batch)``, such as ``module.apply``, or
        ``lambda model, x: model(x)`` for object modules. It may use ``jit``, ``scan`` and ``vmap``.
      model: variables, a module, a state.
      batches: inputs, each a tuple of positional arguments, a dict of keyword arguments, or one argument.
      rules: those that `quantize` will be given.

    Returns:
      Statistics by path, for `quantize`.

    Raises:
      CalibrationError: there are no batches, or they contain numbers that are not finite.
      RuleError: a rule matches nothing.

    >>> import fx_compress, jax.numpy as jnp
    >>> from fx_core.ops.linear import dense
    >>> rules = fx_compress.int8(activations="static")
    >>> model = {"kernel": jnp.ones((2, 3))}
    >>> found = fx_compress.calibrate(lambda m, x: dense(x, m["kernel"]), model, [jnp.array([[1.0, -4.0]])], rules)
    >>> found["kernel"][()].largest
    4.0
    """
    chosen, recorder = choose(model, rules, Scheme), _Recorder()

    def replace(parameter: Parameter) -> Any:
        rule = chosen.get(parameter.path)
        return parameter.value if rule is None else _observe(parameter, rule, recorder)

    observed, empty = map_parameters(replace, model), True
    for batch in batches:
        empty = False
        if isinstance(batch, dict):
            function(observed, **batch)
        else:
            function(observed, *(batch if isinstance(batch, tuple | list) else (batch,)))
    jax.effects_barrier()
    if empty:
        raise CalibrationError("There is nothing to calibrate with.", expected="one batch at least", got="no batches")
    for path, statistics in recorder.found.items():
        if not all(inputs.rows for inputs in statistics.values()):
            raise CalibrationError(
                "There is nothing to calibrate with.",
                path=path,
                expected="one example at least",
                got="batches of no examples",
                fix="look at the sizes of the batches",
            )
        if not all(np.isfinite(inputs.largest) for inputs in statistics.values()):
            raise CalibrationError(
                "The inputs of this parameter are not finite.",
                path=path,
                expected="finite numbers",
                got="NaN or inf",
                fix="look for the batch, or the layer before, that makes them",
            )
    return recorder.found


def _observe(parameter: Parameter, rule: Rule[Scheme], recorder: _Recorder) -> _Observed:
    assert rule.what is not None
    stacked = parameter.value.shape[: rule.stacked]
    index = np.stack(np.indices(stacked), axis=-1) if stacked else np.zeros(0)
    with_gram = rule.what.rounding in ("gptq", "awq")
    return _Observed(jnp.asarray(parameter.value), jnp.asarray(index, jnp.int32), parameter.path, with_gram, recorder)


def input_scale(scheme: Scheme, statistics: Statistics, stacked: int, path: str) -> jax.Array:
    """Returns the scale of integer inputs that a scheme chooses: a scalar, or one per stacked layer.

    Raises:
      CalibrationError: all inputs were zeros, or those within the percentile.
    """
    scales = {place: _scale(scheme, inputs) for place, inputs in statistics.items()}
    if not all(scales.values()):
        raise CalibrationError(
            "The inputs of this parameter were zeros: they have no range.",
            path=path,
            expected="inputs other than 0",
            got=f"a range of 0 in layers {', '.join(str(p) for p, scale in scales.items() if not scale)}"
            if stacked
            else "a range of 0",
            fix="calibrate with other batches or a higher percentile, or leave out activations= for this parameter",
        )
    if not stacked:
        return jnp.asarray(scales[()], jnp.float32)
    sizes = [1 + max(place[axis] for place in scales) for axis in range(stacked)]
    return jnp.asarray([scales[place] for place in np.ndindex(*sizes)], jnp.float32).reshape(sizes)


def _scale(scheme: Scheme, inputs: Inputs) -> float:
    largest = inputs.largest
    if scheme.calibration == "percentile":
        largest = float(np.percentile(inputs.magnitudes, scheme.percentile))
    elif scheme.calibration == "mse":
        tried = np.linspace(0.3, 1.0, 71) * inputs.largest
        largest = float(min(tried, key=lambda limit: _rounding_error(inputs.magnitudes, limit)))
    # As a number of float32 that processors do not take for 0.
    return max(largest / 127, float(np.finfo(np.float32).tiny)) if largest else 0.0


def _rounding_error(magnitudes: np.ndarray, limit: float) -> float:
    scale = limit / 127 or 1.0
    return float(((np.clip(np.round(magnitudes / scale), 0, 127) * scale - magnitudes) ** 2).mean())


def gram_of(parameter: Parameter, inputs: Inputs | None, rows: int) -> np.ndarray:
    """Returns the mean outer product of the inputs of a parameter whose matrix has that many rows, float64 ``(rows,
    rows)``.

    Raises:
      CalibrationError: there are no such statistics.
    """
    if inputs is None or inputs.gram is None or inputs.gram.shape != (rows, rows):
        raise CalibrationError(
            "The statistics are not those of the inputs of this parameter.",
            path=parameter.path,
            expected=f"outer products of inputs with {rows} entries",
            got=None if inputs is None or inputs.gram is None else f"inputs with {len(inputs.gram)} entries",
            fix="calibrate with the rules that quantize is given, and name contracted axes by Rule(axes=...)",
        )
    return inputs.gram / max(inputs.rows, 1)
