"""The carrier of scopes: groups are collections and RNG streams, by filter."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
from fx_core import meta
from fx_core.frozen_dict import unfreeze
from fx_core.scope import (
    CollectionFilter,
    LazyRng,
    RngCounters,
    Scope,
    group_collections,
    in_filter,
    intersect_filters,
    is_filter_empty,
    union_filters,
)

from fx_transforms.carrier import Groups, Outcome, Static

__all__ = ["Frame", "Frozen", "ScopeCarrier", "ScopeTree"]

Frozen = tuple[Any, ...]


class Frame(NamedTuple):
    """What of a scope is compared when a compiled function is looked up.

    Attributes:
      mutable: canonical filter of the collections that may be written inside.
      flags: the scope's flags.
      counters: how many keys were drawn, here and in inner scopes.
    """

    mutable: Any
    flags: Any
    counters: Frozen


class Note(NamedTuple):
    """What of a scope is only for messages."""

    name: str | None
    path: tuple[str, ...]
    debug_path: tuple[str, ...]


class ScopeTree:
    """The scopes of a tree: the outermost ones, and for each leaf where it is.

    A scope inside another one of the tree shares its variables, so only the outer one is taken apart.
    """

    def __init__(self, handle: Any):
        leaves, self.treedef = jax.tree.flatten(handle)
        self.leaves: list[Scope] = leaves
        self.roots: list[Scope] = []
        for scope in sorted(leaves, key=lambda s: len(s.path)):
            if _holder(self.roots, scope) is None:
                self.roots.append(scope)
        # Numbered by first use, so that groups have the order of the leaves.
        order = {id(scope): n for n, scope in reversed(list(enumerate(leaves)))}
        self.roots.sort(key=lambda s: order[id(s)])
        self.places = tuple(self._place(scope) for scope in leaves)

    def _place(self, scope: Scope) -> tuple[int, tuple[str, ...]]:
        index = _holder(self.roots, scope)
        assert index is not None
        return index, scope.path[len(self.roots[index].path) :]


def _holder(roots: Sequence[Scope], scope: Scope) -> int | None:
    """The root whose variables contain those of the scope."""
    for index, root in enumerate(roots):
        if root is scope:
            return index
        if scope._variables is root._variables and scope.path[: len(root.path)] == root.path:
            return index
    return None


class ScopeCarrier:
    """Carries a scope, or a tree of scopes.

    Every group is a tuple with one entry per outermost scope: collections by name for the groups of variables, which
    come first, streams by name for those of RNG streams.

    Args:
      ins: filters of the groups of variables on the way in; a collection goes to the first that lets it through.
      outs: the same on the way out. What no filter lets through is immutable inside.
      rngs: filters of the groups of RNG streams.
      name: name of the transform, for the debug paths of inner scopes.
      fold: whether paths and counters are folded into the keys. The compiled function is then the same for scopes at
        different places.
      whole: numbers of groups that come out whole, immutable collections included, as a carry has to.
      own: streams that get keys of their own, made from those of ``params``, where they were not given. In ``apply``
        only: parameters are drawn as if nothing else was.
      reasons: for errors, why a collection has its place, where the caller of the transform did not name it.
      axes: for each group of variables the places on the way in and out, where groups are mapped: the `AxisMetadata`
        of variables loses and gains what are axes.
      metadata_params: what it is informed of then.

    >>> import fx_core
    >>> import fx_transforms
    >>> carrier = fx_transforms.ScopeCarrier(ins=["params", "state"], outs=[False, "state"], rngs=[True])
    >>> scope = fx_core.Scope({"state": {"count": 0}}, {}, mutable=["state"])
    >>> shape, (params, state, keys) = carrier.split(scope)
    >>> state
    ({'state': {'count': 0}},)
    """

    def __init__(
        self,
        ins: Sequence[CollectionFilter],
        outs: Sequence[CollectionFilter],
        rngs: Sequence[CollectionFilter],
        name: str | None = None,
        *,
        fold: bool = False,
        whole: Sequence[int] = (),
        own: Sequence[str] = (),
        reasons: Mapping[str, str] = {},
        axes: Sequence[tuple[Any, Any]] = (),
        metadata_params: Mapping[Any, Any] = {},
    ):
        self.ins, self.outs, self.rngs = tuple(ins), tuple(outs), tuple(rngs)
        self.name, self.fold, self.whole, self.own = name, fold, tuple(whole), tuple(own)
        self.reasons, self.axes, self.metadata_params = reasons, axes, metadata_params
        written: Any = False
        for out in self.outs:
            written = union_filters(written, out)
        self.written = written

    def split(self, handle: Any) -> tuple[Static, Groups]:
        """See `Carrier.split`."""
        tree = ScopeTree(handle)
        variables: list[Groups] = []
        streams: list[Groups] = []
        frames: list[Frame] = []
        for scope in tree.roots:
            scope._check(f"enter {self.name or 'a lifted transform'}")
            rngs, counters = self._streams(scope)
            variables.append(group_collections(scope.variables(), self.ins))
            streams.append(group_collections(rngs, self.rngs))
            frames.append(Frame(intersect_filters(scope.mutable, self.written), _hashable(scope.flags), counters))
        notes = tuple(Note(s.name, s.path, s.debug_path) for s in tree.roots)
        shape = Static((tree.treedef, tuple(frames), tree.places), notes)
        empty: Groups = ((),) * (len(self.ins) + len(self.rngs))
        groups = (*zip(*variables), *zip(*streams)) if tree.roots else empty
        return shape, self._renamed(groups, [into for into, _ in self.axes], meta.remove_axis)

    def _renamed(self, groups: Groups, axes: Sequence[Any], change: Callable[..., Any]) -> Groups:
        """Groups whose metadata has lost, or gained, their axes."""
        new = list(groups)
        for n, (group, axis) in enumerate(zip(groups, axes)):
            if isinstance(axis, int) and group is not None:
                new[n] = change(group, axis, self.metadata_params)
        return tuple(new)

    def _streams(self, scope: Scope) -> tuple[Mapping[str, LazyRng], Frozen]:
        rngs = scope.rngs
        if self.own and "params" in rngs and not scope.get_flag("initializing", False):
            rngs = {**{name: LazyRng.create(rngs["params"], name) for name in self.own}, **rngs}
        if not self.fold:
            return rngs, freeze_counters(scope)
        folded: dict[str, LazyRng] = {}
        drawn = dict(scope.counters.drawn)
        for name, rng in rngs.items():
            if any(in_filter(f, name) for f in self.rngs):
                drawn[name] = drawn.get(name, 0) + 1
                folded[name] = LazyRng.create(LazyRng.create(rng, drawn[name]).as_jax_rng())
        return folded, (tuple(sorted(drawn.items())), freeze_counters(scope)[1])

    def merge(self, shape: Static, groups: Groups) -> Any:
        """See `Carrier.merge`."""
        treedef, frames, places = shape.value
        roots = [self._scope(n, frame, note, groups) for n, (frame, note) in enumerate(zip(frames, shape.note))]
        return jax.tree.unflatten(treedef, [_descend(roots[index], names) for index, names in places])

    def _scope(self, n: int, frame: Frame, note: Note, groups: Groups) -> Scope:
        variables: dict[str, Any] = {}
        rngs: dict[str, LazyRng] = {}
        for index, group in enumerate(groups):
            if group is None:  # has no way in
                continue
            if index >= len(self.ins):
                rngs.update(group[n])
                continue
            for col, xs in group[n].items():
                variables[col] = unfreeze(xs) if in_filter(frame.mutable, col) else xs
        debug = note.debug_path
        if self.name:
            debug = (*debug[:-1], f"{self.name}({debug[-1] if debug else ''})")
        flags = frame.flags.value if isinstance(frame.flags, _ById) else frame.flags
        scope = Scope(variables, rngs, note.name, frame.mutable, None, note.path, debug, flags)
        thaw_counters(scope.counters, frame.counters)
        return scope

    def collect(self, inner: Any, out: Any) -> Outcome:
        """See `Carrier.collect`."""
        tree = ScopeTree(inner)
        groups: list[Groups] = []
        frames: list[Frame] = []
        for scope in tree.roots:
            new = list(group_collections(scope.mutable_variables(), self.outs))
            if self.whole:
                everything = group_collections(scope.variables(), self.outs)
                for index in self.whole:
                    new[index] = everything[index]
            groups.append(tuple(new))
            frames.append(Frame(scope.mutable, _hashable(scope.flags), freeze_counters(scope)))
            scope.invalidate()
        notes = tuple(Note(s.name, s.path, s.debug_path) for s in tree.roots)
        shape = Static((tree.treedef, tuple(frames), tree.places), notes)
        none: Groups = ((),) * (len(self.outs) if not groups else 0)
        return Outcome(shape, (*zip(*groups), *none, *((),) * len(self.rngs)), out)

    def absorb(self, handle: Any, shape: Static, groups: Groups, out: Any) -> Any:
        """See `Carrier.absorb`."""
        frames = shape.value[1]
        groups = self._renamed(groups, [out for _, out in self.axes], meta.add_axis)
        for n, scope in enumerate(ScopeTree(handle).roots):
            for group in groups[: len(self.outs)]:
                if group:
                    _write(scope, group[n])
            thaw_counters(scope.counters, frames[n].counters)
        return out

    def follow(self, before: Static, after: Static) -> Static:
        """See `Carrier.follow`: drawing goes on, as if the branches ran one after the other."""
        treedef, frames, places = before.value
        drawn = [frame.counters for frame in after.value[1]]
        frames = tuple(frame._replace(counters=counters) for frame, counters in zip(frames, drawn))
        return Static((treedef, frames, places), before.note)

    def join(self, shapes: Sequence[Static]) -> Static:
        """See `Carrier.join`: the last branch was the last to draw."""
        return shapes[-1]

    def writes(self, shape: Static) -> Sequence[bool]:
        """See `Carrier.writes`."""
        mutable = [frame.mutable for frame in shape.value[1]]
        out = [any(not is_filter_empty(intersect_filters(m, f)) for m in mutable) for f in self.outs]
        return [*out, *(False for _ in self.rngs)]

    def label(self, group: int, path: tuple[Any, ...]) -> str:
        """See `Carrier.label`."""
        what = "variable" if group < len(self.ins) else "RNG stream"
        if len(path) < 2:
            filters = (*self.ins, *self.rngs)
            return f"{what}s {filters[group]!r}"
        names = [str(getattr(key, "key", getattr(key, "name", key))) for key in path[1:]]
        if what == "RNG stream":
            return f"RNG stream {names[0]!r}"
        reason = f" ({self.reasons[names[0]]})" if names[0] in self.reasons else ""
        return f"{'/'.join(names[1:]) or 'variables'} of collection {names[0]!r}{reason}"


class _ById:
    """Compares what cannot be hashed by identity."""

    __slots__ = ("value",)

    def __init__(self, value: Any):
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _ById) and self.value is other.value

    def __hash__(self) -> int:
        return id(self.value)


def _hashable(flags: Any) -> Any:
    try:
        hash(flags)
    except TypeError:
        return _ById(flags)
    return flags


def _descend(scope: Scope, names: tuple[str, ...]) -> Scope:
    for name in names:
        scope = scope.push(name, reuse=True)
    return scope


def _write(scope: Scope, collections: Mapping[str, Any]) -> None:
    for col, xs in collections.items():
        if scope.is_mutable_collection(col):  # a group that comes out whole has others too
            for name, value in xs.items():
                scope.put_variable(col, name, value)


def freeze_counters(scope: Scope) -> Frozen:
    """Returns the counters of a scope, hashable; nothing where there is no stream."""
    return _freeze(scope.counters) if scope._streams else ((), ())


def _freeze(counters: RngCounters) -> Frozen:
    inner = ((name, _freeze(child)) for name, child in sorted(counters.children.items()))
    return tuple(sorted(counters.drawn.items())), tuple((name, child) for name, child in inner if child != ((), ()))


def thaw_counters(counters: RngCounters, frozen: Frozen) -> None:
    """Lets counters go on from what `freeze_counters` found."""
    drawn, children = frozen
    counters.drawn.update(drawn)
    for name, child in children:
        thaw_counters(counters.child(name), child)
