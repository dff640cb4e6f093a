"""Taking apart what a function left behind."""

from collections.abc import Iterator
from typing import Any

import jax
from fx_core.compat.jax import current_trace
from fx_transforms.axes import check_aliases
from fx_transforms.carrier import Outcome, Static
from fx_transforms.errors import BroadcastVariableError, CarryChangedError

from fx_nnx.errors import NnxError
from fx_nnx.graph.children import Item
from fx_nnx.graph.definition import NodeRef
from fx_nnx.graph.kinds import is_node
from fx_nnx.graph.record import Walk
from fx_nnx.paths import show_path
from fx_nnx.rngs.stream import RngCount
from fx_nnx.transforms.array_refs import References
from fx_nnx.transforms.change import Change, Fresh, Result, identical
from fx_nnx.transforms.layout import Group, Inner, held, is_variable, read_value, result_paths, variables_in
from fx_nnx.transforms.policies import Returns
from fx_nnx.variables.variable import Variable
from fx_nnx.variables.writing import is_ref

__all__ = ["Collector"]


class Collector:
    """Takes apart what a function left behind.

    Args:
      carrier: the `ObjectCarrier`.
      inner: what the function got.
      out: what it returned.

    Attributes:
      groups: for each group pairs of a path, for messages, and a value that comes back.
    """

    def __init__(self, carrier: Any, inner: Inner, out: Any):
        self.carrier, self.inner, self.layout = carrier, inner, inner.layout
        self.names, self.leaves, self.treedef = result_paths(out)
        self.nodes = tuple(is_node(leaf) for leaf in self.leaves)
        self.out = out
        self.groups: list[list[tuple[Any, Any]]] = [[] for _ in carrier.groups]
        self.known = {id(thing): number for number, thing in inner.index.items()}
        self._refs: References | None = None
        self._ins: Any = None
        self._outs: Any = None

    def outcome(self) -> Outcome:
        """Returns shape, groups and result."""
        carrier = self.carrier
        grouping = carrier.grouping
        grouped = grouping is not None and grouping.outs is not None
        args: Walk | None = None
        renames = carrier.axis_metadata is not None
        same = self.inner.alive and not renames
        if not same or any(self.nodes):
            args = self.walk_args()
            if renames:
                self.add_axes(args)
                args = self.walk_args()
            same = self.is_same(args)
        if carrier.rigid and not same:
            raise CarryChangedError(
                carrier.transform, ["the structure of modules: attributes, static values or references"]
            )
        if args is not None and not same and carrier.hands_on:
            self.check_carried(args)
        written, returned = self.take_known(args, same)
        fresh: Fresh | None = None
        if carrier.mode.updates:
            if args is not None and (any(self.nodes) or not same):
                fresh = self.take_graph(args, same)
        elif any(self.nodes):
            fresh = self.take_tree()
        if grouping is not None and grouped and grouping.check and any(self.nodes):
            self.check_groups()
        has_refs = not grouped and any(isinstance(leaf, jax.Ref) for leaf in self.leaves)
        refs = self.refs.of_result(self.names, self.leaves) if has_refs else ()
        result = Result(self.treedef, self.nodes, grouped, refs) if grouped or refs or any(self.nodes) else None
        arrays = self.take_arrays() if grouped else ()
        # With several groups, a value may be one to write into the `jax.Ref` of its variable.
        by_ref = len(carrier.groups) > 1 and any(
            isinstance(thing, Variable) and thing._nnx_meta.ref for thing in self.inner.index.values()
        )
        plain = None
        if fresh is None and result is None and written == returned and not by_ref:
            plain = self.layout.by_group(written, len(carrier.groups))
        change = Static(Change(written, returned, fresh, result, arrays, plain))
        groups = tuple(
            [Group(Static(None, [path for path, _ in group]), [value for _, value in group]) for group in self.groups]
        )
        out = carrier.results.emptied if grouped else self.out if result is None else result.emptied(self.leaves)
        return Outcome(change, groups, out)

    # --- groups ---------------------------------------------------------------------------------------------------

    def group_in(self, leaf: int, path: tuple[Any, ...], value: Any) -> int:
        """Returns the group of a value of the arguments."""
        grouping = self.carrier.grouping
        if grouping is None:
            return 0
        if self._ins is None:
            self._ins = grouping.ins(self.inner.tree)
        group: int = self._ins(leaf, path, held(value))
        return group

    def group_out(self, leaf: int, path: tuple[Any, ...], value: Any) -> int:
        """Returns the group of a value of the result."""
        grouping = self.carrier.grouping
        if grouping is None or grouping.outs is None:
            return 0 if grouping is None else grouping.fresh
        if self._outs is None:
            self._outs = grouping.outs(self.out)
        group: int = self._outs(leaf, path, held(value))
        return group

    def must_stay(self, group: int) -> bool:
        """Returns whether a step may not change the values of a group."""
        return self.carrier.groups[group].returns is Returns.NONE

    # --- what the caller knows ------------------------------------------------------------------------------------

    def walk_args(self) -> Walk:
        """Walks through the arguments as the function left them."""
        walk = Walk()
        numbers = [number for number, node in enumerate(self.layout.nodes) if node]
        for root, name, number in zip(self.inner.roots, self.layout.roots, numbers):
            walk.root(root, (name,), number)
        return walk

    def is_same(self, walk: Walk) -> bool:
        """Returns whether the function left the structure as it was."""
        before = self.layout.graphdef
        if len(walk.nodes) != len(before.nodes) or tuple(walk.nodes) != before.nodes:
            return False
        index = self.inner.index
        return tuple(walk.attributes) == before.attributes and all(
            index.get(number) is thing for number, thing in enumerate(walk.objects)
        )

    def check_carried(self, walk: Walk) -> None:
        """Makes sure that variables and arrays of what is carried are where they were, for the next step."""
        now = dict(zip(walk.paths, walk.leaves))
        carrier, inner, layout = self.carrier, self.inner, self.layout
        names = {name for name in layout.roots if name[0].idx == 0 and name[1].idx == carrier.carried}
        gone: list[str] = []
        for i, (path, number) in enumerate(zip(layout.paths, layout.graphdef.numbers)):
            handed = carrier.keeps_places and carrier.groups[layout.groups[i]].returns is Returns.ALL
            if not handed and path[0] not in names:
                continue
            there = now.get(path)
            kept = there is inner.index[number] if number is not None else self.item_number(path, there) == i
            if not kept:
                gone.append(show_path(path))
        if gone:
            raise CarryChangedError(
                self.carrier.transform, [f"something else, or nothing, in the place of {', '.join(gone)}"]
            )

    def passed(self) -> set[int]:
        """Returns numbers of the variables of the arguments in the result."""
        walk = Walk()
        self.walk_result(walk)
        found = {id(leaf) for leaf in walk.leaves}
        index = self.inner.index
        numbers = enumerate(self.layout.graphdef.numbers)
        return {i for i, number in numbers if number is not None and id(index[number]) in found}

    def known_items(self, walk: Walk, same: bool) -> dict[int, Item]:
        """Returns the values of the arguments that no variable holds, as they are now, by their numbers."""
        if same:
            return {number: leaf for number, leaf in enumerate(walk.leaves) if type(leaf) is Item}
        found = {self.item_number(path, leaf): leaf for path, leaf in zip(walk.paths, walk.leaves)}
        return {number: item for number, item in found.items() if number is not None}

    def item_number(self, path: Any, leaf: Any) -> int | None:
        """Returns the number that a value has among those of the arguments that no variable holds.

        It is in the same attribute of the same object; in containers, which functions replace, in the same place.
        """
        if type(leaf) is not Item:
            return None
        number = self.inner.items.get((id(leaf.container), leaf.key))
        return self.inner.contained.get(path) if number is None else number

    def take_known(self, walk: Walk | None, same: bool) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Lets the values of the arguments come back that have to."""
        carrier, inner, layout = self.carrier, self.inner, self.layout
        written: list[int] = []
        returned: list[int] = []
        numbers = layout.graphdef.numbers
        passed = self.passed() if carrier.results.passing and any(self.nodes) else ()
        # Those that are gone, or hold something else than values now, come back with the structure.
        items = {} if walk is None else self.known_items(walk, same)
        for i, (before, group) in enumerate(zip(inner.values, layout.groups)):
            if i >= len(numbers):
                now = inner.now[i - len(numbers)]
            elif numbers[i] is not None:
                now = inner.index[numbers[i]]._raw_value  # type: ignore[index]
            else:
                now = before if i not in items else items[i].read()
                if is_ref(now) and carrier.mode.updates:
                    now = before  # another reference comes back with the structure
            returns = carrier.groups[group].returns
            rewritten = i < len(numbers) and (returns is Returns.WRITTEN or i in passed)
            if now is before and not rewritten and returns is not Returns.ALL:
                continue
            if returns is Returns.NONE and self.counts_shared_draws(i):
                continue
            if now is before and is_ref(now) and not carrier.hands_on:
                continue  # what was written is there
            if rewritten or (i < len(numbers) and not identical(now, before)):
                written.append(i)
            elif returns is not Returns.ALL:
                continue
            returned.append(i)
            self.groups[group].append((layout.paths[i], now))
        fixed = [show_path(layout.paths[i]) for i in written if self.must_stay(layout.groups[i])]
        if fixed:
            raise BroadcastVariableError(carrier.transform, fixed, "is written by a step")
        return tuple(written), tuple(returned)

    def counts_shared_draws(self, i: int) -> bool:
        """Returns whether a value counts the draws of a stream that all steps share: each begins where the
        caller was.
        """
        number = self.layout.graphdef.numbers[i] if i < len(self.layout.graphdef.numbers) else None
        return number is not None and isinstance(self.inner.index[number], RngCount)

    # --- what is new ----------------------------------------------------------------------------------------------

    @property
    def refs(self) -> References:
        """What is known of the references that come out."""
        if self._refs is None:
            pairs = zip(self.inner.values, self.layout.paths)
            self._refs = References(self.carrier.transform, [(value, show_path(path)) for value, path in pairs])
        return self._refs

    def fresh_value(self, leaf: Any, path: Any) -> Any:
        """Returns the value with which a variable or attribute that is new to the caller comes back.

        References that were made inside stay behind, and the caller gets new ones.

        Raises:
          NnxError: the reference of a variable would become two.
        """
        value = read_value(leaf)
        if not is_variable(leaf) or not leaf.ref or not is_ref(value):
            return value
        self.refs.enter_variable(type(leaf).__name__, value, show_path(path))
        return value[...]

    def take_graph(self, walk: Walk, same: bool) -> Fresh:
        """Walks on through the result, and lets new values come back."""
        head = len(walk.nodes), len(walk.leaves), walk.roots
        self.walk_result(walk)
        first = head[1] if same else 0
        groups: list[int] = []
        refs: list[tuple[int, int]] = []
        for i in range(first, len(walk.leaves)):
            leaf, path = walk.leaves[i], walk.paths[i]
            if is_variable(leaf) and id(leaf) in self.known:
                continue
            number = self.item_number(path, leaf)
            ref = leaf.read() if type(leaf) is Item and isinstance(leaf.read(), jax.Ref) else None
            if number is not None and ref is None:
                groups.append(~number)
                continue
            group = (self.group_in if i < head[1] else self.group_out)(walk.origin[i], path[1:], leaf)
            known = None if ref is None else self.refs.known(ref, show_path(path), self.layout.groups, group)
            if known is not None:
                groups.append(~known)
                continue
            if self.must_stay(group):
                raise BroadcastVariableError(self.carrier.transform, [show_path(path)], "is created by a step")
            if ref is not None:
                refs.append((len(groups), self.refs.enter(ref, show_path(path), len(groups))))
            groups.append(group)
            self.groups[group].append((path, self.fresh_value(leaf, path) if ref is None else ref[...]))
        if same:
            needed = {node.index for node in walk.nodes[head[0] :] if type(node) is NodeRef}
        else:
            needed = set(range(len(walk.objects)))
        outer = [(number, self.known.get(id(walk.objects[number]))) for number in sorted(needed)]
        pairs = tuple((number, old) for number, old in outer if old is not None)
        skip, kept = (head[2], 0) if same else (0, head[2])
        return Fresh(walk.graphdef(), tuple(groups), skip, kept, pairs, tuple(refs))

    def take_tree(self) -> Fresh:
        """Walks through the result alone, which must not have anything of the arguments."""
        walk = Walk(shared=self.carrier.mode.shared)
        self.walk_result(walk)
        groups: list[int] = []
        for leaf, number, path in zip(walk.leaves, walk.origin, walk.paths):
            if not self.carrier.results.alias and is_variable(leaf) and id(leaf) in self.known:
                first = self.layout.path_of(self.known[id(leaf)])
                raise _output_alias(self.carrier.transform, type(leaf).__name__, first, show_path(path))
            group = self.group_out(number, path[1:], leaf)
            groups.append(group)
            self.groups[group].append((path, self.fresh_value(leaf, path)))
        return Fresh(walk.graphdef(), tuple(groups))

    def walk_result(self, walk: Walk) -> None:
        """Walks through the objects of the result."""
        before = len(walk.leaves)
        walk.through(self.leaves, self.names)
        if self.carrier.results.outside:
            return
        trace = current_trace()
        for leaf, path in zip(walk.leaves[before:], walk.paths[before:]):
            if is_variable(leaf) and leaf._nnx_trace != trace and id(leaf) not in self.known:
                kind = type(leaf).__name__
                raise _output_alias(self.carrier.transform, kind, "a model from outside of it", show_path(path))

    def take_arrays(self) -> tuple[int, ...]:
        """Lets the arrays of the result come back in groups."""
        groups: list[int] = []
        for number, (name, leaf, node) in enumerate(zip(self.names, self.leaves, self.nodes)):
            if not node:
                groups.append(self.group_out(number, (), leaf))
                self.groups[groups[-1]].append(((name,), leaf))
        return tuple(groups)

    # --- axes -----------------------------------------------------------------------------------------------------

    def add_axes(self, walk: Walk) -> None:
        """Informs variables about the axis that they get."""
        layout = self.layout
        done: set[int] = set()
        variables = [self.inner.index.get(number) for number in layout.graphdef.numbers]  # type: ignore[arg-type]
        self.carrier.change_axes(variables, layout.groups, adding=True)
        done.update(id(variable) for variable in variables)
        new: list[Any] = []
        groups: list[int] = []

        def note(leaf: Any, group: int) -> None:
            if is_variable(leaf) and id(leaf) not in done:
                done.add(id(leaf))
                new.append(leaf)
                groups.append(group)

        for leaf, number, path in zip(walk.leaves, walk.origin, walk.paths):
            note(leaf, self.group_in(number, path[1:], leaf))
        result = Walk()
        self.walk_result(result)
        for leaf, number, path in zip(result.leaves, result.origin, result.paths):
            note(leaf, self.group_out(number, path[1:], leaf))
        self.carrier.change_axes(new, groups, adding=True)

    def check_groups(self) -> None:
        """Makes sure that what is reachable on two ways is in one group."""
        groups, layout = self.carrier.groups, self.layout

        def places() -> Iterator[tuple[int, str, Any]]:
            for number, path, group in zip(layout.graphdef.numbers, layout.paths, layout.groups):
                if number is not None:
                    yield id(self.inner.index[number]), show_path(path), groups[group].axis
            for number, path, variable in variables_in(self.names, self.leaves):
                yield id(variable), show_path(path), groups[self.group_out(number, path[1:], variable)].axis

        check_aliases(self.carrier.transform, places())


def _output_alias(transform: str, kind: str, first: str, second: str) -> NnxError:
    return NnxError(
        f"The function given to {transform} returns a {kind} that the caller has already.",
        path=second,
        expected="results without variables of the arguments, and each variable once",
        got=f"the same {kind} at {first} and {second}",
        fix="return its value or a copy, or use graph=True and graph_updates=True, which keep identities",
    )
