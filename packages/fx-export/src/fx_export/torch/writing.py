"""From a network here to a state dictionary of PyTorch."""

from collections.abc import Mapping, Sequence

import numpy as np

from fx_export.torch.errors import TorchMismatchError
from fx_export.torch.layers import Part, TorchArray
from fx_export.torch.normalized import Normalized
from fx_export.torch.translation import Site, Translation, their_arrays


def written(network: Normalized, translation: Translation, tied: Mapping[str, str]) -> dict[str, np.ndarray]:
    """Returns the state dictionary.

    Raises:
      TorchMismatchError: a layer's arrays fit none of PyTorch's forms, or two arrays get one name.
    """
    state: dict[str, np.ndarray] = {}
    problems: list[str] = []
    made = [item for site in translation.sites for item in _site(translation, site, problems)]
    made += [(translation.their_name(path), np.asarray(network.arrays[path])) for path in translation.loose]
    for name, array in made:
        if name in state:
            problems.append(f"{name}: two arrays get this name")
        state[name] = np.ascontiguousarray(array).reshape(array.shape)
    for second, first in tied.items():
        if first in state and second not in state:
            state[second] = state[first]
        else:
            problems.append(f"{second}: it cannot be tied to {first}, of which one is there, the other is not")
    if problems:
        raise TorchMismatchError([], [], problems)
    return state


def _site(translation: Translation, site: Site, problems: list[str]) -> list[tuple[str, np.ndarray]]:
    reasons = []
    for form in site.rule.forms:
        arrays = their_arrays(translation, site, form)
        reason = _obstacle(site, [array for _, array in arrays])
        if reason is None:
            seen: set[Part] = set()
            return [(name, _array(site, array, seen)) for name, array in arrays]
        reasons.append(reason)
    problems.append(f"{'/'.join(site.path)}: as {site.rule.kind}, {'; '.join(dict.fromkeys(reasons))}")
    return []


def _obstacle(site: Site, arrays: Sequence[TorchArray]) -> str | None:
    """What keeps arrays from being written in a form."""
    held = {part.ours for array in arrays for part in array.parts if part}
    lost = sorted(site.arrays.keys() - held)
    if lost:
        return f"there is no place for {', '.join(lost)}"
    for array in arrays:
        lacking = sorted({part.ours for part in array.parts if part and part.ours not in site.arrays})
        if lacking:
            return f"{array.name} needs {', '.join(lacking)}, too"
        pieces = [_piece(site, part) for part in array.parts if part]
        kinds = {(piece.shape[1:], piece.dtype.name) for piece in pieces}
        if len(kinds) > 1:
            return f"the parts of {array.name} do not go together: {sorted(kinds)}"
    return None


def _array(site: Site, array: TorchArray, seen: set[Part]) -> np.ndarray:
    if array.beside:
        return np.zeros((), np.int64)
    pieces: list[np.ndarray] = []
    known = next(_piece(site, part) for part in array.parts if part)
    for part in array.parts:
        piece = known if part is None else _piece(site, part)
        # The second bias of PyTorch; the first has all of ours.
        pieces.append(np.zeros_like(piece) if part is None or part in seen else piece)
        seen.update([part] if part else [])
    return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)


def _piece(site: Site, part: Part) -> np.ndarray:
    whole = np.asarray(site.arrays[part.ours])
    if part.piece is not None:
        number, count = part.piece
        whole = np.split(whole, count, axis=-1)[number]
    return part.layout.to_torch(whole)
