"""Pruning: which elements of which weights become and stay zero."""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from fx_core.array_node import ArrayNode

from fx_compress.errors import CompressError, MaskError
from fx_compress.parameters import Parameter, map_parameters, parameters
from fx_compress.rules import Rule, choose

__all__ = ["Magnitude", "Masks", "NofM", "apply_masks", "make_masks", "prune_during_training", "sparsity_schedule"]

Masks = Mapping[str, jax.Array]
"""Booleans by path, of the shape of each pruned weight: True where it stays."""


@dataclasses.dataclass(frozen=True)
class Magnitude:
    """Prune the elements of smallest magnitude. Han et al., *Learning both Weights and Connections*, 2015.

    Attributes:
      sparsity: fraction of the elements that become zero, from 0 up to but not 1.
      together: whether the weights of a rule are ranked together, so that some lose more than others; otherwise each
        loses the same fraction.

    Raises:
      MaskError: the sparsity is out of range.

    >>> import jax.numpy as jnp
    >>> import fx_compress
    >>> kernel = jnp.array([[1.0, -2.0], [3.0, -4.0]])
    >>> fx_compress.make_masks({"kernel": kernel}, fx_compress.Magnitude(0.5))["kernel"].tolist()
    [[False, False], [True, True]]
    """

    sparsity: float
    together: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.sparsity < 1:
            raise MaskError("This is no sparsity.", expected="0 <= sparsity < 1", got=self.sparsity)


@dataclasses.dataclass(frozen=True)
class NofM:
    """A pattern that keeps the ``n`` largest of every ``m`` neighbors of the contracted axis; GPUs have 2:4.

    Mishra et al., *Accelerating Sparse Deep Neural Networks*, 2021.

    Raises:
      MaskError: not ``0 < n < m``.

    >>> import jax.numpy as jnp
    >>> import fx_compress
    >>> kernel = jnp.array([[1.0], [4.0], [3.0], [2.0]])
    >>> fx_compress.make_masks({"kernel": kernel}, fx_compress.NofM(2, 4))["kernel"].ravel().tolist()
    [False, True, True, False]
    """

    n: int = 2
    m: int = 4

    def __post_init__(self) -> None:
        if not 0 < self.n < self.m:
            raise MaskError("This is no pattern of kept neighbors.", expected="0 < n < m", got=f"{self.n}:{self.m}")


Pattern = Magnitude | NofM


def make_masks(model: Any, rules: Any) -> dict[str, jax.Array]:
    """Chooses what to prune by the values of a model.

    Args:
      model: variables of a Linen module, an NNX module or state, or any pytree of arrays.
      rules: a `Magnitude` or `NofM` for all weights, a dict from path patterns to them (None leaves what it matches),
        or a list of `fx_compress.Rule`.

    Returns:
      Masks by path: a plain dict of booleans, which checkpoints hold as it is.

    Raises:
      RuleError: a rule matches nothing.
      MaskError: a size does not divide into groups of ``m``.

    >>> import fx_compress, jax.numpy as jnp
    >>> make_masks({"kernel": jnp.array([[1.0, -4.0], [3.0, 2.0]])}, Magnitude(0.5))["kernel"].tolist()
    [[False, True], [True, False]]
    """
    return _masks(model, choose(model, rules, _PATTERNS), 1.0)


def apply_masks(model: Any, masks: Masks) -> Any:
    """Returns a model of the same kind with zeros where masks are False.

    Raises:
      MaskError: a mask is for no parameter, or for a quantized one, or has another shape.

    >>> apply_masks({"kernel": jnp.ones(2)}, {"kernel": jnp.array([True, False])})["kernel"].tolist()
    [1.0, 0.0]
    """
    left = set(masks)

    def apply(parameter: Parameter) -> Any:
        mask = masks.get(parameter.path)
        if mask is None:
            return parameter.value
        left.discard(parameter.path)
        if isinstance(parameter.value, ArrayNode):
            raise MaskError(
                "This weight is no array of numbers that could be zero.",
                path=parameter.path,
                expected="an array",
                got=type(parameter.value).__name__,
                fix="prune first and quantize then: zeros stay zeros",
            )
        if mask.shape != parameter.value.shape:
            raise MaskError(
                "A mask has not the shape of its parameter.",
                path=parameter.path,
                expected=parameter.value.shape,
                got=mask.shape,
                fix="make masks of this model anew",
            )
        return jnp.where(mask, parameter.value, jnp.zeros((), parameter.value.dtype))

    pruned = map_parameters(apply, model)
    if left:
        raise MaskError(
            "Masks are for parameters that the model does not have.",
            expected=", ".join(parameter.path for parameter in parameters(model))[:200],
            got=", ".join(sorted(left)),
            fix="masks go by path from the root: make them of the same tree that they are applied to",
        )
    return pruned


def sparsity_schedule(begin: int, end: int) -> Any:
    """Returns how much of the final sparsity is reached at each step: quickly at first, then ever more slowly.

    Zhu and Gupta, *To prune, or not to prune*, 2017: 1 − (1 − t)³ for t from 0 at ``begin`` to 1 at ``end``.

    Raises:
      MaskError: not ``0 <= begin < end``.

    >>> schedule = sparsity_schedule(10, 30)
    >>> [round(float(schedule(step)), 3) for step in (0, 10, 20, 30, 40)]
    [0.0, 0.0, 0.875, 1.0, 1.0]
    """
    if not 0 <= begin < end:
        raise MaskError("This is no span of steps.", expected="0 <= begin < end", got=f"{begin} to {end}")

    def schedule(step: Any) -> jax.Array:
        left = 1 - jnp.clip((jnp.asarray(step, jnp.float32) - begin) / (end - begin), 0, 1)
        return 1 - left**3

    return schedule


class PruningState(NamedTuple):
    """State of `prune_during_training`.

    Attributes:
      step: number of updates so far.
      masks: those in force.
    """

    step: jax.Array
    masks: dict[str, jax.Array]


def prune_during_training(rules: Any, schedule: Any = None, every: int = 100) -> Any:
    """Returns an optax transformation that prunes while training goes on. Put it last in an `optax.chain`.

    Every so many steps it chooses anew what is smallest, more of it as the schedule says; at every step pruned
    elements become exactly zero, whatever the optimizer before it does.

    Args:
      rules: as for `make_masks`, for the tree that the optimizer sees.
      schedule: fraction of the final sparsity at a step, such as `sparsity_schedule`; None for all of it from the
        first step on. A pattern of neighbors has no fractions: it comes in force when the schedule reaches 1.
      every: how often masks are chosen, in steps; also where the schedule reaches 1, and from then on they stay.

    Raises:
      CompressError: optax is not installed.

    >>> import jax.numpy as jnp
    >>> import optax
    >>> import fx_compress
    >>> tx = optax.chain(optax.sgd(0.1), fx_compress.prune_during_training(fx_compress.Magnitude(0.5)))
    >>> params = {"kernel": jnp.array([[1.0, -2.0], [3.0, -4.0]])}
    >>> updates, _ = tx.update({"kernel": jnp.zeros((2, 2))}, tx.init(params), params)
    >>> optax.apply_updates(params, updates)["kernel"].tolist()
    [[0.0, 0.0], [3.0, -4.0]]
    """
    try:
        import optax
    except ImportError as error:
        raise CompressError("Pruning during training needs optax.", fix="pip install 'fx-compress[optax]'") from error

    def amount(step: Any) -> jax.Array:
        return jnp.ones(()) if schedule is None else jnp.asarray(schedule(step), jnp.float32)

    def init(params: Any) -> PruningState:
        return PruningState(jnp.zeros((), jnp.int32), _masks(params, choose(params, rules, _PATTERNS), amount(0)))

    def update(updates: Any, state: PruningState, params: Any = None, **extra: Any) -> tuple[Any, PruningState]:
        del extra
        if params is None:
            raise MaskError("Pruning needs the parameters.", expected="update(gradients, state, params)", got=None)
        chosen = choose(params, rules, _PATTERNS)
        # Masks are final once they were chosen with the whole sparsity.
        final, before = amount(state.step) >= 1, amount(state.step - 1) >= 1
        renew = ((state.step % every == 0) | final) & ~before
        masks = jax.lax.cond(renew, lambda: _masks(params, chosen, amount(state.step)), lambda: state.masks)
        values = {parameter.path: parameter.value for parameter in parameters(params)}

        def masked(parameter: Parameter) -> Any:
            mask = masks.get(parameter.path)
            # In the dtype of the parameter, in which the sum is exactly zero: updates may be of fewer bits.
            return parameter.value if mask is None else jnp.where(mask, parameter.value, -values[parameter.path])

        return map_parameters(masked, updates), PruningState(state.step + 1, masks)

    return optax.GradientTransformationExtraArgs(init, update)  # type: ignore[arg-type]


_PATTERNS: Any = (Magnitude, NofM)


def _masks(model: Any, chosen: Mapping[str, Rule[Any]], amount: Any) -> dict[str, jax.Array]:
    found = {parameter.path: parameter for parameter in parameters(model) if parameter.path in chosen}
    masks: dict[str, jax.Array] = {}
    patterns: dict[Any, None] = dict.fromkeys(rule.what for rule in chosen.values())
    for what in patterns:
        group = {path: parameter for path, parameter in found.items() if chosen[path].what == what}
        if isinstance(what, NofM):
            masks |= {path: _neighbors(what, p, chosen[path], amount) for path, p in group.items()}
        elif what.together:
            masks |= _smallest_of_all(group, what.sparsity * amount)
        else:
            masks |= {path: _smallest(jnp.abs(p.value), what.sparsity * amount) for path, p in group.items()}
    return masks


def _smallest(magnitudes: jax.Array, sparsity: Any) -> jax.Array:
    # By rank and not by a threshold: equal values must not all go, or all stay.
    ranks = jnp.argsort(jnp.argsort(magnitudes.reshape(-1), stable=True)).reshape(magnitudes.shape)
    return ranks >= jnp.round(jnp.asarray(sparsity, jnp.float32) * magnitudes.size).astype(ranks.dtype)


def _smallest_of_all(group: Mapping[str, Parameter], sparsity: Any) -> dict[str, jax.Array]:
    flat = [jnp.abs(p.value).reshape(-1).astype(jnp.float32) for p in group.values()]
    kept, start, masks = _smallest(jnp.concatenate(flat), sparsity), 0, {}
    for path, parameter in group.items():
        size = parameter.value.size
        masks[path] = kept[start : start + size].reshape(parameter.value.shape)
        start += size
    return masks


def _neighbors(what: NofM, parameter: Parameter, rule: Rule[Any], amount: Any) -> jax.Array:
    axis, value = rule.contracted(parameter)[-1], jnp.abs(parameter.value)
    size = value.shape[axis]
    if size % what.m:
        raise MaskError(
            f"The inputs do not divide into groups of {what.m} neighbors.",
            path=parameter.path,
            expected=f"a multiple of {what.m}",
            got=size,
            fix="give this parameter a rule of its own, such as None or a Magnitude",
        )
    moved = jnp.moveaxis(value, axis, -1)
    groups = moved.reshape(*moved.shape[:-1], -1, what.m)
    ranks = jnp.argsort(jnp.argsort(groups, axis=-1, stable=True), axis=-1)
    kept = jnp.moveaxis((ranks >= what.m - what.n).reshape(moved.shape), -1, axis)
    return kept | (jnp.asarray(amount) < 1)
