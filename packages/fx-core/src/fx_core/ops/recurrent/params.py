"""Which parameters recurrent cells have, by gate.

Maps of the input begin with ``i``, maps of the carry with ``h``; a second letter names the gate.
"""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp

from fx_core.ops.initializers import default_bias_init, default_kernel_init, ones, orthogonal
from fx_core.ops.params import Initializer, ParamSpec
from fx_core.typing import Dtype

__all__ = [
    "CellParams",
    "default_recurrent_kernel_init",
    "gru_params",
    "lstm_params",
    "mgu_params",
    "rounded_recurrent_kernel_init",
    "simple_params",
]

CellParams = Mapping[str, Mapping[str, ParamSpec]]
"""Parameters by gate and name, in the order in which they are drawn."""

_orthogonal: Callable[..., jax.Array] = orthogonal()


def default_recurrent_kernel_init(key: jax.Array, shape: tuple[int, ...], dtype: Dtype = jnp.float32) -> jax.Array:
    """Draws an orthogonal matrix: repeated multiplication neither blows the carry up nor shrinks it.

    Saxe et al., Exact solutions to the nonlinear dynamics of learning in deep linear neural networks, 2014. Dtypes of
    less than 32 bits, for which JAX has no QR decomposition, are drawn as float32 and rounded.

    >>> import jax, jax.numpy as jnp
    >>> q = default_recurrent_kernel_init(jax.random.key(0), (3, 3))
    >>> bool(jnp.allclose(q @ q.T, jnp.eye(3), atol=1e-5))
    True
    """
    exact = jnp.dtype(dtype)
    if exact.itemsize >= 4:
        return _orthogonal(key, shape, dtype)
    return _orthogonal(key, shape, jnp.float32).astype(exact)


def rounded_recurrent_kernel_init(key: jax.Array, shape: tuple[int, ...], dtype: Dtype = jnp.float32) -> jax.Array:
    """Draws an orthogonal matrix in the default float dtype, float64 with ``jax_enable_x64``, and rounds it to a dtype.

    `fx_nnx.LSTMCell` starts from it: the bits of a key are those of the dtype that they are drawn in.

    >>> import jax, jax.numpy as jnp
    >>> rounded_recurrent_kernel_init(jax.random.key(0), (3, 3), jnp.bfloat16).dtype
    dtype(bfloat16)
    """
    return _orthogonal(key, shape).astype(dtype)


def _affine(kernel: ParamSpec, bias_init: Initializer | None) -> dict[str, ParamSpec]:
    if bias_init is None:
        return {"kernel": kernel}
    return {"kernel": kernel, "bias": ParamSpec(kernel.shape[1:], bias_init, ("out",))}


def simple_params(
    in_features: int,
    features: int,
    kernel_init: Initializer = default_kernel_init,
    recurrent_kernel_init: Initializer = default_recurrent_kernel_init,
    bias_init: Initializer = default_bias_init,
) -> CellParams:
    """Returns the parameters of `fx_core, by name.ops.recurrent.simple`.

    >>> {gate: list(params) for gate, params in simple_params(3, 4).items()}
    {'i': ['kernel', 'bias'], 'h': ['kernel']}
    """
    inner, outer = _kernels(in_features, features, kernel_init, recurrent_kernel_init)
    return {"i": _affine(inner, bias_init), "h": _affine(outer, None)}


def lstm_params(
    in_features: int,
    features: int,
    kernel_init: Initializer = default_kernel_init,
    recurrent_kernel_init: Initializer = default_recurrent_kernel_init,
    bias_init: Initializer = default_bias_init,
) -> CellParams:
    """Returns the parameters of `fx_core, by name.ops.recurrent.lstm`: gates ``i``, ``f``, ``g``, ``o``.

    >>> list(lstm_params(3, 4))
    ['ii', 'hi', 'if', 'hf', 'ig', 'hg', 'io', 'ho']
    >>> lstm_params(3, 4)["hf"]["bias"].shape
    (4,)
    """
    inner, outer = _kernels(in_features, features, kernel_init, recurrent_kernel_init)
    inputs, hidden = _affine(inner, None), _affine(outer, bias_init)
    return {side + gate: inputs if side == "i" else hidden for gate in "ifgo" for side in "ih"}


def gru_params(
    in_features: int,
    features: int,
    kernel_init: Initializer = default_kernel_init,
    recurrent_kernel_init: Initializer = default_recurrent_kernel_init,
    bias_init: Initializer = default_bias_init,
) -> CellParams:
    """Returns the parameters of `fx_core, by name.ops.recurrent.gru`: gates ``r``, ``z``, ``n``.

    >>> {gate: list(params) for gate, params in gru_params(3, 4).items() if gate[0] == "h"}
    {'hr': ['kernel'], 'hz': ['kernel'], 'hn': ['kernel', 'bias']}
    """
    inner, outer = _kernels(in_features, features, kernel_init, recurrent_kernel_init)
    inputs, gates = _affine(inner, bias_init), _affine(outer, None)
    hidden = {"hr": gates, "hz": gates, "hn": _affine(outer, bias_init)}
    return {side + gate: inputs if side == "i" else hidden["h" + gate] for gate in "rzn" for side in "ih"}


def mgu_params(
    in_features: int,
    features: int,
    reset_gate: bool = True,
    kernel_init: Initializer = default_kernel_init,
    recurrent_kernel_init: Initializer = default_recurrent_kernel_init,
    forget_bias_init: Initializer = ones,
    activation_bias_init: Initializer = default_bias_init,
) -> CellParams:
    """Returns the parameters of `fx_core, by name.ops.recurrent.mgu`: gates ``f``, ``n``.

    >>> list(mgu_params(3, 4)["hn"]), list(mgu_params(3, 4, reset_gate=False)["hn"])
    (['kernel', 'bias'], ['kernel'])
    """
    inner, outer = _kernels(in_features, features, kernel_init, recurrent_kernel_init)
    return {
        "if": _affine(inner, forget_bias_init),
        "hf": _affine(outer, None),
        "hn": _affine(outer, activation_bias_init if reset_gate else None),
        "in": _affine(inner, activation_bias_init),
    }


def _kernels(
    in_features: int, features: int, kernel_init: Initializer, recurrent_kernel_init: Initializer
) -> tuple[ParamSpec, ParamSpec]:
    return (
        ParamSpec((in_features, features), kernel_init, ("in", "out")),
        ParamSpec((features, features), recurrent_kernel_init, ("hidden", "out")),
    )
