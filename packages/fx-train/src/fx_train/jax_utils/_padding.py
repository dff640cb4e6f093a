"""Batches of any size for functions that want one size per device."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from fx_train.errors import BatchError, batch_mismatch


def pad_shard_unpad(
    wrapped: Callable[..., Any],
    static_argnums: int | Sequence[int] = (0,),
    static_argnames: str | Sequence[str] = (),
    static_return: bool = False,
) -> Callable[..., Any]:
    """Lets a function of device-sharded batches take batches of any size, such as the last one of an epoch.

    The arguments' batch axes are padded with zeros to a multiple of the number of local devices and split between
    them; the results are joined and cut to the size that came. The function must treat the examples independently:
    sums over a batch would see the padding.

    >>> double = pad_shard_unpad(lambda params, x: params * x)
    >>> double(2.0, np.arange(3.0)).tolist()
    [0.0, 2.0, 4.0]

    Args:
      wrapped: takes arrays (devices, batch / devices, ...), often a `jax.pmap`.
      static_argnums: position or positions of arguments that are handed on as they are, such as parameters.
      static_argnames: name or names of such keyword arguments.
      static_return: hand the result on as it is.

    Returns:
      A function of arrays (batch, ...) that gives NumPy arrays (batch, ...). Its further keyword argument
      ``min_device_batch`` pads to at least so many examples per device, so that one compiled size serves all.

    Raises:
      BatchError: by the function, when there is no array or their leading axes differ.
      BatchError: by the function, when a result is a scalar, into which the padding went as well.
    """
    fixed = frozenset((static_argnums,) if isinstance(static_argnums, int) else static_argnums)
    fixed_names = frozenset((static_argnames,) if isinstance(static_argnames, str) else static_argnames)

    @functools.wraps(wrapped)
    def call(*args: Any, min_device_batch: int | None = None, **kwargs: Any) -> Any:
        dynamic = [x for i, x in enumerate(args) if i not in fixed]
        dynamic += [x for name, x in kwargs.items() if name not in fixed_names]
        batch = _batch_size(dynamic)
        devices = jax.local_device_count()
        per_device = max(-(-batch // devices), min_device_batch or 0)

        def pad(tree: Any) -> Any:
            return jax.tree.map(lambda x: _padded(x, devices, per_device), tree)

        out = wrapped(
            *(x if i in fixed else pad(x) for i, x in enumerate(args)),
            **{name: x if name in fixed_names else pad(x) for name, x in kwargs.items()},
        )
        if static_return:
            return out
        out = jax.device_get(out)
        if any(np.ndim(leaf) == 0 for leaf in jax.tree.leaves(out)):
            raise BatchError(
                "A function of padded batches gave a scalar.",
                expected=f"arrays ({devices} devices, {per_device} examples, ...)",
                got="a scalar",
                fix="Return a value per example, or pass static_return=True if the padding does no harm.",
            )
        return jax.tree.map(lambda x: x.reshape((-1, *x.shape[2:]))[:batch], out)

    return call


def _batch_size(trees: list[Any]) -> int:
    shapes = [np.shape(leaf) for leaf in jax.tree.leaves(trees)]
    sizes = {shape[0] if shape else None for shape in shapes}
    if len(sizes) != 1 or None in sizes:
        fix = "Give arrays, no lists, with one leading axis; name others in static_argnums or static_argnames."
        raise batch_mismatch(shapes, fix)
    return shapes[0][0]


def _padded(x: Any, devices: int, per_device: int) -> Any:
    missing = devices * per_device - x.shape[0]
    if missing:
        x = np.concatenate([x, np.zeros((missing, *x.shape[1:]), x.dtype)])
    return x.reshape((devices, per_device, *x.shape[1:]))
