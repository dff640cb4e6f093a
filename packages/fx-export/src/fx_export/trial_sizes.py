"""Which sizes a network is compared at."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
from fx_core.errors import ArgumentError

from fx_export.constraints import Constraint, conditions_of, ends_of
from fx_export.inputs import spec_of
from fx_export.sizes import is_fixed, symbols_of

_SIZES = (1, 3)
_SMALL, _COMBINATIONS = 8, 5_000

Sizes = dict[str, int]


def check_sizes(inputs: Sequence[Any], named: Any) -> dict[str, list[int]]:
    """Returns sizes that a caller names, by symbol.

    Args:
      inputs: a pytree of examples or descriptions for each input.
      named: what the caller gave; None for nothing.

    Raises:
      ArgumentError: a name is none of the inputs', or its sizes are no list of positive numbers.
    """
    known = free_sizes(inputs)
    if named is not None and not isinstance(named, Mapping):
        raise _sizes_error("Sizes to compare at are a dictionary.", known, named)
    found = {}
    for name, sizes in (named or {}).items():
        if name not in known:
            raise _sizes_error(f"No input has a free size {name!r} to compare at.", known, name)
        values = list(sizes) if isinstance(sizes, Sequence) and not isinstance(sizes, str) else []
        if not values or not all(is_fixed(size) and not isinstance(size, bool) and size > 0 for size in values):
            raise _sizes_error(f"Sizes of {name!r} to compare at are a list of numbers from 1 on.", known, sizes)
        found[name] = sorted({int(size) for size in values})
    return found


def free_sizes(inputs: Sequence[Any]) -> list[str]:
    """Returns the names of the sizes of inputs that are free, in order."""
    return sorted({name for size in _sizes(inputs) for name in symbols_of(size)})


def sizes_to_try(inputs: Sequence[Any], named: Mapping[str, Sequence[int]]) -> list[Sizes]:
    """Returns a size for each symbol, for each trial: all smallest, all largest, each by itself the largest.

    Every size that is named is in one of them. Where nothing is named, small sizes are taken that fit what is known
    about them.

    Args:
      inputs: a pytree of examples or descriptions for each input; no free sizes make one trial without any.
      named: sizes to try, by symbol.

    Raises:
      ArgumentError: a size that is named breaks a constraint, or none that fits is found.
    """
    symbols, conditions = free_sizes(inputs), conditions_of(list(_sizes(inputs)))
    fitting = {name: _candidates(name, conditions) for name in symbols}
    pools = {name: sorted(named.get(name) or _usual(fitting[name])) for name in symbols}
    low, high = ({name: pools[name][end] for name in symbols if pools[name]} for end in (0, -1))
    tried: list[Sizes] = []
    if all(pools.values()):
        mixed = {name: high[name] if n % 2 else low[name] for n, name in enumerate(symbols)}
        between = [{**low, name: size} for name in symbols for size in named.get(name, ())]
        tried = _fitting([low, high, mixed, *between], conditions)
    wanted = {name: named.get(name, fitting[name]) for name in symbols}
    for name, size in [(symbol, size) for symbol in symbols for size in named.get(symbol, ())]:
        if not any(chosen[name] == size for chosen in tried):
            tried.append(_found({**wanted, name: [size]}, conditions, f"{name}={size}"))
    return tried or [_found(wanted, conditions, "any size")]


def _sizes(inputs: Sequence[Any]) -> Iterator[Any]:
    for leaf in jax.tree.leaves(list(inputs)):
        yield from (size for size in spec_of(leaf).shape if not is_fixed(size))


def _fitting(choices: Any, conditions: Sequence[Constraint]) -> list[Sizes]:
    found: list[Sizes] = []
    for chosen in choices:
        if chosen not in found and all(each.holds(chosen) for each in conditions):
            found.append(chosen)
    return found


def _candidates(name: str, conditions: Sequence[Constraint]) -> list[int]:
    """Sizes of a symbol that fit what is known of it alone."""
    alone = [each for each in conditions if symbols_of(each.difference) == {name}]
    ends = ends_of(conditions)
    near = {size for end in ends for size in (end - 1, end, end + 1, 2 * end, 3 * end)} | set(range(1, _SMALL + 1))
    return [size for size in sorted(near) if size > 0 and all(each.holds({name: size}) for each in alone)]


def _usual(fitting: Sequence[int]) -> Sequence[int]:
    return _SIZES if set(_SIZES) <= set(fitting) else fitting[:3]


def _products(pools: Mapping[str, Sequence[int]]) -> Iterator[Sizes]:
    for values in itertools.islice(itertools.product(*pools.values()), _COMBINATIONS):
        yield dict(zip(pools, values))


def _found(pools: Mapping[str, Sequence[int]], conditions: Sequence[Constraint], what: str) -> Sizes:
    for chosen in _products(pools):
        if all(each.holds(chosen) for each in conditions):
            return chosen
    raise ArgumentError(
        f"The network cannot be compared at {what}: no sizes were found that fit the constraints.",
        expected="; ".join(each.text for each in conditions) or "sizes from 1 on",
        got="; ".join(f"{name} out of {list(sizes)[:12]}" for name, sizes in pools.items()),
        fix='Name sizes that fit, verify_sizes={"length": [128]}, or correct the constraints.',
    )


def _sizes_error(problem: str, known: Sequence[str], got: Any) -> ArgumentError:
    return ArgumentError(
        problem,
        expected=f"sizes of {', '.join(known)}" if known else "none: all sizes of the inputs are fixed",
        got=repr(got)[:200],
        fix='verify_sizes={"length": [1, 128]}, or length=[1,128] in the command.',
    )
