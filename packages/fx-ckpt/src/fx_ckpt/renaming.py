"""Names of arrays: the rules for those of PyTorch, and names from before Linen."""

import re
from collections.abc import Mapping
from typing import Any

from fx_core.renaming import SAME, Rule, find, find_back, torch_rules

__all__ = ["SAME", "Rule", "convert_pre_linen", "find", "find_back", "torch_rules"]

_NUMBERED = re.compile(r"(.+)_(\d+)")


def convert_pre_linen(params: Any) -> Any:
    """Renames parameters from before Linen: modules are counted for each class, not all together.

    Args:
      params: nested dictionaries.

    Example:
      >>> convert_pre_linen({"Conv_0": {"bias": 0}, "Dense_1": {"bias": 1}, "Conv_2": {"bias": 2}})
      {'Conv_0': {'bias': 0}, 'Conv_1': {'bias': 2}, 'Dense_0': {'bias': 1}}
    """
    if not isinstance(params, Mapping):
        return params
    groups: dict[str, list[tuple[int, str]]] = {}
    for name in params:
        found = _NUMBERED.fullmatch(name)
        groups.setdefault(found[1] if found else "", []).append((int(found[2]) if found else 0, name))
    new = {name: convert_pre_linen(params[name]) for _, name in groups.pop("", [])}
    for kind, members in sorted(groups.items()):
        new.update({f"{kind}_{i}": convert_pre_linen(params[name]) for i, (_, name) in enumerate(sorted(members))})
    return new
