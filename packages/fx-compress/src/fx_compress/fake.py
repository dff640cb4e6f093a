"""Training for quantized weights: rounding in the forward pass, none in the backward pass."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from fx_core import struct
from fx_core.ops.lowp import OVERWRITE_WITH_GRADIENT
from fx_core.typing import Dtype, PrecisionLike
from jax import lax

from fx_compress.held import Held
from fx_compress.observers import Observed
from fx_compress.observing import Observing
from fx_compress.parameters import Parameter, map_parameters
from fx_compress.rules import choose
from fx_compress.schemes import Scheme
from fx_compress.straight import round_inputs, straight_through

__all__ = ["fake_quantize", "quantization_aware"]


@struct.dataclass
class FakeQuantized(Held):
    """A float weight that multiplies inputs which are rounded as the integer model will round them.

    Attributes:
      array: the weight, rounded already.
    """

    array: jax.Array

    def dot_general(
        self,
        lhs: jax.Array,
        dimension_numbers: lax.DotDimensionNumbers,
        precision: PrecisionLike = None,
        preferred_element_type: Dtype | None = None,
        **options: Any,
    ) -> jax.Array:
        """Contracts inputs, rounded by their own largest value."""
        (contracted, _), _ = dimension_numbers
        lhs = _by_own(lhs, tuple(contracted))
        return super().dot_general(lhs, dimension_numbers, precision, preferred_element_type, **options)

    def conv_general_dilated(self, lhs: jax.Array, *args: Any, **options: Any) -> jax.Array:
        """Convolves an image, rounded by the largest value of each example."""
        lhs = _by_own(lhs, tuple(range(1, lhs.ndim)))
        return super().conv_general_dilated(lhs, *args, **options)


def fake_quantize(
    model: Any, rules: Any, *, observers: Mapping[str, jax.Array] | None = None, momentum: float = 0.9
) -> Any:
    """Rounds the weights of a model to what quantizing them would give, with gradients that pass straight through.

    Put it between the parameters and the network in a loss: the parameters stay floats, the network sees quantized
    ones, and `quantize` with the same rules gives in the end the model that was trained. Variables of NNX that are not
    rounded, such as running statistics, are those of the model itself. Bengio et al., *Estimating or
    Propagating Gradients Through Stochastic Neurons*, 2013; Jacob et al., *Quantization and Training of Neural
    Networks for Efficient Integer-Arithmetic-Only Inference*, 2018.

    Args:
      model: as for `fx_compress.quantize`.
      rules: as for `fx_compress.quantize`. Error-compensating rounding counts as rounding to nearest. Static
        activations are rounded by the ranges of the collection ``observers``, which learns them where it is mutable
        (see `fx_compress.with_observers`), and as dynamic ones where there is none.
      observers: ranges of static activations by path instead, as `fx_compress.observers` makes them; their gradients
        are their new values.
      momentum: weight of what an observer knows against what it sees.

    Raises:
      RuleError: a rule matches nothing.
      SchemeError: a scheme does not fit its parameter.

    >>> import fx_compress, jax, jax.numpy as jnp
    >>> params = {"kernel": jnp.array([[0.1, 1.0]])}
    >>> jax.grad(lambda p: fx_compress.fake_quantize(p, fx_compress.int4())["kernel"].sum())(params)["kernel"].tolist()
    [[1.0, 1.0]]
    """
    chosen = choose(model, rules, Scheme)

    def replace(parameter: Parameter) -> Any:
        rule = chosen.get(parameter.path)
        if rule is None or rule.what is None:
            return parameter.value
        array = jnp.asarray(parameter.value)
        rounded = rule.what.quantize(lax.stop_gradient(array), rule.contracted(parameter), path=parameter.path)
        passed = straight_through(array, rounded.materialize())
        if observers is not None and parameter.path in observers:
            return Observed(passed, observers[parameter.path], momentum)
        if rule.what.activations == "static":
            return Observing(passed, rule.what, momentum, rounds=True)
        return passed if rule.what.activations is None else FakeQuantized(passed)

    return map_parameters(replace, model, share=True)


def quantization_aware(rules: Any, *, momentum: float = 0.9) -> Callable[[Any], Any]:
    """Returns `fake_quantize` as a function of parameters, for the argument ``parameters`` of ``make_train_step``.

    Parameters of the form ``{"params": …, "_overwrite_with_gradient": observers(params, rules)}``, which training
    states of fx-train know, round static activations by ranges that are learned on the way; the loss function gets the
    part ``params`` alone, rounded.

    Args:
      rules: as for `fx_compress.quantize`, for the parameters.
      momentum: weight of what an observer knows against what it sees.

    >>> import fx_compress, jax, jax.numpy as jnp
    >>> seen = quantization_aware(fx_compress.int4())({"kernel": jnp.array([[0.1, 1.0]])})["kernel"]
    >>> seen.tolist() == fx_compress.int4().quantize(jnp.array([[0.1, 1.0]])).materialize().tolist()
    True
    """

    def rounded(params: Any) -> Any:
        held = isinstance(params, Mapping) and OVERWRITE_WITH_GRADIENT in params
        own = params["params"] if held else params
        return fake_quantize(own, rules, observers=params[OVERWRITE_WITH_GRADIENT] if held else None, momentum=momentum)

    return rounded


def _by_own(x: jax.Array, axes: tuple[int, ...]) -> jax.Array:
    return round_inputs(x, jnp.abs(lax.stop_gradient(x).astype(jnp.float32)).max(axes, keepdims=True, initial=0))
