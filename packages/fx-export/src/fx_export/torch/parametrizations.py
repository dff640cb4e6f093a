"""Weights that PyTorch computes out of others: weight normalization and spectral normalization."""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from fx_export.torch.errors import TorchMismatchError

# Names of what a weight is made of: as torch.nn.utils.weight_norm and spectral_norm have them, and as
# torch.nn.utils.parametrizations do.
_LENGTHS = (("{}_g", "{}_v"), ("{}original0", "{}original1"))
_VECTORS = (("{}_orig", "{}_u", "{}_v"), ("{}original", "{}0._u", "{}0._v"))
_PARAMETRIZED = re.compile(r"(?P<at>(?:.*\.)?)parametrizations\.(?P<name>\w+)\.(?:original|original0)")
_PLAIN = re.compile(r"(?P<at>(?:.*\.)?)(?P<name>\w+)_(?:g|orig)")


def computed(state: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a state dictionary with the weights that PyTorch computes with, in place of what they are made of.

    Args:
      state: arrays by name.

    Raises:
      TorchMismatchError: a part is missing, or it cannot be determined along which axis a weight was normalized.
    """
    result, problems = dict(state), list[str]()
    for name in state:
        found, forms = _PARAMETRIZED.fullmatch(name), 1
        if found is None:
            found, forms = _PLAIN.fullmatch(name), 0
        if found is None:
            continue
        stem = f"{found['at']}parametrizations.{found['name']}." if forms else f"{found['at']}{found['name']}"
        weight = found["at"] + found["name"]
        for kinds, compute in ((_LENGTHS, _of_length), (_VECTORS, _by_largest)):
            parts = [form.format(stem) for form in kinds[forms]]
            if parts[0] != name or weight in state or any(not hasattr(state.get(p), "dtype") for p in parts):
                continue
            try:
                result[weight] = compute(*(np.asarray(state[part]) for part in parts)).astype(state[parts[-1]].dtype)
            except ValueError as error:
                problems.append(f"{name}: {error}")
            for part in parts:
                result.pop(part, None)
    if problems:
        raise TorchMismatchError([], [], problems)
    return result


def _of_length(length: np.ndarray, direction: np.ndarray) -> np.ndarray:
    """A direction with a length for each entry of the axes along which lengths have entries."""
    wide = direction.astype(np.float64)
    if length.ndim not in (0, wide.ndim) or any(s not in (1, d) for s, d in zip(length.shape, wide.shape)):
        raise ValueError(f"lengths of shape {length.shape} do not belong to directions of shape {wide.shape}")
    axes = tuple(axis for axis in range(wide.ndim) if not length.ndim or length.shape[axis] == 1)
    return wide * (length.astype(np.float64) / np.sqrt(np.sum(wide**2, axes, keepdims=True)))


def _by_largest(weight: np.ndarray, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """A weight by its largest singular value, from two vectors."""
    wide, u, v = (array.astype(np.float64) for array in (weight, left, right))
    fitting = [a for a in range(min(2, wide.ndim)) if (wide.shape[a], wide.size // wide.shape[a]) == (u.size, v.size)]
    if not fitting or (len(fitting) > 1 and wide.ndim > 2):
        problem = "no axis" if not fitting else "more than one axis"
        fix = "remove the normalization in PyTorch first" if fitting else "the vectors are those of another weight"
        raise ValueError(f"{problem} of {wide.shape} fits vectors of {u.size} and {v.size} numbers; {fix}")
    matrix = np.moveaxis(wide, fitting[0], 0).reshape(u.size, -1)
    return wide / (u.reshape(-1) @ matrix @ v.reshape(-1))
