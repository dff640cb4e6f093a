"""Meshes from one line of text."""

import math
import re
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from fx_core.errors import ShardingRuleError
from jax.sharding import AxisType, Mesh

__all__ = ["make_mesh"]

_AXIS = re.compile(r"([A-Za-z_]\w*)\s*:\s*(-1|[1-9]\d*)")


def make_mesh(description: str, devices: Sequence[Any] | None = None) -> Mesh:
    """Arranges devices as a description says: axes by name and size, of which one may be -1, for what is left.

    >>> mesh = make_mesh("data:-1, model:1")
    >>> mesh.axis_names, mesh.shape["data"] == jax.device_count()
    (('data', 'model'), True)

    Args:
      description: such as ``"data:-1, model:2"``; the last axis has its devices next to each other.
      devices: the devices, all of all processes by default.

    Returns:
      A mesh whose axes are of type Auto: `jax.jit` decides what the shardings of arrays leave open.

    Raises:
      ShardingRuleError: the description is malformed, or does not use exactly the devices there are.
    """
    devices = list(jax.devices() if devices is None else devices)
    if not isinstance(description, str):
        raise _mesh_description(str(description), len(devices), "a text like 'data:4, model:2'")
    parts = [part.strip() for part in description.split(",")]
    matches = [_AXIS.fullmatch(part) for part in parts]
    if not all(matches):
        raise _mesh_description(description, len(devices), "axes like 'data:4', divided by commas")
    axes = [(match[1], int(match[2])) for match in matches if match]
    names, sizes = [name for name, _ in axes], [size for _, size in axes]
    if len(set(names)) != len(names) or sizes.count(-1) > 1:
        raise _mesh_description(description, len(devices), "every name once, and one -1 at most")
    known = math.prod(size for size in sizes if size != -1)
    if -1 in sizes:
        if len(devices) % known:
            raise _mesh_description(description, len(devices), f"a number of devices that is a multiple of {known}")
        sizes[sizes.index(-1)] = len(devices) // known
    elif known != len(devices):
        raise _mesh_description(description, len(devices), f"{known} devices")
    kinds = (AxisType.Auto,) * len(names)
    if devices == jax.devices():
        # JAX knows which devices are neighbors.
        return jax.make_mesh(tuple(sizes), tuple(names), axis_types=kinds)
    return Mesh(np.array(devices).reshape(sizes), tuple(names), axis_types=kinds)


def _mesh_description(description: str, devices: int, expected: str) -> ShardingRuleError:
    return ShardingRuleError(
        f"No mesh can be made from {description!r}.",
        expected=expected,
        got=f"{description!r} and {devices} devices",
        fix="Write one axis as name:-1 to let it take what is left.",
    )
