"""The options of jit that distinguish arguments: shardings and donation."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from fx_nnx.errors import ArgumentNumberError, NnxError, PrefixError
from fx_nnx.filters import is_structural, to_predicate
from fx_nnx.graph.kinds import is_node
from fx_nnx.paths import show_path
from fx_nnx.transforms.arguments import StaticArguments, chosen_arguments
from fx_nnx.transforms.layout import Handle, is_variable, read_value
from fx_nnx.transforms.policies import Grouping, GroupPolicy, Returns
from fx_nnx.transforms.prefixes import PathIs, PerVariable, entries_of, is_entry, resolved, spread_prefix
from fx_nnx.variables.variable import Variable
from fx_nnx.variables.writing import is_ref

__all__ = ["Given"]


class Given:
    """The options of jit that distinguish arguments.

    Args:
      fun: the function.
      options: those of `fx_nnx.jit`, from which the ones for this are taken.
      statics: the arguments to compile for, which have no sharding.
    """

    def __init__(self, fun: Callable[..., Any], options: dict[str, Any], statics: StaticArguments):
        self.statics = statics
        self.ins, self.outs = options.pop("in_shardings", None), options.pop("out_shardings", None)
        donate = options.pop("donate_argnums", None), options.pop("donate_argnames", None)
        self.donated = chosen_arguments(fun, "jit", "donate", *donate)
        if self.donated[0] & statics.nums or self.donated[1] & statics.names:
            raise ArgumentNumberError.both("jit", "static_argnums", "donate_argnums", donate)
        self.rest = {name: value for name, value in options.items() if value is not None}
        self.sharded = self.ins is not None or self.outs is not None
        for name, entries in ("in_shardings", self.ins), ("out_shardings", self.outs):
            for entry in entries_of(entries):
                if isinstance(entry, int | float | str | np.ndarray | jax.Array | Variable):
                    raise PrefixError.misplaced(name, entry, "a sharding, a partition spec or None")
        self.plain = not (self.sharded or any(self.donated))  # all arguments are alike
        self.keys: list[tuple[Any, str]] = []

    def key(self, entry: Any, kind: str) -> int:
        """Returns number of the group of a sharding; ``kind`` distinguishes donated variables and arrays from the
        others.
        """
        if (entry, kind) not in self.keys:
            self.keys.append((entry, kind))
        return self.keys.index((entry, kind))

    def groups(self) -> dict[str, Any]:
        """Returns options of the carrier."""
        if self.plain:
            return {}
        kinds = ("", "donated", "donated array") if any(self.donated) else ("",)
        for entry in dict.fromkeys((None, *entries_of(self.ins), *entries_of(self.outs))):
            for kind in kinds:
                self.key(entry, kind)
        # A donated buffer is gone, so all donated variables come back; what is laid out comes back laid out.
        gone = [kind == "donated" or entry is not None for entry, kind in self.keys]
        outs = self.group_result if self.outs is not None else None
        steady = self if self.structural() else None
        return {
            "groups": [
                GroupPolicy(entry, Returns.WRITTEN if back else Returns.CHANGED)
                for (entry, _), back in zip(self.keys, gone)
            ],
            "grouping": Grouping(self.group_args, outs, check=True, steady=steady),
        }

    def structural(self) -> bool:
        """Returns whether the group of a value depends on the structure of the arguments only."""
        entries = map(resolved, jax.tree.leaves(self.ins, is_leaf=is_entry))
        filters = [filter for entry in entries if isinstance(entry, PerVariable) for filter in entry.filters]
        return all(isinstance(f, PathIs) or is_structural(to_predicate(f)) for f in filters)

    def options(self) -> dict[str, Any]:
        """Returns options of the engine."""
        if self.plain:
            return self.rest
        donated = [i for i, (_, kind) in enumerate(self.keys) if kind]
        shardings = [entry for entry, _ in self.keys] if self.sharded else None
        return {**self.rest, "donate_groups": donated, "group_shardings": shardings}

    def group_args(self, tree: Any) -> Any:
        """Returns groups of the arguments."""
        args, kwargs, *bound = tree
        entries = None
        if self.ins is not None:
            traced = tuple(arg for number, arg in enumerate(args) if number not in self.statics.nums)
            entries = spread_prefix("in_shardings", self.ins, traced)
        nums, names = self.donated
        given: list[bool] = []
        for number, arg in enumerate(args):
            given += [number in nums] * _size(arg)
        for name in sorted(kwargs):
            given += [name in names] * _size(kwargs[name])
        given += [False] * _size(bound)

        def group_of(leaf: int, path: tuple[Any, ...], value: Any) -> int:
            entry = entries[leaf] if entries is not None and leaf < len(entries) else None
            if isinstance(entry, PerVariable):
                entry = entry.map_prefix(path, value)
            # A `jax.Ref` is changed in place, and cannot be donated.
            by_ref = is_ref(value) or (is_variable(value) and value._nnx_meta.ref)
            kind = "" if by_ref or not given[leaf] else "donated" if path or is_variable(value) else "donated array"
            return self.key(entry, kind)

        return group_of

    def group_result(self, tree: Any) -> Any:
        """Returns groups of the result."""
        entries = spread_prefix("out_shardings", self.outs, tree)

        def group_of(leaf: int, path: tuple[Any, ...], value: Any) -> int:
            entry = entries[leaf]
            return self.key(entry.map_prefix(path, value) if isinstance(entry, PerVariable) else entry, "")

        return group_of

    def explain(self, handle: Handle) -> NnxError | None:
        """Returns which values share a buffer that is donated, if that is what is wrong with some arguments."""
        layout, seen = handle.layout, dict[int, tuple[str, bool]]()
        for path, group, value in zip(layout.paths, layout.groups, [*map(read_value, handle.targets), *handle.arrays]):
            here = show_path(path), bool(self.keys[group][1])
            first = seen.setdefault(_buffer(value), here)
            if first is not here and (first[1] or here[1]):
                return _donated_buffer(first[0], here[0])
        return None


def _buffer(value: Any) -> int:
    """Identity of the memory of an array, which several arrays may share."""
    try:
        return int(value.unsafe_buffer_pointer())
    except Exception:  # no array, one on several devices, or one that was deleted
        return id(value)


def _size(tree: Any) -> int:
    return len(jax.tree.leaves(tree, is_leaf=is_node))


def _donated_buffer(first: str, second: str) -> NnxError:
    return NnxError(
        "Two values share a buffer that is donated.",
        path=second,
        expected="a buffer for each value that is donated",
        got=f"the same buffer at {first} and {second}",
        fix="copy one of them: nnx.clone(module, arrays=True), or jax.tree.map(jnp.copy, nnx.state(module))",
    )
