"""From a state dictionary of PyTorch to a network here."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from fx_core.patterns import glob

from fx_export.torch.errors import TorchMismatchError
from fx_export.torch.layers import Part, TorchArray
from fx_export.torch.normalized import Normalized
from fx_export.torch.translation import Site, Translation, their_arrays
from fx_export.torch.trees import Path

Pieces = dict[tuple[Path, tuple[int, int] | None], np.ndarray]


class Reader:
    """Reads the arrays of a network from a state dictionary, and notes everything that does not fit.

    Args:
      network: where the arrays belong; only shapes and dtypes of what is there count.
      translation: how it is translated.
      state: PyTorch's arrays by name.
      cast: whether other dtypes are cast.
    """

    def __init__(self, network: Normalized, translation: Translation, state: Mapping[str, np.ndarray], cast: bool):
        self._network, self._translation, self._state, self._cast = network, translation, dict(state), cast
        self._used: set[str] = set()
        self._missing: dict[Path, str] = {}
        self._different: list[str] = []

    def read(self, tied: Mapping[str, str], ignore: Sequence[str]) -> dict[Path, np.ndarray]:
        """Returns the network's arrays by path.

        Raises:
          TorchMismatchError: something is missing, left over, or different; everything is listed.
        """
        self._untie(tied)
        pieces: Pieces = {}
        for site in self._translation.sites:
            self._site(site, pieces)
        for path in self._translation.loose:
            name = self._translation.their_name(path)
            array = self._taken(name, [path], tuple(self._network.arrays[path].shape))
            if array is not None:
                pieces[path, None] = array
        arrays = self._put_together(pieces)
        self._agree(arrays)
        unexpected = sorted(
            f"{name} {_shown(array)}"
            for name, array in self._state.items()
            if name not in self._used and not any(glob(name, pattern) for pattern in ignore)
        )
        missing = sorted(f"{'/'.join(path)} ({name})" for path, name in self._missing.items())
        if missing or unexpected or self._different:
            raise TorchMismatchError(missing, unexpected, sorted(self._different))
        return {path: self._of_dtype(path, array) for path, array in arrays.items()}

    def _untie(self, tied: Mapping[str, str]) -> None:
        for second, first in tied.items():
            other = self._state.pop(second, None)
            if other is not None and not _same(self._state.setdefault(first, other), other):
                self._different.append(f"{second}: other numbers than {first}, to which it is tied")

    def _site(self, site: Site, pieces: Pieces) -> None:
        forms = [their_arrays(self._translation, site, form) for form in site.rule.forms]
        # The form of which there is most; the first of those.
        arrays = max(forms, key=lambda form: sum(name in self._state for name, _ in form) / max(1, len(form)))
        for name, array in arrays:
            if array.beside:
                self._used.add(name)
            else:
                self._array(site, name, array, pieces)

    def _array(self, site: Site, name: str, array: TorchArray, pieces: Pieces) -> None:
        shapes = [None if part is None else _shape(site, part) for part in array.parts]
        known = [shape for shape in shapes if shape is not None]
        if any(part is not None and part.ours not in site.arrays for part in array.parts):
            self._different.append(f"{name}: parts of it have no place in {'/'.join(site.path)}")
            return
        rows = [(shape or known[0])[0] if known[0] else 1 for shape in shapes]
        wanted = (sum(rows), *known[0][1:]) if len(shapes) > 1 else known[0]
        found = self._taken(name, [site.at(part.ours) for part in array.parts if part], wanted)
        if found is None:
            return
        ends = [sum(rows[: i + 1]) for i in range(len(rows) - 1)]
        for part, piece in zip(array.parts, np.split(found, ends) if ends else [found]):
            if part is None:
                if np.any(piece):
                    self._different.append(f"{name}: a part is not zero that the layer here does not have")
                continue
            at = site.at(part.ours), part.piece
            whole = part.layout.from_torch(piece, _whole(site, part))
            pieces[at] = pieces[at] + whole if at in pieces else whole

    def _taken(self, name: str, paths: Sequence[Path], shape: tuple[int, ...]) -> np.ndarray | None:
        self._used.add(name)
        found = self._state.get(name)
        if found is None:
            self._missing.update(dict.fromkeys(paths, name))
            return None
        if tuple(found.shape) != shape:
            self._different.append(f"{name}: its shape is {tuple(found.shape)}, expected is {shape}")
            return None
        dtypes = {np.dtype(self._network.arrays[path].dtype).name for path in paths}
        if not self._cast and dtypes != {found.dtype.name}:
            self._different.append(
                f"{name}: its dtype is {found.dtype}, expected is {', '.join(sorted(dtypes))} or cast=True"
            )
            return None
        return found

    def _put_together(self, pieces: Pieces) -> dict[Path, np.ndarray]:
        whole = {path: array for (path, piece), array in pieces.items() if piece is None}
        parts: dict[Path, dict[int, np.ndarray]] = {}
        counts: dict[Path, int] = {}
        for (path, piece), array in pieces.items():
            if piece is not None:
                counts[path] = piece[1]
                parts.setdefault(path, {})[piece[0]] = array
        # Where one is missing, so that it has been noted, there is no array.
        complete = {path: found for path, found in parts.items() if len(found) == counts[path]}
        return whole | {path: np.concatenate([found[i] for i in sorted(found)], -1) for path, found in complete.items()}

    def _agree(self, arrays: dict[Path, np.ndarray]) -> None:
        """What is one variable at two paths has one value, from either of PyTorch's names or from both."""
        for path, first in self._network.twins().items():
            if path in arrays and first in arrays:
                if not _same(arrays[path], arrays[first]):
                    self._different.append(
                        f"{'/'.join(path)}: other numbers than {'/'.join(first)}, which is the same variable"
                    )
                continue
            one = arrays.get(path, arrays.get(first))
            if one is not None:
                arrays[path] = arrays[first] = one
                for known in (path, first):
                    self._missing.pop(known, None)

    def _of_dtype(self, path: Path, array: np.ndarray) -> np.ndarray:
        dtype = np.dtype(self._network.arrays[path].dtype)
        if array.dtype == dtype:
            return array
        name = "/".join(path)
        if not (np.can_cast(array.dtype, dtype, "same_kind") or {array.dtype.kind, dtype.kind} <= {"f", "V"}):
            raise TorchMismatchError([], [], [f"{name}: {array.dtype} is not cast to {dtype}"])
        with np.errstate(over="ignore"):
            cast = array.astype(dtype)
        if array.dtype.kind in "fV" and np.any(np.isfinite(array) & ~np.isfinite(cast)):
            raise TorchMismatchError([], [], [f"{name}: numbers of {array.dtype} are too large for {dtype}"])
        if {array.dtype.kind, dtype.kind} <= set("iu") and np.any(cast != array):
            raise TorchMismatchError([], [], [f"{name}: numbers of {array.dtype} do not fit into {dtype}"])
        return cast


def _whole(site: Site, part: Part) -> tuple[int, ...]:
    shape = tuple(site.arrays[part.ours].shape)
    return shape if part.piece is None else (*shape[:-1], shape[-1] // part.piece[1])


def _shape(site: Site, part: Part) -> tuple[int, ...] | None:
    """The shape that PyTorch has for a part."""
    if part.ours not in site.arrays:
        return None
    # Without memory: a view of one number.
    stand_in = np.broadcast_to(np.zeros((), np.bool_), _whole(site, part))
    return part.layout.to_torch(stand_in).shape


def _same(one: np.ndarray, other: np.ndarray) -> bool:
    return one.shape == other.shape and one.dtype == other.dtype and one.tobytes() == other.tobytes()


def _shown(array: Any) -> str:
    shape = getattr(array, "shape", None)
    return f"({type(array).__name__})" if shape is None else f"{array.dtype}{tuple(shape)}"
