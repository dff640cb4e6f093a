"""The free sizes of a call: whether some numbers fit what an exported network says of its sizes."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax

from fx_export.constraints import conditions_of
from fx_export.errors import InputMismatchError, input_mismatch
from fx_export.sizes import evaluated, is_fixed, linear, symbols_of

_KEPT = 256


class SizeCheck:
    """Finds the symbols of free sizes from the numbers of a call, and compares all sizes and constraints with them.

    As in `jax.export`, a symbol is 1 or larger: programs are simplified by that, and compute something else at 0.

    Args:
      specs: a pytree per input, with shapes and dtypes.
      text_of: writes such a description for an error.
    """

    def __init__(self, specs: Sequence[Any], text_of: Callable[[Any], str]):
        self._places = [
            (f"input {number}{jax.tree_util.keystr(path)}", axis, size, text_of(spec))
            for number, tree in enumerate(specs)
            for path, spec in jax.tree_util.tree_leaves_with_path(tree)
            for axis, size in enumerate(spec.shape)
            if not is_fixed(size)
        ]
        sizes = [size for _, _, size, _ in self._places]
        self._constraints = conditions_of(sizes)
        self._fitting: dict[tuple[int, ...], None] = {}

    def __call__(self, given: Sequence[int]) -> None:
        """Compares.

        Args:
          given: a number for each free size, in order.

        Raises:
          InputMismatchError: a number is less than 1, or does not fit another one, or a constraint.
        """
        key = tuple(given)
        if key in self._fitting:
            return
        self._compare(key)
        # Whoever calls with ever new sizes is not to fill the memory.
        if len(self._fitting) < _KEPT:
            self._fitting[key] = None

    def _compare(self, given: tuple[int, ...]) -> None:
        found: dict[str, int] = {}
        left = list(range(len(given)))
        while left:
            solved = [at for at in left if self._solve(at, given[at], found)]
            if not solved:
                # JAX refuses to export what has such sizes; in other formats nothing is computed from them.
                break
            left = [at for at in left if at not in solved]
        for each in self._constraints:
            if symbols_of(each.difference) <= found.keys() and not each.holds(found):
                named = symbols_of(each.difference)
                at = next(at for at, (_, _, size, _) in enumerate(self._places) if symbols_of(size) & named)
                values = ", ".join(f"{name} is {found[name]}" for name in sorted(named))
                raise self._mismatch(at, each.text, f"{given[at]}, where {values}")

    def _solve(self, at: int, given: int, found: dict[str, int]) -> bool:
        """Learn a symbol from a size, or compare the size where its symbols are known; say whether it was either."""
        size = self._places[at][2]
        known = sorted(symbols_of(size) & found.keys())
        where = ", where " + ", ".join(f"{name} is {found[name]}" for name in known) if known else ""
        if len(known) == len(symbols_of(size)):
            wanted = _value_of(size, found)
            if wanted != given:
                raise self._mismatch(at, f"{'no size' if wanted is None else wanted}{where}", given)
            return True
        line = linear(size, found) or linear(f"-({size})", found)
        if line is None:
            return False
        symbol, factor, offset = line
        rising = bool(linear(size, found))
        value, rest = divmod((given if rising else -given) - offset, factor)
        if rest or value < 1:
            end = (factor + offset) * (1 if rising else -1)
            limit = f"{'at least' if rising else 'at most'} {end}" if value < 1 else f"{size} for a whole number"
            raise self._mismatch(at, limit + where, given)
        found[symbol] = value
        return True

    def _mismatch(self, at: int, expected: str, got: Any) -> InputMismatchError:
        name, axis, _, text = self._places[at]
        return input_mismatch(f"{name}, axis {axis} of {text}", expected, str(got))


def _value_of(size: Any, symbols: Mapping[str, int]) -> int | None:
    try:
        return evaluated(size, symbols)
    except (ArithmeticError, ValueError):
        return None
