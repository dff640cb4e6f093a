"""Layers that lie along an axis of their arrays, as `nn.scan` and `nnx.vmap` keep them, as layers each by itself."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from fx_core.patterns import glob

from fx_export.torch.errors import TorchMismatchError
from fx_export.torch.trees import Network, Path


class Stacked:
    """A network whose stacked layers are numbered: arrays below ``blocks`` are those of ``blocks/0``, ``blocks/1``, ….

    Args:
      network: the network.
      stacked: axis of the layers by pattern of the path below which they lie.

    Attributes:
      arrays: as of `Network`, with a path for each layer.
      objects: as of `Network`; every layer is what the stack is.

    Raises:
      TorchMismatchError: arrays of a stack do not have one number of layers along the axis, or there is no such stack.
    """

    def __init__(self, network: Network, stacked: Mapping[str, int]):
        self._network, self._stacked = network, stacked
        # For each path of the network the axis, and the paths of the layers.
        self._layers: dict[Path, tuple[int, list[Path]]] = {}
        self.arrays: dict[Path, Any] = {}
        self.objects: dict[Path, Any] = {}
        counts: dict[Path, dict[int, Path]] = {}
        problems: list[str] = []
        for path, array in network.arrays.items():
            found = self._stack_of(path)
            if found is None:
                self.arrays[path] = array
                continue
            stack, axis = found
            if not -len(array.shape) <= axis < len(array.shape):
                problems.append(f"{'/'.join(path)}: no axis {axis} of layers, its shape is {tuple(array.shape)}")
                continue
            counts.setdefault(stack, {})[array.shape[axis]] = path
            self._layers[path] = axis, [_numbered(path, stack, n) for n in range(array.shape[axis])]
            self.arrays.update(zip(self._layers[path][1], _pieces(array, axis)))
        for stack, numbers in counts.items():
            if len(numbers) > 1:
                several = ", ".join(f"{count} in {'/'.join(path)}" for count, path in numbers.items())
                problems.append(f"{'/'.join(stack)}: numbers of layers that differ: {several}")
        known = ["/".join(stack) for stack in counts]
        problems += [f"{p}: no layers are stacked there" for p in stacked if not any(glob(name, p) for name in known)]
        if problems:
            raise TorchMismatchError([], [], sorted(problems))
        for path, layer in network.objects.items():
            found = self._stack_of((*path, ""))
            names = [path] if found is None else [_numbered(path, found[0], n) for n in range(min(counts[found[0]]))]
            self.objects.update(dict.fromkeys(names, layer))

    def _stack_of(self, path: Path) -> tuple[Path, int] | None:
        prefixes = (path[:end] for end in range(1, len(path)))
        return next(
            (
                (prefix, axis)
                for prefix in prefixes
                for pattern, axis in self._stacked.items()
                if glob("/".join(prefix), pattern)
            ),
            None,
        )

    def twins(self) -> dict[Path, Path]:
        """For each path whose variable is at an earlier path, too, the earlier one; see `Network.twins`."""
        found: dict[Path, Path] = {}
        for path, first in self._network.twins().items():
            ours, theirs = (self._layers.get(at, (0, [at]))[1] for at in (path, first))
            found.update(zip(ours, theirs) if len(ours) == len(theirs) else ())
        return found

    def filled(self, arrays: Mapping[Path, np.ndarray]) -> Any:
        """Returns such a tree with other arrays; a module gets them itself."""
        whole = {path: array for path, array in arrays.items() if path in self._network.arrays}
        for path, (axis, layers) in self._layers.items():
            whole[path] = np.stack([arrays[layer] for layer in layers], axis) if layers else self._empty(path)
        return self._network.filled(whole)

    def _empty(self, path: Path) -> np.ndarray:
        array = self._network.arrays[path]
        return np.zeros(array.shape, array.dtype)


def _numbered(path: Path, stack: Path, number: int) -> Path:
    return (*stack, str(number), *path[len(stack) :])


def _pieces(array: Any, axis: int) -> list[Any]:
    if isinstance(array, jax.ShapeDtypeStruct):
        shape = list(array.shape)
        count = shape.pop(axis)
        return [jax.ShapeDtypeStruct(tuple(shape), array.dtype)] * count
    whole = np.moveaxis(np.asarray(array), axis, 0)
    return [whole[number] for number in range(len(whole))]
