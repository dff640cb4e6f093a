"""What is known about free sizes, such as ``"length <= 128"``."""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any

import jax
from fx_core.compat import jax as compat
from fx_core.errors import ArgumentError

from fx_export.sizes import evaluated, linear, sizes_in, symbols_of

_SIGNS = re.compile("==|>=|<=")
_LARGEST = 2**63
UNREADABLE = (
    *(ValueError, TypeError, SyntaxError, KeyError, AttributeError, IndexError),
    *(NotImplementedError, ArithmeticError, RecursionError, MemoryError),
)
"""What the parsers of JAX and Python raise for texts that are no sizes."""


@dataclasses.dataclass(frozen=True)
class Constraint:
    """A comparison of two sizes.

    Attributes:
      text: as it was written.
      difference: the left side minus the right one.
      sign: how the difference compares with zero: ``==``, ``>=`` or ``<=``.
    """

    text: str
    difference: str
    sign: str

    def holds(self, sizes: Mapping[str, int]) -> bool:
        """Returns whether sizes, one for each symbol, fit.

        >>> constraint("2*n <= m").holds({"n": 2, "m": 3})
        False
        """
        try:
            found = evaluated(self.difference, sizes)
        except ZeroDivisionError:
            return False
        return {"==": found == 0, ">=": found >= 0, "<=": found <= 0}[self.sign]


def check_size(text: str) -> None:
    """Refuses sizes that cannot be computed.

    Raises:
      ValueError: it is such a size; other errors of `UNREADABLE`, too.
    """
    if any(int(number) >= _LARGEST for number in re.findall(r"\d+", text)):
        raise ValueError("sizes are below 2**63")
    evaluated(text, dict.fromkeys(symbols_of(text), 1))


def constraint(text: Any) -> Constraint:
    """Reads a constraint.

    Raises:
      ArgumentError: it is none.
    """
    signs = _SIGNS.findall(text) if isinstance(text, str) else []
    try:
        if len(signs) != 1:
            raise ValueError("one of ==, >= and <= is to stand between two sizes")
        left, right = (sizes_in(side) for side in _SIGNS.split(text))
        if len(left) != 1 or len(right) != 1:
            raise ValueError("one size is to stand on each side")
        read = Constraint(text, f"({left[0]}) - ({right[0]})", signs[0])
        check_size(read.difference)
        if not symbols_of(read.difference):
            raise ValueError("none of the sizes has a name")
        jax.export.SymbolicScope((text,))
    except UNREADABLE as error:
        raise ArgumentError(
            "This is no constraint of sizes.",
            expected='a comparison by >=, <= or ==, such as "length <= 128" or "mod(length, 8) == 0"',
            got=f"{str(text)[:200]!r}: {str(error)[:200]}",
            fix="Correct it; several constraints are several texts.",
        ) from error
    return read


def read_constraints(texts: Any, symbols: Sequence[str]) -> list[Constraint]:
    """Reads the constraints of inputs.

    Args:
      texts: the constraints.
      symbols: the names of sizes in the texts of inputs.

    Raises:
      ArgumentError: one is malformed, is about other sizes, or no size fits all of them.
    """
    if isinstance(texts, str) or not isinstance(texts, Sequence):
        raise ArgumentError("Constraints are a list of texts.", got=repr(texts)[:200], fix='constraints=["n <= 128"]')
    found = [constraint(text) for text in texts]
    for each in found:
        unknown = sorted(symbols_of(each.difference) - set(symbols))
        if unknown:
            raise ArgumentError(
                f"The constraint {each.text!r} is about a size that no text of an input has.",
                expected=_listed(symbols),
                got=", ".join(unknown),
                fix="Name it in an input, or correct the constraint; descriptions in JAX's classes have their own.",
            )
    for symbol in sorted(symbols):
        _check_possible(symbol, [each for each in found if symbols_of(each.difference) == {symbol}])
    return found


def conditions_of(sizes: Sequence[Any]) -> list[Constraint]:
    """Returns what is known of free sizes: what their makers said, and that none is negative.

    >>> [each.text for each in conditions_of(jax.export.symbolic_shape("n, n - 2", constraints=["n <= 9"]))]
    ['n <= 9', 'n - 2 >= 0']
    """
    texts = {text: None for size in sizes for text in compat.size_constraints(size)}
    symbols = {name for size in sizes for name in symbols_of(size)}
    # What JAX has put something else in the place of is in no size any more.
    known = [each for each in map(constraint, texts) if symbols_of(each.difference) <= symbols]
    computed = sorted({str(size) for size in sizes if str(size) not in symbols})
    return [*known, *(Constraint(f"{size} >= 0", size, ">=") for size in computed)]


def ends_of(constraints: Sequence[Constraint]) -> set[int]:
    """Returns sizes, from 1 on, where constraints begin or end to hold: all for linear ones of one symbol.

    >>> sorted(ends_of([constraint("2*n >= 7"), constraint("mod(m, 16) == 0")]))
    [1, 3, 4, 16]
    """
    ends = {1}
    for each in constraints:
        line = _line(each)
        if line is None:
            ends |= {int(number) for number in re.findall(r"\d+", each.difference)}
        else:
            _, factor, offset = line
            ends |= {-(offset // factor), -offset // factor}
    return {end for end in ends if end > 0}


def _line(each: Constraint) -> tuple[str, int, int] | None:
    try:
        return linear(each.difference) or linear(f"-({each.difference})")
    except ZeroDivisionError:
        return None


def _check_possible(symbol: str, constraints: Sequence[Constraint]) -> None:
    """Sizes that fit linear constraints are an interval, which begins at 1 or at an end of one of them."""
    lines = [each for each in constraints if _line(each)]
    if lines and not any(all(each.holds({symbol: end}) for each in lines) for end in ends_of(lines)):
        raise ArgumentError(
            f"No size of {symbol!r} fits all of its constraints.",
            expected="constraints that some size from 1 on fits",
            got="; ".join(each.text for each in lines),
            fix="Correct one of them.",
        )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) or "no names: all sizes are numbers"
