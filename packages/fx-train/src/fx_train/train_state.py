"""The state of a training run as one immutable pytree."""

from collections.abc import Callable
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
import optax
from fx_core import struct
from fx_core.errors import ArgumentError

from fx_train.errors import StateMismatchError, invalid_step_option, not_trainable

OVERWRITE_WITH_GRADIENT = "_overwrite_with_gradient"
"""Collection beside ``params`` whose values are *replaced* by their gradients instead of optimized.

Low-precision layers pass new quantization scales to the next step this way.
"""


_WANTED = "required keyword-only argument"


class TrainState(struct.PyTreeNode):
    """Step, parameters, optimizer and its state.

    It is a pytree: it goes through `jax.jit`, `jax.device_put`, checkpoints and state dictionaries. Subclass it to add
    fields, such as ``batch_stats`` or a random key; `apply_gradients` takes new values for them.

    >>> import jax, jax.numpy as jnp, optax
    >>> def predict(params, x):
    ...     return params["w"] * x
    >>> state = TrainState.create(apply_fn=predict, params={"w": jnp.array(2.0)}, tx=optax.sgd(0.1))
    >>> grads = jax.grad(lambda p: state.apply_fn(p, 3.0))(state.params)
    >>> state = state.apply_gradients(grads=grads)
    >>> int(state.step), round(float(state.params["w"]), 3)
    (1, 1.7)

    Attributes:
      step: number of updates made, an int or a scalar integer array.
      apply_fn: the network's function, static.
      params: a pytree of arrays. A dict with the keys ``params`` and `OVERWRITE_WITH_GRADIENT` is optimized in its
        first part only.
      tx: an `optax.GradientTransformation`, static.
      opt_state: the optimizer's state.
    """

    step: int | jax.Array
    apply_fn: Callable[..., Any] = struct.field(pytree_node=False)
    params: Any = struct.field(pytree_node=True)
    tx: optax.GradientTransformation = struct.field(pytree_node=False)
    opt_state: optax.OptState = struct.field(pytree_node=True)

    @classmethod
    def create(
        cls, *, apply_fn: Callable[..., Any], params: Any, tx: optax.GradientTransformation, **kwargs: Any
    ) -> Self:
        """Creates a state at step 0 with a fresh optimizer state; ``kwargs`` are the fields of a subclass.

        Raises:
          ArgumentError: ``tx`` is no optimizer, such as a function that makes one.
        """
        if not (callable(getattr(tx, "init", None)) and callable(getattr(tx, "update", None))) or isinstance(tx, type):
            raise _no_optimizer(cls, tx)
        opt_state = tx.init(optimized(params))
        return cls(step=0, apply_fn=apply_fn, params=params, tx=tx, opt_state=opt_state, **kwargs)

    def apply_gradients(self, *, grads: Any, **kwargs: Any) -> Self:
        """Updates the parameters, the optimizer and the step.

        Args:
          grads: a pytree like ``params``.
          **kwargs: new values of other fields.

        Returns:
          The new state; this one is unchanged.

        Raises:
          StateMismatchError: ``grads`` has another structure than ``params``.
          StateMismatchError: its arrays have other shapes.
          StateMismatchError: the optimizer's update needs more than gradients.
          StateMismatchError: a parameter of whole numbers would be moved by fractions. One whose gradient is of
            `jax.dtypes.float0`, as JAX gives it, stays.
        """
        params = optimized(self.params)
        if jax.tree.structure(grads) != jax.tree.structure(self.params):
            raise _mismatch(self.params, grads)
        if any(np.shape(g) != np.shape(p) for g, p in zip(jax.tree.leaves(grads), jax.tree.leaves(self.params))):
            raise _other_shapes(self.params, grads)
        whole = not all(_is_inexact(leaf) for leaf in jax.tree.leaves(self.params))
        grads, fixed = _without_float0(grads, self.params) if whole else (grads, None)
        try:
            updates, opt_state = self.tx.update(optimized(grads), self.opt_state, params)
        except TypeError as error:
            if _WANTED not in str(error):
                raise
            raise StateMismatchError(
                "The optimizer wants to know more than gradients.",
                expected=f"a call of its update with {str(error).partition(_WANTED)[2].strip(' s:')}",
                got="gradients, its state and the parameters",
                fix="Use fx_train.step.make_train_step, which passes value, grad, value_fn, obj_fn and grad_fn; or "
                "call state.tx.update(grads, state.opt_state, state.params, ...) yourself, and state.replace.",
            ) from error
        if whole:
            updates = _whole_updates(params, updates, optimized(fixed))
        params = with_optimized(grads, optax.apply_updates(params, updates))
        return self.replace(step=self.step + 1, params=params, opt_state=opt_state, **kwargs)


def _without_float0(grads: Any, params: Any) -> tuple[Any, Any]:
    """Gradients with zeros in place of JAX's gradients of whole numbers, and where those are."""
    fixed = jax.tree.map(lambda g: getattr(g, "dtype", None) == jax.dtypes.float0, grads)
    return jax.tree.map(lambda g, p, no: jnp.zeros_like(p) if no else g, grads, params, fixed), fixed


def _whole_updates(params: Any, updates: Any, fixed: Any) -> Any:
    """Updates without those of parameters that stay; see that none would be cut to a whole number."""

    def check(path: Any, param: Any, update: Any, stays: bool) -> Any:
        if is_trainable(param):
            return update
        if stays:
            return jnp.zeros_like(param)
        if _is_inexact(update):
            raise not_trainable(jax.tree_util.keystr(path), jnp.result_type(param))
        return update

    return jax.tree_util.tree_map_with_path(check, params, updates, fixed)


def _no_optimizer(cls: type, tx: Any) -> ArgumentError:
    made = callable(tx)
    return invalid_step_option(
        "tx",
        "an optimizer of optax, such as optax.adam(1e-3)",
        f"the function {getattr(tx, '__name__', tx)}" if made else repr(tx),
        fix="Call it, and pass what it returns." if made else None,
        where=f"{cls.__name__}.create",
    )


def is_trainable(x: Any) -> bool:
    """Returns whether a parameter can take steps: codes of eight bits, such as those of quantized weights, cannot."""
    return _is_inexact(x) and jnp.result_type(x).itemsize > 1


def _is_inexact(x: Any) -> bool:
    return bool(jnp.issubdtype(jnp.result_type(x), jnp.inexact))


def _other_shapes(params: Any, grads: Any) -> StateMismatchError:
    pairs = zip(jax.tree_util.tree_leaves_with_path(params), jax.tree.leaves(grads))
    differ = [(jax.tree_util.keystr(path), np.shape(p), np.shape(g)) for (path, p), g in pairs]
    return _gradient_shape([each for each in differ if each[1] != each[2]])


def _mismatch(params: Any, grads: Any) -> StateMismatchError:
    paths = [
        [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(t)] for t in (params, grads)
    ]
    missing = [path for path in paths[0] if path not in paths[1]]
    unknown = [path for path in paths[1] if path not in paths[0]]
    return _gradient_mismatch(missing, unknown, jax.tree.structure(params), jax.tree.structure(grads))


def _has_overwrites(params: Any) -> bool:
    return hasattr(params, "keys") and OVERWRITE_WITH_GRADIENT in params


def overwritten(params: Any) -> list[bool]:
    """For each leaf of the parameters whether its gradient is its new value, and so neither clipped nor unscaled."""
    if not _has_overwrites(params):
        return [False] * len(jax.tree.leaves(params))
    each = {name: jax.tree.map(lambda _, yes=name == OVERWRITE_WITH_GRADIENT: yes, params[name]) for name in params}
    return jax.tree.leaves(jax.tree.structure(params).unflatten(jax.tree.leaves(each)))


def optimized(params: Any) -> Any:
    """Returns what an optimizer sees of the parameters."""
    return params["params"] if _has_overwrites(params) else params


def with_optimized(params: Any, new: Any) -> Any:
    """Parameters with a new value of what the optimizer sees of them."""
    if not _has_overwrites(params):
        return new
    return type(params)({"params": new, OVERWRITE_WITH_GRADIENT: params[OVERWRITE_WITH_GRADIENT]})


def _gradient_mismatch(missing: list[str], unknown: list[str], params: object, grads: object) -> StateMismatchError:
    names = missing or unknown
    return StateMismatchError(
        "The gradients do not fit the parameters.",
        path=", ".join(names) or None,
        expected=f"gradients for {', '.join(missing)}" if missing else f"a tree like the parameters, {params}",
        got=f"none for them, but some for {', '.join(unknown)}" if missing and unknown else grads,
        fix="Differentiate with respect to state.params.",
    )


def _gradient_shape(differ: list[tuple[str, tuple[int, ...], tuple[int, ...]]]) -> StateMismatchError:
    return StateMismatchError(
        "The gradients have other shapes than the parameters.",
        path=", ".join(path for path, _, _ in differ),
        expected=", ".join(str(shape) for _, shape, _ in differ),
        got=", ".join(str(shape) for _, _, shape in differ),
    )
