"""Which `jax.Ref` comes out of a transform as which: JAX itself lets none come out."""

from collections.abc import Sequence
from typing import Any

from fx_nnx.errors import NnxError, variable_value
from fx_nnx.paths import show_path
from fx_nnx.variables.writing import is_ref

__all__ = ["References"]


class References:
    """The references of the arguments, which the caller has, and those made inside, whose values come out.

    Args:
      transform: its name, for messages.
      values: the values of the arguments, in their order, and where they are.
    """

    def __init__(self, transform: str, values: Sequence[tuple[Any, str]]):
        self.transform = transform
        self.numbers = {id(value): number for number, (value, _) in enumerate(values) if is_ref(value)}
        self.where = {id(value): place for value, place in values if is_ref(value)}
        self.positions: dict[int, int] = {}

    def known(self, ref: Any, place: str, groups: Sequence[int], group: int) -> int | None:
        """Returns the number that the reference of an attribute has among the values of the arguments, if any.

        Args:
          ref: the reference.
          place: where the attribute is.
          groups: for each value of the arguments its group.
          group: that of the attribute.

        Raises:
          NnxError: it has another axis than what it comes from.
        """
        number = self.numbers.get(id(ref))
        if number is not None and groups[number] != group:
            self.refuse_second(ref, place)
        return number

    def enter(self, ref: Any, place: str, position: int) -> int:
        """Returns the position at which the reference of an attribute came out first.

        Raises:
          NnxError: it came out in a variable.
        """
        if id(ref) not in self.positions:
            self.refuse_second(ref, place)
            self.where[id(ref)], self.positions[id(ref)] = place, position
        return self.positions[id(ref)]

    def enter_variable(self, kind: str, ref: Any, place: str) -> None:
        """Records that a variable comes out with a reference of its own.

        Raises:
          NnxError: the reference would become two.
        """
        if id(ref) in self.where:
            raise variable_value(
                kind,
                place,
                f"its reference cannot come out of {self.transform}, since another variable has it",
                expected="a reference made inside, in one variable",
                got=f"that of {self.where[id(ref)]}",
                fix="give the variable that has it, or variable.copy()",
            )
        self.where[id(ref)] = place

    def of_result(self, names: Sequence[Any], leaves: Sequence[Any]) -> tuple[tuple[int, int], ...]:
        """Returns what the references among the leaves of the result are, see `Result.refs`.

        Raises:
          NnxError: one that was made inside comes out in a module as well.
        """
        first: dict[int, int] = {}
        found: list[tuple[int, int]] = []
        for position, (name, leaf) in enumerate(zip(names, leaves)):
            if is_ref(leaf):
                number = self.numbers.get(id(leaf))
                if number is None and id(leaf) not in first:
                    self.refuse_second(leaf, show_path((name,)))
                    first[id(leaf)] = position
                found.append((position, first[id(leaf)] if number is None else ~number))
        return tuple(found)

    def refuse_second(self, ref: Any, place: str) -> None:
        """Refuses a reference that comes out somewhere else as another one."""
        if id(ref) in self.where:
            raise NnxError(
                f"A jax.Ref would come out of {self.transform} as two.",
                path=place,
                expected="a reference in attributes of modules with the same axis, in one variable, or in the result",
                got=f"that of {self.where[id(ref)]}",
                fix="return the module alone, and take the reference from it; or keep ref[...], a value of its own",
            )
