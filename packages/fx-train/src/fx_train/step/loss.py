"""The loss function of a training step: what it asks for, and what it gives."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fx_train.errors import StateMismatchError, loss_output
from fx_train.step.policy import Policy
from fx_train.train_state import TrainState

Weight = Callable[[Any], Any]
"""The weight of a batch among others, from the batch."""


class Loss:
    """A loss function with casts and checks, whose result is always (loss, metrics, variables).

    Attributes:
      wants: which of ``key`` and ``variables`` it has a parameter for.
    """

    def __init__(
        self,
        loss_fn: Callable[..., Any],
        policy: Policy | None,
        parameters: Callable[[Any], Any] | None = None,
    ):
        self._loss_fn, self._policy, self._parameters = loss_fn, policy, parameters or _same
        self.wants = frozenset(inspect.signature(loss_fn).parameters) & {"key", "variables"}

    def inputs(self, state: TrainState) -> tuple[Any, Any]:
        """Returns the state's key for this step and its variables, each None if it is not used.

        Raises:
          StateMismatchError: it asks for what the state does not have.
        """
        key = jax.random.fold_in(field(state, "key"), state.step) if "key" in self.wants else None
        return key, field(state, "variables") if "variables" in self.wants else None

    def __call__(self, params: Any, batch: Any, key: Any, variables: Any) -> tuple[jax.Array, dict[str, Any], Any]:
        """Loss, metrics and new variables, which are the old ones where the function gives none.

        Variables are not cast: running averages would lose what little a step adds to them.

        Raises:
          ArgumentTypeError, StateMismatchError: the function gives something else.
        """
        # The loss may write into the containers that it gets, as modules made of them do: they have to be its own.
        own = jax.tree.map(_same, variables)
        more = {name: value for name, value in (("key", key), ("variables", own)) if name in self.wants}
        cast, give = (self._policy.to_compute, self._policy.to_output) if self._policy else (_same, _same)
        out = self._loss_fn(self._parameters(cast(params)), cast(batch), **more)
        parts: Any = out if isinstance(out, tuple) else (out,)
        has_variables = "variables" in self.wants
        if len(parts) not in ((3,) if has_variables else (1, 2)) or not isinstance(([*parts, {}])[1], Mapping):
            raise loss_output(
                "(loss, metrics, variables)" if has_variables else "loss or (loss, metrics)",
                f"a tuple of {len(parts)}" if isinstance(out, tuple) else type(out).__name__,
            )
        if not isinstance(parts[0], jax.Array | np.ndarray | np.generic | int | float):
            raise loss_output("a scalar loss of floating point", type(parts[0]).__name__)
        value = jnp.asarray(parts[0])
        if value.shape != () or not jnp.issubdtype(value.dtype, jnp.floating):
            raise loss_output("a scalar loss of floating point", f"{value.dtype.name} of shape {value.shape}")
        metrics = _checked_metrics(parts[1] if len(parts) > 1 else {})
        return give(value), give(metrics), _updated(variables, parts[2]) if has_variables else None

    def changes_variables(self, state: TrainState, batch: Any) -> bool:
        """Returns whether it gives other variables than it got, found out without computing anything."""
        if "variables" not in self.wants:
            return False
        changed = []

        def look(params: Any, batch: Any, key: Any, variables: Any) -> None:
            new = self(params, batch, key, variables)[2]
            changed[:] = [x is not y for x, y in zip(jax.tree.leaves(variables), jax.tree.leaves(new))]

        jax.eval_shape(look, state.params, batch, *self.inputs(state))
        return any(changed)


def field(state: TrainState, name: str) -> Any:
    """Returns what a state has in a field.

    Raises:
      StateMismatchError: nothing.
    """
    value = getattr(state, name, None)
    if value is None:
        raise StateMismatchError(
            f"The state has no {name}.",
            expected=f"a {type(state).__name__} with a value in its field {name!r}",
            fix=f"Give {name}= to StepState.create.",
        )
    return value


def _checked_metrics(metrics: Mapping[str, Any]) -> dict[str, Any]:
    taken = sorted(_TAKEN & {*metrics})
    if taken:
        raise loss_output(f"metrics with other names than {', '.join(sorted(_TAKEN))}", ", ".join(taken))
    for name, metric in metrics.items():
        for leaf in jax.tree.leaves(metric):
            if not isinstance(leaf, jax.Array | np.ndarray | np.generic | int | float | complex):
                raise loss_output("metrics that are numbers or arrays", f"{type(leaf).__name__} in {name!r}")
    return dict(metrics)


_TAKEN = frozenset({"loss", "grad_norm", "finite", "loss_scale"})
"""What a step itself says."""


def _same(tree: Any) -> Any:
    return tree


def _updated(variables: Any, new: Any) -> Any:
    """New variables in the structure and the dtypes of the old ones; whole collections may be missing."""
    if isinstance(variables, Mapping) and isinstance(new, Mapping):
        new = {**{name: variables[name] for name in variables}, **new}
    old_leaves, new_leaves = (jax.tree_util.tree_leaves_with_path(tree) for tree in (variables, new))
    paths = [[jax.tree_util.keystr(path) for path, _ in leaves] for leaves in (old_leaves, new_leaves)]
    shapes = [[jnp.shape(leaf) for _, leaf in leaves] for leaves in (old_leaves, new_leaves)]
    if paths[0] != paths[1] or shapes[0] != shapes[1]:
        raise _variables_mismatch(*(dict(zip(p, s)) for p, s in zip(paths, shapes)))
    leaves = [_cast_like(leaf, old) for (_, leaf), (_, old) in zip(new_leaves, old_leaves)]
    return jax.tree.structure(variables).unflatten(leaves)


def _cast_like(new: Any, old: Any) -> Any:
    dtype = jnp.result_type(old)
    return new if getattr(new, "dtype", None) == dtype else jnp.asarray(new, dtype)


def _variables_mismatch(expected: dict[str, tuple[int, ...]], got: dict[str, tuple[int, ...]]) -> StateMismatchError:
    differ = sorted({*expected.items()} ^ {*got.items()})
    names = list(dict.fromkeys(name for name, _ in differ))
    return StateMismatchError(
        "The loss function's new variables do not fit the old ones.",
        path=", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "") if names else None,
        expected=", ".join(f"{n} {expected[n]}" if n in expected else f"no {n}" for n in names[:5]),
        got=", ".join(f"{n} {got[n]}" if n in got else f"no {n}" for n in names[:5]),
        fix="Give the collections with all their arrays, or leave out those that do not change.",
    )
