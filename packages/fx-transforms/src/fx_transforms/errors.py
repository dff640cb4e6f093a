"""Mistakes in lifted transforms."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Self

from fx_core.errors import FxError


class TransformError(FxError, ValueError):
    """A transform was called, or its function answers, in a way that it cannot use; also the base class of others."""


class AxisSizeError(TransformError):
    """Arrays that are mapped together have different sizes along their axes, or no argument determines the size.

    Wrong::

        lift.vmap(dense, variable_axes={"params": 0}, split_rngs={"params": True})(scope, jnp.ones((3, 8)), jnp.ones(2))

    Right: give all mapped arrays the same size, or take one out of the mapping with ``in_axes=(0, None)``.

    Args:
      transform: name of the transform.
      sizes: for each mapped array, by name, its size.
      requested: the size asked for by argument, if any.
      option: the name of that argument.
      path: path of the scope or module.
    """

    def __init__(
        self, transform: str, sizes: Mapping[str, int], requested: int | None, option: str, path: str | None = None
    ):
        self.transform, self.sizes, self.requested, self.option = transform, dict(sizes), requested, option
        if not sizes:
            super().__init__(
                f"{transform} cannot determine the number of steps: no argument and no variable has a mapped axis.",
                path=path,
                fix=f"pass {option}=",
            )
            return
        if requested is None:
            what, expected = f"{transform} got different sizes for the axes to map over.", "one size for all"
        else:
            what, expected = f"{transform} got sizes that differ from {option}={requested}.", f"{requested} for all"
        super().__init__(
            what,
            path=path,
            expected=expected,
            got="; ".join(f"{name} has {size}" for name, size in sizes.items()),
            fix="give the arrays equal sizes, or leave one out of the mapping (None for an argument of vmap, "
            "`broadcast` for one of scan, another slot for a collection)",
        )

    def at(self, path: str) -> Self:
        """The same error, with the path where it happened."""
        return type(self)(self.transform, self.sizes, self.requested, self.option, path)


_FILTERS = {
    "scan": ": variable_axes={{{0!r}: 0}} for one value per step, variable_broadcast={0!r} for one that all steps "
    "share, or variable_carry={0!r}",
    "vmap": ": variable_axes={{{0!r}: 0}} for one value per example, {{{0!r}: None}} for one that all share",
}


class CollectionNotLiftedError(TransformError):
    """The function uses a collection that the transform does not list.

    Inside a lifted transform only the lifted collections exist. Wrong::

        lift.scan(cell, variable_broadcast="params")(scope, carry, xs)       # the cell also uses "batch_stats"

    Right::

        lift.scan(cell, variable_broadcast="params", variable_carry="batch_stats")(scope, carry, xs)

    Args:
      transform: name of the transform.
      collection: the collection.
      path: scope path of the access.
      lifted: what the transform lifts.
      reason: what went wrong inside, in its own words.
    """

    def __init__(self, transform: str, collection: str, path: str | None, lifted: str, reason: str = ""):
        self.transform = transform
        super().__init__(
            f"The function given to {transform} uses the collection {collection!r}, which is not lifted."
            + (f" ({reason})" if reason else ""),
            path=path,
            collection=collection,
            expected=f"one of the lifted collections: {lifted}",
            got=repr(collection),
            fix=f"name {collection!r} among the variables of {transform}"
            + _FILTERS.get(transform, "").format(collection),
        )


class RngNotLiftedError(TransformError):
    """The function uses an RNG stream that the transform does not list.

    Wrong::

        lift.vmap(dropout, variable_axes={}, split_rngs={})(scope, x)

    Right::

        lift.vmap(dropout, variable_axes={}, split_rngs={"dropout": True})(scope, x)

    Args:
      transform: name of the transform.
      streams: the streams that the outer scope has and the transform leaves out.
      path: scope path of the access.
      reason: what went wrong inside, in its own words.
    """

    def __init__(self, transform: str, streams: Iterable[str], path: str | None = None, reason: str = ""):
        quoted = [repr(s) for s in streams]
        names, first = ", ".join(quoted), quoted[0]
        self.transform = transform
        super().__init__(
            f"The function given to {transform} needs an RNG stream that is not lifted. {reason}".strip(),
            path=path,
            got=f"streams that {transform} leaves outside: {names}",
            fix=f"name the stream in the RNG filter of {transform}, such as split_rngs={{{first}: True}}",
        )


class CarryChangedError(TransformError, TypeError):
    """A step of a loop hands on a carry that looks different from the one it got; a `TypeError`, too, as in JAX.

    Wrong::

        scope.put_variable("state", "n", jnp.ones(2))        # "n" was a scalar before the loop

    Right: create carried variables before the loop, with the shape and dtype they keep.

    Args:
      transform: name of the transform.
      differences: one text per leaf.
    """

    def __init__(self, transform: str, differences: Sequence[str]):
        self.differences = tuple(differences)
        super().__init__(
            f"The carry of {transform} changes from step to step.",
            expected="the structure, shapes and dtypes that came in",
            got="; ".join(differences),
            fix="create what is carried before the loop and keep its shape and dtype (cast with .astype)",
        )


class BroadcastVariableError(TransformError):
    """A value that is shared by all steps of a loop depends on the step.

    Wrong::

        lift.scan(body, variable_broadcast="params", split_rngs={"params": True})   # a different draw in every step

    Right: ``split_rngs={"params": False}`` for shared parameters, or a carry or an axis for values that vary.

    Args:
      transform: name of the transform.
      names: the values concerned.
      reason: why they cannot be shared.
    """

    def __init__(
        self, transform: str, names: Sequence[str], reason: str = "depends on the carry, the inputs or the keys"
    ):
        self.names = tuple(names)
        super().__init__(
            f"A value that all steps of {transform} share {reason}.",
            expected="the same value in every step",
            got=", ".join(names),
            fix="carry it, give it an axis, or make it independent of the step "
            "(keys of shared parameters are not to be split)",
        )


class BranchStateError(TransformError, TypeError):
    """The branches of a conditional leave different state or results behind; a `TypeError`, too, as in JAX.

    Wrong::

        lift.cond(flag, lambda s, x: dense(s, x), lambda s, x: x, scope, x)      # only one branch creates parameters

    Right: create the variables before the conditional, or in all branches (see the guide on initializing).

    Args:
      transform: name of the transform.
      differences: one text per leaf.
    """

    def __init__(self, transform: str, differences: Sequence[str]):
        self.differences = tuple(differences)
        super().__init__(
            f"The branches of {transform} leave different state or results behind.",
            expected="the same variables and results, with the same shapes and dtypes, from every branch",
            got="; ".join(differences),
            fix="create the variables before the conditional or in all branches",
        )


def aliased_state(transform: str, first: tuple[str, object], second: tuple[str, object]) -> TransformError:
    """One piece of state reaches a transform by two ways that disagree about its slot."""
    return TransformError(
        f"{transform} got the same state twice, with different slots.",
        expected="one slot for state that is shared",
        got=f"{first[0]} with {first[1]!r} and {second[0]} with {second[1]!r}",
        fix="give both places the same slot, or pass the state once",
    )


def transform_output(transform: str, expected: str, got: object) -> TransformError:
    """The function given to a transform returned something that the transform cannot use."""
    return TransformError(
        f"The function given to {transform} returned the wrong thing.",
        expected=expected,
        got=got,
        fix="change what the function returns",
    )
