"""Names of arrays here and in PyTorch: rules that say how one becomes the other, transposes included."""

import dataclasses
import re
from collections.abc import Iterable, Sequence

from fx_core.errors.kinds import ArgumentError

__all__ = ["SAME", "Rule", "find", "find_back", "torch_rules"]

_LONGEST, _DEEPEST = 10_000, 200
_PLACEHOLDER = re.compile(r"\{(\w+)(\*?)\}")


@dataclasses.dataclass(frozen=True)
class Rule:
    """How one kind of array is called here and there.

    In both patterns ``{name}`` stands for one part of a name, or a piece of one, and ``{name*}`` for one or more
    parts; parts are divided by ``/`` here and by ``.`` there. Both have the same placeholders.

    Attributes:
      ours: the name here, such as ``"encoder/layers_{n}/{at*}/kernel"``.
      theirs: the name there, such as ``"encoder.layer.{n}.{at*}.weight"``.
      axes: their array is ours, transposed by these axes.
      rank: the rule is for arrays with so many axes; None for all.

    Raises:
      ArgumentError: the patterns do not fit together.

    Example:
      >>> rule = Rule("blocks_{n}/kernel", "blocks.{n}.weight", axes=(1, 0))
      >>> rule.to_theirs("blocks_3/kernel", 2), rule.to_ours("blocks.3.weight", 2)
      ('blocks.3.weight', 'blocks_3/kernel')
    """

    ours: str
    theirs: str
    axes: tuple[int, ...] | None = None
    rank: int | None = None

    def __post_init__(self) -> None:
        if sorted(_PLACEHOLDER.findall(self.ours)) != sorted(_PLACEHOLDER.findall(self.theirs)):
            raise ArgumentError(
                f"The patterns of {self} do not have the same placeholders.", got=self.theirs, fix="Add a Rule for it."
            )
        if self.axes is not None and sorted(self.axes) != list(range(len(self.axes))):
            raise ArgumentError(f"The axes of {self} are no permutation.", got=self.axes, fix="Add a Rule for it.")
        if self.axes is not None and self.rank not in (None, len(self.axes)):
            raise ArgumentError(
                f"The axes of {self} are not as many as its rank.", got=self.rank, fix="Add a Rule for it."
            )

    def to_theirs(self, name: str, ndim: int) -> str | None:
        """Their name for one of ours; None if the rule is not for it."""
        return self._rename(self.ours, "/", self.theirs, ".", name, ndim)

    def to_ours(self, name: str, ndim: int) -> str | None:
        """Our name for one of theirs; None if the rule is not for it."""
        return self._rename(self.theirs, ".", self.ours, "/", name, ndim)

    @property
    def inverse_axes(self) -> tuple[int, ...] | None:
        """The axes by which their array becomes ours."""
        return None if self.axes is None else tuple(self.axes.index(axis) for axis in range(len(self.axes)))

    def _rename(self, source: str, divider: str, target: str, joiner: str, name: str, ndim: int) -> str | None:
        if ndim != (len(self.axes) if self.axes is not None else ndim if self.rank is None else self.rank):
            return None
        # Each placeholder but the first multiplies the time by the length.
        several = len(_PLACEHOLDER.findall(source)) > 1
        if several and (len(name) > _LONGEST or name.count(divider) > _DEEPEST):
            raise ArgumentError(
                "A name is too long to be translated.",
                got=f"{name[:80]}… of {len(name)} characters",
                fix=f"Names have at most {_LONGEST} characters and {_DEEPEST} parts.",
            )
        found = _pattern(source, divider).fullmatch(name)
        if found is None:
            return None
        parts = {key: value.replace(divider, joiner) for key, value in found.groupdict().items()}
        return _PLACEHOLDER.sub(lambda match: parts[match[1]], target)


def torch_rules(prefix: str = "") -> list[Rule]:
    """Returns the rules for layers of PyTorch and ours that do the same.

    ``kernel`` of dense layers and of convolutions in two and three dimensions, ``scale`` of normalization and
    ``embedding`` are ``weight`` there, ``mean`` and ``var`` are ``running_mean`` and ``running_var``. Kernels with
    three axes are attention's as often as convolutions': write a rule for yours.

    Args:
      prefix: what ours have in front, such as ``"params/"``.

    Example:
      >>> [rule.to_theirs("params/head/kernel", 2) for rule in torch_rules("params/")[:1]]
      ['head.weight']
    """
    return [
        Rule(prefix + "{at*}/kernel", "{at*}.weight", axes=(1, 0)),
        Rule(prefix + "{at*}/kernel", "{at*}.weight", axes=(3, 2, 0, 1)),
        Rule(prefix + "{at*}/kernel", "{at*}.weight", axes=(4, 3, 0, 1, 2)),
        Rule(prefix + "{at*}/scale", "{at*}.weight", rank=1),
        Rule(prefix + "{at*}/embedding", "{at*}.weight", rank=2),
        Rule(prefix + "{at*}/bias", "{at*}.bias"),
        Rule(prefix + "{at*}/mean", "{at*}.running_mean", rank=1),
        Rule(prefix + "{at*}/var", "{at*}.running_var", rank=1),
    ]


SAME = (Rule("{at*}", "{at*}"),)
"""The rules that only write dots for slashes."""


def find(rules: Iterable[Rule], name: str, ndim: int) -> tuple[str, Rule]:
    """Their name for one of ours, by the first rule that is for it.

    Raises:
      ArgumentError: there is none.
    """
    for rule in rules:
        theirs = rule.to_theirs(name, ndim)
        if theirs is not None:
            return theirs, rule
    raise ArgumentError(f"No rule is for {name!r}, which has {ndim} axes.", got=name, fix="Add a Rule for it.")


def find_back(rules: Sequence[Rule], name: str, ndim: int) -> tuple[str, Rule]:
    """Our name for one of theirs, by the only rule that is for it.

    Raises:
      ArgumentError: there is none, or there are several that do not agree.
    """
    found = {(ours, rule.axes): rule for rule in rules if (ours := rule.to_ours(name, ndim)) is not None}
    if not found:
        raise ArgumentError(f"No rule is for {name!r}, which has {ndim} axes.", got=name, fix="Add a Rule for it.")
    if len(found) > 1:
        raise ArgumentError(
            f"{name!r} may be {' or '.join(sorted(ours for ours, _ in found))}.",
            got=name,
            fix="Pass a target, whose names decide; or a rule that is for this one only.",
        )
    ((ours, _), rule) = found.popitem()
    return ours, rule


def _pattern(text: str, divider: str) -> re.Pattern[str]:
    # Without dividers in a part there is one way to divide a name: otherwise the time doubles with each part.
    one = f"[^{re.escape(divider)}]+?"
    many = f"{one}(?:{re.escape(divider)}[^{re.escape(divider)}]*?)*?"
    pattern, end = "", 0
    for match in _PLACEHOLDER.finditer(text):
        pattern += re.escape(text[end : match.start()]) + f"(?P<{match[1]}>{many if match[2] else one})"
        end = match.end()
    return re.compile(pattern + re.escape(text[end:]))
