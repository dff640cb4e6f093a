"""Rules: which parameter gets which treatment."""

import dataclasses
import fnmatch
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Generic, TypeVar

from fx_compress.errors import RuleError
from fx_compress.parameters import Parameter, by_path, parameters

__all__ = ["Rule", "Rules", "choose"]

T = TypeVar("T")
Where = str | type | Callable[[Parameter], bool]


@dataclasses.dataclass(frozen=True)
class Rule(Generic[T]):
    """What is done with the parameters in one place.

    Attributes:
      where: a pattern of the path, in which ``*`` stands for any text (``"encoder/*/kernel"``); a class of layers, or
        of variables of fx-nnx, or a tuple of them; or a function of a `Parameter` that says yes or no. A class stands
        for its subclasses, too. Variables of Linen know no classes: there it stands for the layers that have their
        name by it, such as ``Dense_0``.
      what: a scheme; None leaves the parameters as they are.
      axes: axes of the array that are contracted, counted from the end: ``(-2,)`` for a kernel ``(in, out)``. By
        default all but the last of a kernel, the first of the kernels ``(in, heads, features)`` of ``query``, ``key``
        and ``value``, and the last of an embedding.
      stacked: number of leading axes that belong to stacked layers.

    >>> import jax.numpy as jnp
    >>> import fx_compress
    >>> rule = fx_compress.Rule("encoder/*/kernel", fx_compress.int8())
    >>> rule.matches(fx_compress.Parameter("encoder/dense/kernel", jnp.ones((2, 3)), (), None))
    True
    """

    where: Any
    what: T | None
    axes: tuple[int, ...] | None = None
    stacked: int = 0

    def matches(self, parameter: Parameter) -> bool:
        """Returns whether the rule is for a parameter."""
        if isinstance(self.where, str):
            return fnmatch.fnmatchcase(parameter.path, self.where)
        if isinstance(self.where, type | tuple):
            kinds = self.where if isinstance(self.where, tuple) else (self.where,)
            layer = parameter.path.split("/")[-2:][0].rpartition("_")
            named = parameter.kind is None and layer[2].isdecimal() and layer[0] in {kind.__name__ for kind in kinds}
            return named or any(issubclass(each, kinds) for each in parameter.types)
        return bool(self.where(parameter))

    def contracted(self, parameter: Parameter) -> tuple[int, ...]:
        """Returns the contracted axes of a parameter, counted from the front."""
        ndim = len(parameter.value.shape)
        if self.axes is not None:
            return tuple(axis % ndim for axis in self.axes)
        if parameter.name == "embedding":
            return (ndim - 1,)
        heads = parameter.path.split("/")[-2:][0] in ("query", "key", "value") and ndim - self.stacked == 3
        return (self.stacked,) if heads else tuple(range(self.stacked, ndim - 1))

    @property
    def label(self) -> str:
        """The place in words."""
        return repr(self.where) if isinstance(self.where, str) else getattr(self.where, "__name__", str(self.where))


Rules = Mapping[Any, T | None] | Sequence[Rule[T]] | T


def choose(tree: Any, rules: Any, kind: type[T] | tuple[type[T], ...]) -> dict[str, Rule[T]]:
    """Finds the rule of each parameter of a model: the first that matches.

    Args:
      tree: the model.
      rules: rules in order; a dict from places to what is done there; or one thing to do with every weight.
      kind: what rules hold: a class, or several.

    Returns:
      Rules by path, of those parameters for which something is done.

    Raises:
      RuleError: a rule is for no parameter, or is no rule; or two parameters have the same path.
    """
    listed = as_rules(rules, kind)
    found = list(by_path(parameter for parameter in parameters(tree) if parameter.is_weight).values())
    chosen: dict[str, Rule[T]] = {}
    used: set[int] = set()
    for parameter in found:
        for number, rule in enumerate(listed):
            if rule.matches(parameter):
                used.add(number)
                if rule.what is not None:
                    chosen[parameter.path] = rule
                break
    for number, rule in enumerate(listed):
        if number not in used:
            _refuse(rule, found)
    return chosen


def as_rules(rules: Any, kind: type[T] | tuple[type[T], ...]) -> list[Rule[T]]:
    """Returns rules in order, from whatever form they are in.

    Raises:
      RuleError: something is no rule.
    """
    if isinstance(rules, kind):
        return [Rule("*", rules)]
    if isinstance(rules, Rule):
        return [rules]
    if isinstance(rules, Mapping):
        rules = [Rule(where, what) for where, what in rules.items()]
    names = " or ".join(each.__name__ for each in (kind if isinstance(kind, tuple) else (kind,)))
    listed: list[Any] = list(rules) if isinstance(rules, Iterable) and not isinstance(rules, str) else [rules]
    for rule in listed:
        if not isinstance(rule, Rule) or not (rule.what is None or isinstance(rule.what, kind)):
            raise RuleError(
                "This is no rule.",
                expected=f"a dict from patterns to {names}, or a list of Rule(where, {names})",
                got=rule,
                fix="for instance {'*/kernel': fx_compress.int8()}, or fx_compress.Magnitude(0.5) to prune",
            )
    if not listed:
        raise RuleError("There are no rules.", expected="one rule at least", got=rules)
    return listed


def _refuse(rule: Rule[Any], found: Sequence[Parameter]) -> None:
    taken = [parameter.path for parameter in found if rule.matches(parameter)]
    if taken:
        raise RuleError(
            f"Earlier rules take every parameter of the rule for {rule.label}.",
            got=", ".join(taken[:5]),
            fix="put the more special rule first: the first that matches wins",
        )
    paths = [parameter.path for parameter in found]
    raise RuleError(
        f"The rule for {rule.label} is for no parameter.",
        expected="one float parameter of two dimensions at least",
        got=f"parameters {', '.join(paths[:8])}{', …' if len(paths) > 8 else ''}" if paths else "no such parameters",
        fix="paths start at the root of what is given, and * stands for any text, also across /",
    )
