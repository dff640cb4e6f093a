"""Contexts that keep track of references over several splits and merges."""

import contextlib
import contextvars
import dataclasses
from collections.abc import Iterator
from typing import Any

from fx_core.errors import InvalidAttributeError

from fx_nnx.errors import NnxError
from fx_nnx.filters import Filter, filters_to_predicates
from fx_nnx.graph.definition import GraphDef
from fx_nnx.states.flat import FlatState, partition
from fx_nnx.states.state import State
from fx_nnx.transforms.references import RefMap, flatten, unflatten
from fx_nnx.variables.variable import Variable

__all__ = [
    "MergeContext",
    "SplitContext",
    "UpdateContext",
    "current_update_context",
    "merge_context",
    "split_context",
    "update_context",
]

_contexts: contextvars.ContextVar[tuple["UpdateContext", ...]] = contextvars.ContextVar("fx_nnx_updates", default=())


class _Block:
    """A context that ends with its block, and then has no attributes and keeps nothing alive."""

    def end(self) -> None:
        """Lets go of everything."""
        vars(self).clear()

    def __getattr__(self, name: str) -> Any:
        # Reached only for what is not there.
        if name not in getattr(type(self), "__dataclass_fields__", ()):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        raise InvalidAttributeError(
            f"{type(self).__name__} has no {name} after its block.",
            expected="a use inside of the block",
            got=name,
            fix="do it inside of the block, or open another one",
        )


@dataclasses.dataclass(repr=False)
class SplitContext(_Block):
    """Takes objects apart that may refer to each other: what was met before is referred to.

    It ends with its block, and cannot be used then.

    Attributes:
      ctxtag: tag of the `UpdateContext` that it belongs to, or None.
      ref_index: numbers of the objects met.
      is_inner: whether it is inside of a transform, so that structures say which outer objects they come from.

    >>> import fx_nnx as nnx
    >>> weight = nnx.Param(1.0)
    >>> with nnx.split_context() as ctx:
    ...     first, second = ctx.split({"w": weight}), ctx.split({"again": weight})
    >>> first[0].num_leaves, second[0].num_leaves  # the second structure refers to the first
    (1, 0)
    """

    ctxtag: Any
    ref_index: RefMap
    is_inner: bool | None

    def _flat(self, node: Any) -> tuple[GraphDef, FlatState]:
        update = None if self.ctxtag is None else current_update_context(self.ctxtag)
        outer = update.inner_ref_outer_index if update is not None and self.is_inner else None
        graphdef, state = flatten(node, ref_index=self.ref_index, ref_outer_index=outer)
        return graphdef, state

    def _parts(self, flat: FlatState, filters: tuple[Filter, ...]) -> list[FlatState]:
        if not filters:
            return [flat]
        groups = partition(flat.paths, flat.leaves, filters_to_predicates(filters), exhaustive=True)
        return [FlatState([flat[i] for i in group], sort=False) for group in groups]

    def split(self, node: Any, *filters: Filter) -> tuple[Any, ...]:
        """Returns the structure of an object and a `State` per filter, as `fx_nnx.split`; a variable is its own
        state.
        """
        graphdef, flat = self._flat(node)
        if flat.paths == ((),) and not filters:
            return graphdef, flat.leaves[0]
        return graphdef, *(part.to_nested_state() for part in self._parts(flat, filters))

    def flatten(self, node: Any, *filters: Filter, with_paths: bool = True) -> tuple[Any, ...]:
        """Returns the structure of an object and a `FlatState` per filter, or without paths a list of leaves."""
        graphdef, flat = self._flat(node)
        if not with_paths:
            return graphdef, flat.leaves
        return graphdef, *self._parts(flat, filters)


@dataclasses.dataclass(repr=False)
class MergeContext(_Block):
    """Puts together what a `SplitContext` took apart.

    It ends with its block, and cannot be used then.

    Attributes:
      ctxtag: tag of the `UpdateContext` that it belongs to, or None.
      index_ref: the objects made, by number.
      is_inner: whether it is inside of a transform; outside, it changes the objects that were split first.

    >>> import fx_nnx as nnx
    >>> with nnx.split_context() as ctx:
    ...     graphdef, state = ctx.split(nnx.Dict(w=nnx.Param(1.0)))
    >>> with nnx.merge_context() as ctx:
    ...     ctx.merge(graphdef, state).w.get_value()
    1.0
    """

    ctxtag: Any
    index_ref: dict[int, Any]
    is_inner: bool | None

    def unflatten(self, graphdef: GraphDef, flat_state: Any, /, *flat_states: Any) -> Any:
        """Merges an object from its structure and flat states."""
        flat = FlatState.merge(flat_state, *flat_states) if flat_states else flat_state
        update = None if self.ctxtag is None else current_update_context(self.ctxtag)
        outer = update.outer_index_outer_ref if update is not None and not self.is_inner else None
        return unflatten(graphdef, flat, index_ref=self.index_ref, outer_index_outer_ref=outer)

    def merge(self, graphdef: GraphDef, state: Any, /, *states: Any) -> Any:
        """Merges an object from its structure and states."""
        if isinstance(state, Variable):
            return self.unflatten(graphdef, FlatState([((), state)], sort=False))
        parts = [part if isinstance(part, State) else State(part) for part in (state, *states)]
        return self.unflatten(graphdef, *(part.flat_state() for part in parts))


@dataclasses.dataclass
class UpdateContext:
    """Brings changes of objects back: through a split outside, a merge and a split inside, and a merge outside.

    Attributes:
      tag: what it is found by.
      outer_ref_outer_index: numbers of the objects that were split outside.
      outer_index_inner_ref: what was merged inside, by number.
      outer_index_outer_ref: the objects that were split outside, by number.
      inner_ref_outer_index: numbers of what was merged inside.
      static_cache: no effect, structures are remembered in any case.

    >>> import fx_nnx as nnx
    >>> with nnx.update_context("training") as ctx:
    ...     ctx.tag
    'training'
    """

    tag: Any
    outer_ref_outer_index: RefMap | None = None
    outer_index_inner_ref: dict[int, Any] | None = None
    outer_index_outer_ref: dict[int, Any] | None = None
    inner_ref_outer_index: RefMap | None = None
    static_cache: Any = None

    def flatten_end(self, ref_index: RefMap) -> None:
        """Records what a split met: the first one is outside, the next one inside."""
        if self.outer_ref_outer_index is None:
            self.outer_ref_outer_index = ref_index
            self.outer_index_outer_ref = {number: ref for ref, number in ref_index.pairs()}
        else:
            self.outer_index_inner_ref = self.inner_ref_outer_index = None

    def unflatten_end(self, index_ref: dict[int, Any], inner_merge: bool) -> None:
        """Records what a merge made, if it is inside."""
        if inner_merge:
            self.outer_index_inner_ref = index_ref
            self.inner_ref_outer_index = RefMap((ref, number) for number, ref in index_ref.items())


@contextlib.contextmanager
def split_context(ctxtag: Any = None) -> Iterator[SplitContext]:
    """Takes several objects apart that may share parts.

    >>> import fx_nnx as nnx
    >>> model = nnx.Dict(w=nnx.Param(1))
    >>> with split_context() as ctx:
    ...     parts = ctx.split(model), ctx.split({"again": model.w})
    >>> with merge_context() as ctx:
    ...     first, second = ctx.merge(*parts[0]), ctx.merge(*parts[1])
    >>> second["again"] is first.w
    True

    Args:
      ctxtag: tag of the `update_context` that it belongs to.
    """
    update = None if ctxtag is None else current_update_context(ctxtag)
    numbers = RefMap()
    ctx = SplitContext(ctxtag, numbers, update is not None and update.inner_ref_outer_index is not None)
    try:
        yield ctx
    finally:
        ctx.end()
    if update is not None:
        update.flatten_end(numbers)


@contextlib.contextmanager
def merge_context(ctxtag: Any = None, inner: bool | None = None) -> Iterator[MergeContext]:
    """Puts together what a `split_context` took apart.

    Args:
      ctxtag: tag of the `update_context` that it belongs to.
      inner: whether it is inside of a transform; outside, the objects that were split are changed and used.

    >>> import fx_nnx as nnx
    >>> with nnx.split_context() as ctx:
    ...     graphdef, state = ctx.split(nnx.Dict(w=nnx.Param(1.0)))
    >>> with nnx.merge_context() as ctx:
    ...     ctx.merge(graphdef, state).w.get_value()
    1.0
    """
    update = None if ctxtag is None else current_update_context(ctxtag)
    made: dict[int, Any] = {}
    ctx = MergeContext(ctxtag, made, inner)
    try:
        yield ctx
    finally:
        ctx.end()
    if update is not None:
        update.unflatten_end(made, bool(inner))


class update_context:  # noqa: N801  # the name of the reference library: it is used as a function
    """A block, or as a decorator a function, in which splits and merges bring changes of structure back.

    ::

        with nnx.update_context("tag"):
            with nnx.split_context("tag") as ctx:
                graphdef, state = ctx.split(model)
            with nnx.merge_context("tag", inner=True) as ctx:
                inner = ctx.merge(graphdef, state)
            inner.scale = 2.0                                   # a change of structure
            with nnx.split_context("tag") as ctx:
                graphdef, state = ctx.split(inner)
            with nnx.merge_context("tag", inner=False) as ctx:
                ctx.merge(graphdef, state)                      # this is `model`, changed

    Args:
      tag: what splits and merges find it by.
    """

    def __init__(self, tag: Any):
        self.tag = tag
        self._tokens: list[Any] = []

    def __enter__(self) -> UpdateContext:
        made = UpdateContext(self.tag)
        self._tokens.append(_contexts.set((*_contexts.get(), made)))
        return made

    def __exit__(self, *_: Any) -> None:
        _contexts.reset(self._tokens.pop())

    def __call__(self, f: Any) -> Any:
        """Decorates a function."""

        def wrapped(*args: Any, **kwargs: Any) -> Any:
            with update_context(self.tag):
                return f(*args, **kwargs)

        return wrapped


def current_update_context(tag: Any) -> UpdateContext:
    """Returns the innermost `update_context` of a tag.

    Raises:
      NnxError: there is none.

    >>> import fx_nnx as nnx
    >>> with nnx.update_context("training") as ctx:
    ...     nnx.current_update_context("training") is ctx
    True
    """
    for context in reversed(_contexts.get()):
        if context.tag == tag:
            return context
    raise NnxError(
        f"There is no update context {tag!r}.",
        expected=f"one of {[context.tag for context in _contexts.get()]!r}",
        got=repr(tag),
        fix=f"do it inside of `with nnx.update_context({tag!r}):`",
    )
