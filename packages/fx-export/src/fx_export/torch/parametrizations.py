"""Weights that PyTorch computes out of others: weight normalization and spectral normalization."""

import dataclasses
import re
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from fx_export.torch.errors import TorchMismatchError
from fx_export.torch.layers import LayerRule, Part, TorchArray
from fx_export.torch.layouts import Layout, Shape
from fx_export.torch.normalized import LEFT, LENGTHS, RIGHT

# Names of what a weight is made of: as torch.nn.utils.weight_norm and spectral_norm have them, and as
# torch.nn.utils.parametrizations do.
_LENGTHS = (("{}_g", "{}_v"), ("{}original0", "{}original1"))
_VECTORS = (("{}_orig", "{}_u", "{}_v"), ("{}original", "{}0._u", "{}0._v"))
_STEMS = ("{}", "parametrizations.{}.")
NORMALIZATIONS = ("hooks", "parametrizations")
"""PyTorch's two ways to normalize a weight, by where they are in ``torch.nn.utils``."""

_PARAMETRIZED = re.compile(r"(?P<at>(?:.*\.)?)parametrizations\.(?P<name>\w+)\.(?:original|original0)")
_PLAIN = re.compile(r"(?P<at>(?:.*\.)?)(?P<name>\w+)_(?:g|orig)")


@dataclasses.dataclass(frozen=True)
class NormalizedArray:
    """What a layer has of one of its normalized arrays.

    Attributes:
      kind: `LENGTHS` or `LEFT`.
      shape: its shape.
      beside: the shape of its lengths, with as many axes.
      scalar: it has a single length.
    """

    kind: str
    shape: Shape
    beside: Shape
    scalar: bool


def normalized_rule(rule: LayerRule, arrays: Mapping[str, NormalizedArray], first: str) -> LayerRule:
    """Returns the rule for a layer some of whose arrays are normalized.

    Args:
      rule: the rule for such a layer where they are not.
      arrays: the normalized arrays by their names below the layer.
      first: which of `NORMALIZATIONS` is written; both are read.

    Raises:
      ValueError: PyTorch does not normalize such arrays so.
    """
    forms, problems = list[tuple[TorchArray, ...]](), list[str]()
    for which in sorted(NORMALIZATIONS, key=lambda name: name != first):
        for form in rule.forms:
            try:
                made = [_made_of(array, arrays, NORMALIZATIONS.index(which), rule.kind) for array in form]
            except ValueError as error:
                problems.append(str(error))
            else:
                forms.append(tuple(array for several in made for array in several))
    if not forms:
        raise ValueError("; ".join(dict.fromkeys(problems)))
    return dataclasses.replace(rule, forms=tuple(forms))


def _made_of(array: TorchArray, arrays: Mapping[str, NormalizedArray], names: int, kind: str) -> list[TorchArray]:
    """One of PyTorch's arrays, or those that it is made of."""
    parts = [part for part in array.parts if part is not None and part.ours in arrays]
    if not parts:
        return [array]
    if len(array.parts) > 1:
        raise ValueError(f"{array.name} has several parts here, and PyTorch normalizes it as one")
    (part,), about = parts, arrays[parts[0].ours]
    stem = _STEMS[names].format(array.name)
    if about.kind == LENGTHS:
        layout = _scalar() if about.scalar else part.layout
        _check_lengths(array.name, _torch_shape(part.layout, about.beside), _torch_shape(part.layout, about.shape))
        pieces = [Part(part.ours + LENGTHS, layout), part]
        made = [form.format(stem) for form in _LENGTHS[names]]
    else:
        _check_vectors(array.name, part.layout, about.shape, 1 if kind.startswith("conv_transpose") else 0)
        vector = _flat(part.layout)
        pieces = [part, Part(part.ours + LEFT, vector), Part(part.ours + RIGHT, vector)]
        made = [form.format(stem) for form in _VECTORS[names]]
    return [TorchArray(name, (piece,)) for name, piece in zip(made, pieces, strict=True)]


def _check_lengths(name: str, lengths: Shape, weight: Shape) -> None:
    along = [axis for axis, size in enumerate(lengths) if size != 1]
    if len(lengths) != len(weight) or any(lengths[axis] != weight[axis] for axis in along) or len(along) > 1:
        raise ValueError(f"{name} has lengths along a part of an axis, or along several; PyTorch has one axis")


def _check_vectors(name: str, layout: Layout, shape: Shape, axis: int) -> None:
    """PyTorch takes all axes but one as one, and here it is all but the last."""
    weight, left = _torch_shape(layout, shape), _torch_shape(layout, (*(1 for _ in shape[1:]), shape[-1]))
    if left != tuple(size if number == axis else 1 for number, size in enumerate(weight)):
        raise ValueError(f"{name} is divided by the singular value of another matrix than PyTorch's")


def _torch_shape(layout: Layout, shape: Shape) -> Shape:
    # Without memory: a view of one number.
    return layout.to_torch(np.broadcast_to(np.zeros((), np.bool_), shape)).shape


def _flat(layout: Layout) -> Layout:
    """A vector that lies along some axes of a weight."""

    def from_torch(array: np.ndarray, shape: Shape) -> np.ndarray:
        return layout.from_torch(array.reshape(_torch_shape(layout, shape)), shape)

    return Layout("vector", lambda array: layout.to_torch(array).reshape(-1), from_torch)


def _scalar() -> Layout:
    return Layout("one length", lambda array: array.reshape(()), lambda array, shape: array.reshape(shape))


def computed(state: Mapping[str, Any], kept: Collection[str] = ()) -> dict[str, Any]:
    """Returns a state dictionary with the weights that PyTorch computes with, in place of what they are made of.

    Args:
      state: arrays by name.
      kept: names of what stays as it is, because the network here has it, too.

    Raises:
      TorchMismatchError: a part is missing, or it cannot be determined along which axis a weight was normalized.
    """
    result, problems = dict(state), list[str]()
    for name in state:
        found, forms = _PARAMETRIZED.fullmatch(name), 1
        if found is None:
            found, forms = _PLAIN.fullmatch(name), 0
        if found is None or name in kept:
            continue
        stem = found["at"] + _STEMS[forms].format(found["name"])
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
