"""Ranges of activations as variables beside the weights: the collection ``observers``."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from fx_core import struct
from fx_core.ops.lowp import OVERWRITE_WITH_GRADIENT
from fx_core.plugins.registry import registry
from fx_core.typing import Dtype, PrecisionLike
from jax import lax

from fx_compress.calibration import Inputs
from fx_compress.errors import CalibrationError
from fx_compress.held import Held
from fx_compress.observers import observers, range_of
from fx_compress.parameters import Parameter, map_parameters, parameters
from fx_compress.rules import choose
from fx_compress.schemes import Scheme
from fx_compress.straight import round_inputs

__all__ = ["Observing", "observe", "ranges", "with_observers"]

COLLECTION = "observers"
_SUFFIX = "range"


@struct.dataclass
class Observing(Held):
    """A float weight that keeps the range of what it multiplies in a variable beside it, and may round by it.

    Attributes:
      array: the weight.
      scheme: says what the range of a batch is.
      momentum: weight of what the variable knows against what it sees; None for the largest range of all.
      rounds: whether inputs are rounded: by the range that is known, or by their own where none is.
      range: the variable, where a layer fetched the weight beside which there is one.
    """

    array: jax.Array
    scheme: Scheme = struct.field(pytree_node=False)
    momentum: float | None = struct.field(pytree_node=False)
    rounds: bool = struct.field(pytree_node=False)
    range: Any = struct.field(pytree_node=False, default=None)

    def fetched(self, beside: Any) -> "Observing":
        """Returns the same with the variable beside it; see `fx_core.array_node.ArrayNode.fetched`."""
        return dataclasses.replace(self, range=beside(COLLECTION, _SUFFIX, lambda: jnp.zeros((), jnp.float32)))

    def dot_general(
        self,
        lhs: jax.Array,
        dimension_numbers: lax.DotDimensionNumbers,
        precision: PrecisionLike = None,
        preferred_element_type: Dtype | None = None,
        **options: Any,
    ) -> jax.Array:
        """Contracts inputs, after a look at them."""
        (contracted, _), _ = dimension_numbers
        lhs = self._seen(lhs, tuple(contracted))
        return super().dot_general(lhs, dimension_numbers, precision, preferred_element_type, **options)

    def conv_general_dilated(self, lhs: jax.Array, *args: Any, **options: Any) -> jax.Array:
        """Convolves an image, after a look at it."""
        return super().conv_general_dilated(self._seen(lhs, tuple(range(1, lhs.ndim))), *args, **options)

    def _seen(self, lhs: jax.Array, axes: tuple[int, ...]) -> jax.Array:
        sizes = jnp.abs(lax.stop_gradient(lhs).astype(jnp.float32))
        if self.range is None:
            return round_inputs(lhs, sizes.max(axes, keepdims=True)) if self.rounds else lhs
        known, now = self.range.read(), _range_of_batch(self.scheme, sizes)
        if self.range.write is not None:
            more = jnp.maximum(known, now) if self.momentum is None else known + (1 - self.momentum) * (now - known)
            self.range.write(jnp.where(known > 0, more, now))
        return round_inputs(lhs, jnp.where(known > 0, known, now)) if self.rounds else lhs


def _range_of_batch(scheme: Scheme, sizes: jax.Array) -> jax.Array:
    largest = sizes.max()
    if scheme.calibration == "percentile":
        return jnp.percentile(sizes, scheme.percentile)
    if scheme.calibration == "mse":
        limits = jnp.linspace(0.3, 1.0, 71) * largest

        def error(limit: jax.Array) -> jax.Array:
            return ((lax.stop_gradient(round_inputs(sizes, limit)) - sizes) ** 2).mean()

        return limits[jnp.argmin(lax.map(error, limits))]
    return largest


def with_observers(model: Any, rules: Any) -> Any:
    """Returns a model of the same kind with an observer for each weight whose rule has static activations.

    Observers are variables of the collection ``observers``, float32, of the shape of the stacked layers: the range of
    what the weight is multiplied with, 0 at first. Linen has them beside ``params``, named ``kernel_range`` for a
    parameter ``kernel``, and ``apply(…, mutable=["observers"])`` gives the new ones; NNX modules have them as
    attributes of that name and type ``fx_nnx.Observer``. They learn in models of `fx_compress.fake_quantize` and
    `fx_compress.observe`; checkpoints hold them; `fx_compress.ranges` gives them to `fx_compress.quantize`.

    Args:
      model: variables of a Linen module by collection, or an NNX module. Observers that are there stay.
      rules: as for `fx_compress.quantize`.

    Raises:
      RuleError: a rule matches nothing.
      CalibrationError: no rule has static activations, or there is no place for observers.

    >>> import fx_compress, jax.numpy as jnp
    >>> variables = {"params": {"Dense_0": {"kernel": jnp.ones((2, 2))}}}
    >>> fx_compress.with_observers(variables, fx_compress.int8(activations="static"))["observers"]
    {'Dense_0': {'kernel_range': Array(0., dtype=float32)}}
    """
    zeros = {path: seen[..., 0] for path, seen in observers(model, rules).items()}
    if isinstance(model, Mapping) and "params" in model:
        held = model.get(COLLECTION, {})
        for path, zero in zeros.items():
            held = _with(held, path.split("/")[1:], zero, path)
        return type(model)({**model, COLLECTION: held})  # type: ignore[call-arg]
    copy = map_parameters(lambda parameter: parameter.value, model)
    for path, zero in zeros.items():
        *names, last = path.split("/")
        owner = copy
        for name in names:
            owner = _part(owner, name)
        if isinstance(owner, Mapping | list | tuple) or not hasattr(getattr(owner, last, None), "get_value"):
            raise _no_place(path, type(owner).__name__)
        if not hasattr(owner, f"{last}_{_SUFFIX}"):
            setattr(owner, f"{last}_{_SUFFIX}", registry().collections[COLLECTION].load()(zero))
    return copy


def _part(owner: Any, name: str) -> Any:
    if isinstance(owner, Mapping):
        return owner[name]
    return owner[int(name)] if name.isdecimal() else getattr(owner, name)


def _with(tree: Mapping[str, Any], names: list[str], value: jax.Array, path: str) -> dict[str, Any]:
    """Returns nested dicts with an observer for a parameter, unless it is there."""
    first, *rest = names
    if rest:
        return {**tree, first: _with(tree.get(first, {}), rest, value, path)}
    return {f"{first}_{_SUFFIX}": value, **tree}


def _no_place(path: str, owner: str) -> CalibrationError:
    return CalibrationError(
        "There is no place for an observer beside this parameter.",
        path=path,
        expected="variables by collection, with params, or an NNX module that has the parameter as an attribute",
        got=f"a parameter in a {owner}",
        fix="use fx_compress.observers for parameters alone",
    )


def observe(model: Any, rules: Any, *, momentum: float | None = None) -> Any:
    """Returns a model that computes what it did, and learns the ranges of static activations on the way.

    Where observers are mutable, as `fx_compress.with_observers` says, they take in what each weight is multiplied with.
    Several batches, one after the other, calibrate; `fx_compress.calibrate` does so for models without collections and
    for error-compensating rounding.

    Args:
      model: variables of a Linen module, or an NNX module; its other variables, observers too, are those of the result.
      rules: as for `fx_compress.quantize`.
      momentum: weight of the range that is known against that of a batch; None for the largest of all.

    Raises:
      RuleError: a rule matches nothing.

    >>> import fx_compress, jax.numpy as jnp
    >>> observed = fx_compress.observe({"kernel": jnp.eye(2)}, fx_compress.int8(activations="static"))
    >>> (jnp.array([[1.0, 2.0]]) @ observed["kernel"]).tolist()
    [[1.0, 2.0]]
    """
    chosen = choose(model, rules, Scheme)

    def replace(parameter: Parameter) -> Any:
        rule = chosen.get(parameter.path)
        if rule is None or rule.what is None or rule.what.activations != "static":
            return parameter.value
        return Observing(jnp.asarray(parameter.value), rule.what, momentum, rounds=False)

    return map_parameters(replace, model, share=True)


def ranges(model: Any) -> dict[str, dict[tuple[int, ...], Inputs]]:
    """Returns what observers learned, as statistics for `fx_compress.quantize`.

    Args:
      model: variables with the collection ``observers``, whose paths begin with ``params`` if that is there; an NNX
        module or state with observers; observers by path of `fx_compress.observers`, after training; or parameters that
        hold those as ``_overwrite_with_gradient``.

    Raises:
      CalibrationError: an observer saw nothing, or is none; there are none.

    >>> import jax.numpy as jnp
    >>> import fx_compress
    >>> variables = {"params": {}, "observers": {"dense": {"kernel_range": jnp.array(3.0)}}}
    >>> fx_compress.ranges(variables)["params/dense/kernel"][()].largest
    3.0
    """
    found: dict[str, dict[tuple[int, ...], Inputs]] = {}
    for path, known in _known(model).items():
        values = jax.device_get(known)
        if not (values > 0).all():
            raise CalibrationError(
                "An observer saw no inputs, or zeros only.",
                path=path,
                expected="positive ranges",
                got=values.tolist(),
                fix="let the model, made by fake_quantize or observe, compute with observers that are mutable",
            )
        found[path] = {
            place: Inputs(rows=1, largest=float(values[place]), magnitudes=values[place].reshape(1))
            for place in np.ndindex(*values.shape)
        }
    if not found:
        raise CalibrationError(
            "There are no observers.",
            expected="a collection observers, or variables of type Observer",
            got=type(model).__name__,
            fix="make them by fx_compress.with_observers",
        )
    return found


def _known(model: Any) -> dict[str, jax.Array]:
    """Ranges by path: of gradients where arrays are in no collection, else of variables beside the weights."""
    if isinstance(model, Mapping):
        by_path = model.get(OVERWRITE_WITH_GRADIENT, model)
        if by_path is not model or not any(isinstance(part, Mapping) for part in model.values()):
            return {path: range_of(_pair(path, seen)) for path, seen in by_path.items()}
    above = f"{COLLECTION}/"
    within = "params/" if isinstance(model, Mapping) and "params" in model else ""
    return {
        within + parameter.path.removeprefix(above).removesuffix(f"_{_SUFFIX}"): jnp.asarray(parameter.value)
        for parameter in parameters(model)
        if parameter.kind == "Observer" or (parameter.kind is None and parameter.path.startswith(above))
    }


def _pair(path: str, seen: Any) -> jax.Array:
    if np.shape(seen)[-1:] != (2,):
        raise CalibrationError(
            "This is no observer.",
            path=path,
            expected="a range and a number of uses, shape (2,) or (*stacked layers, 2)",
            got=f"shape {np.shape(seen)}",
            fix="make observers anew by fx_compress.observers",
        )
    return jnp.asarray(seen)
