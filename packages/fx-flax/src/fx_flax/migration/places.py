"""Where fx has what a program names by the modules of Flax, from the table of fx-flax."""

import collections
import dataclasses
from collections.abc import Sequence
from typing import Literal

from fx_flax.table import API_VERSION, module_names, submodules

__all__ = ["FACADES", "LATER", "SHADOWED", "Found", "main_place", "resolve", "shown_places"]

FACADES = frozenset({"fx_linen", "fx_nnx", "fx_bridge"})
"""Packages that import what is below them, so that a name for one of them reaches it."""
LATER = frozenset({"fx_nnx.compat", "fx_nnx.ids", "fx_nnx.states.mappings"})
"""What is below them and has to be imported by its own name."""
SHADOWED = ("fx_nnx.transforms.jit", "fx_nnx.variables")
"""Modules whose names mean something else where they are attributes: names are imported from them, one by one."""


@dataclasses.dataclass(frozen=True)
class Found:
    """What a dotted name of Flax means.

    Attributes:
      kind: ``"name"`` of an object that fx has, ``"module"`` of Flax, or ``"missing"`` in fx.
      module: the module of fx that has the object; the module of Flax; the module of Flax that lacks the name.
      used: how many parts of the dotted name were needed to determine it.
      name: of the object in fx; None for a module.
      why: the reason why it is missing.
    """

    kind: Literal["name", "module", "missing"]
    module: str
    used: int
    name: str | None = None
    why: str = ""


def resolve(module: str, parts: Sequence[str]) -> Found:
    """Returns what a name below a module of Flax means.

    Args:
      module: a module of Flax.
      parts: the names behind it; those behind an object, such as its methods, do not count.

    >>> resolve("flax", ["core", "freeze"])
    Found(kind='name', module='fx_core', used=2, name='freeze', why='')
    >>> resolve("flax.nnx", ["statelib"]).module
    'flax.nnx.statelib'
    """
    for used, part in enumerate(parts, 1):
        known = module_names(module)
        if known is None:
            return Found("missing", module, used, why=f"Flax {API_VERSION} has no module {module}")
        place = known.places.get(part) or known.private.get(part)
        if part == "__version__" and module in ("flax", "flax.version"):
            place = "fx_flax:API_VERSION"
        if place is not None:
            where, _, attribute = place.partition(":")
            return Found("name", where, used, attribute)
        if part in known.absent:
            return Found("missing", module, used, why=f"fx lacks it: {known.absent[part]}")
        if part not in known.modules and module_names(f"{module}.{part}") is None:
            return Found("missing", module, used, why=f"Flax {API_VERSION} has no {module}.{part}")
        module = known.modules.get(part) or f"{module}.{part}"
    if module_names(module) is None:
        return Found("missing", module, len(parts), why=f"Flax {API_VERSION} has no module {module}")
    return Found("module", module, len(parts))


def shown_places(module: str) -> collections.Counter[str]:
    """Returns how many names of a module of Flax each module of fx has."""
    known = module_names(module)
    places = known.places.values() if known is not None else ()
    return collections.Counter(place.partition(":")[0] for place in places)


def main_place(module: str) -> str | None:
    """Returns the module of fx that has most of the names of a module of Flax; None where that has modules only.

    >>> main_place("flax.linen"), main_place("flax.nnx.statelib"), main_place("flax.training")
    ('fx_linen', 'fx_nnx.states', None)
    """
    below = next(submodules(module), None) is not None
    places = {place: n for place, n in shown_places(module).items() if not place.startswith("fx_flax")}
    if not places or (below and sum(places.values()) < 2):
        return None
    return max(places, key=places.__getitem__)
