"""Which dtypes a step stores, computes and answers in."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from fx_core.array_node import is_array_node
from fx_core.typing import Dtype

from fx_train.errors import StateMismatchError, invalid_step_option

__all__ = ["Policy"]


@dataclasses.dataclass(frozen=True)
class Policy:
    """Dtypes of a training step; only floating-point numbers are concerned.

    Parameters are kept in ``params``, cast to ``compute`` together with the batch for the loss function, whose results
    are cast to ``output``. Gradients pass the casts backwards, so they arrive in ``params``.

    >>> policy = Policy(compute="bfloat16")
    >>> policy.to_compute({"w": jnp.ones(2), "n": jnp.array(1)})["w"].dtype
    dtype(bfloat16)

    Attributes:
      params: dtype in which parameters are stored and updated.
      compute: dtype of parameters and batch in the loss function.
      output: dtype of the loss and the metrics.

    Raises:
      ArgumentError: one is no dtype of floating-point numbers.
    """

    params: Any = "float32"
    compute: Any = "float32"
    output: Any = "float32"

    def __post_init__(self):
        for name in ("params", "compute", "output"):
            dtype = getattr(self, name)
            try:
                fine = jnp.issubdtype(jnp.dtype(dtype), jnp.floating)
            except TypeError:
                fine = False
            if not fine:
                raise invalid_step_option("policy", f"a dtype of floating point for {name}", repr(dtype))

    def to_params(self, tree: Any) -> Any:
        """Casts as parameters are stored; for the parameters that a state begins with."""
        return _cast(tree, self.params)

    def to_compute(self, tree: Any) -> Any:
        """Casts as the loss function sees it."""
        return _cast(tree, self.compute)

    def to_output(self, tree: Any) -> Any:
        """Casts as results are given."""
        return _cast(tree, self.output)

    def check(self, params: Any) -> None:
        """Checks that parameters are stored as they should be.

        Raises:
          StateMismatchError: one is not.
        """
        for path, leaf in jax.tree_util.tree_leaves_with_path(params, is_leaf=is_array_node):
            dtype = jnp.dtype(leaf.dtype) if is_array_node(leaf) else jnp.result_type(leaf)
            if jnp.issubdtype(dtype, jnp.floating) and dtype != jnp.dtype(self.params):
                raise StateMismatchError(
                    "A parameter has another dtype than the policy stores.",
                    path=jax.tree_util.keystr(path),
                    expected=jnp.dtype(self.params),
                    got=dtype,
                    fix="Make the state with policy.to_params(params), or change the policy's params.",
                )


def _cast(tree: Any, dtype: Dtype) -> Any:
    def cast(x: Any) -> Any:
        return x.astype(dtype) if hasattr(x, "dtype") and jnp.issubdtype(x.dtype, jnp.floating) else x

    # An array-like node takes care of its parts: those of a quantized weight keep their dtypes.
    return jax.tree.map(cast, tree, is_leaf=is_array_node)
