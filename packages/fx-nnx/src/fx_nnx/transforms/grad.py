"""grad and value_and_grad."""

from collections.abc import Callable, Sequence
from typing import Any

import fx_transforms
import jax
import jax.numpy as jnp
from fx_core.errors import ArgumentTypeError

from fx_nnx.errors import ArgumentNumberError, PrefixError
from fx_nnx.filters import Filter, to_predicate
from fx_nnx.graph.assembly import assembly_of
from fx_nnx.graph.kinds import is_node
from fx_nnx.paths import show_path
from fx_nnx.states.state import State
from fx_nnx.transforms.arguments import Missing, by_position, decorating
from fx_nnx.transforms.carrier import ObjectCarrier
from fx_nnx.transforms.layout import Handle, is_variable, on_tree, read_value
from fx_nnx.transforms.policies import GraphMode, Grouping, GroupPolicy, graph_mode
from fx_nnx.transforms.prefixes import DiffState
from fx_nnx.transforms.targets import Target, transformed
from fx_nnx.transforms.values import refuse_reduce_axes
from fx_nnx.variables.collections import Differentiable

__all__ = ["Wanted", "grad", "value_and_grad"]


class Wanted:
    """The arguments, or their variables, that a derivative is for: one group each, and one for the rest.

    Args:
      transform: name for messages.
      argnums: a position, a `DiffState`, or a sequence of them.
      mode: how objects are carried; trees are differentiated whole.
    """

    def __init__(self, transform: str, argnums: Any, mode: GraphMode):
        self.single = not isinstance(argnums, Sequence)
        self.entries: tuple[Any, ...] = (argnums,) if self.single else tuple(argnums)
        self.transform, self.mode = transform, mode
        for entry in self.entries:
            if isinstance(entry, DiffState) and not mode.updates:
                expected = "positions, since a tree is differentiated whole"
                raise PrefixError.misplaced(f"argnums of {transform} without updates of the graph", entry, expected)
        self.filters: list[Filter] = [e.filter if isinstance(e, DiffState) else Differentiable() for e in self.entries]
        self.positions = [e.argnum if isinstance(e, DiffState) else e for e in self.entries]
        if any(type(position) is not int for position in self.positions) or not self.positions:
            raise ArgumentNumberError.out_of_range(transform, "argnums", argnums, ["a position or DiffState each"])
        self.argnums = argnums

    @property
    def count(self) -> int:
        """How many groups there are."""
        return len(self.entries) + 1

    def carrier(self) -> ObjectCarrier:
        """Creates the carrier."""
        return ObjectCarrier(
            self.mode,
            groups=[*map(self._policy, self.filters), GroupPolicy("no derivative")],
            grouping=Grouping(self.group_args, fresh=self.count - 1, check=True),
            transform=self.transform,
        )

    def _policy(self, filter: Filter) -> GroupPolicy:
        """Name a group after all entries that want the same variables: these may share some."""
        alike = tuple(entry for entry, other in zip(self.entries, self.filters) if other == filter)
        return GroupPolicy(f"argnums={alike[0] if len(alike) == 1 else alike!r}")

    def group_args(self, tree: Any) -> Any:
        """Returns groups of the arguments."""
        args, *_ = tree
        owner: list[int] = []
        for number, arg in enumerate(args):
            owner += [number] * len(jax.tree.leaves(arg, is_leaf=is_node))
        predicates = [to_predicate(filter) for filter in self.filters]
        if not all(-len(args) <= p < len(args) for p in self.positions):
            kinds = [type(arg).__name__ for arg in args]
            raise ArgumentNumberError.out_of_range(self.transform, "argnums", self.argnums, kinds)
        positions = [p + len(args) if p < 0 else p for p in self.positions]
        whole = [not isinstance(entry, DiffState) for entry in self.entries]
        wholes = [position for position, is_whole in zip(positions, whole) if is_whole]
        if len(set(wholes)) < len(wholes):
            raise ArgumentNumberError(
                f"argnums of {self.transform} names an argument twice.", expected="each once", got=repr(self.argnums)
            )
        rest = len(self.entries)

        def group_of(leaf: int, path: tuple[Any, ...], value: Any) -> int:
            for group, (position, matches) in enumerate(zip(positions, predicates)):
                if leaf >= len(owner) or owner[leaf] != position:  # what the function is bound to comes last
                    continue
                # A variable that is an argument by itself, such as one of a State, was chosen by being given.
                if not self.mode.updates or (not path and (whole[group] or not is_variable(value))):
                    return group
                if matches(path, value):
                    return group
            return rest

        return group_of

    def explain(self, handle: Handle) -> ArgumentTypeError | None:
        """Returns which value has no derivative, if that is what is wrong with some arguments."""
        layout = handle.layout
        values = [*map(read_value, handle.targets), *handle.arrays]
        for path, group, value in zip(layout.paths, layout.groups, values):
            for leaf in jax.tree.leaves(value) if group < len(self.entries) else ():
                dtype = jnp.result_type(leaf)
                if not jnp.issubdtype(dtype, jnp.inexact):
                    return ArgumentTypeError(
                        f"{self.transform} is for a value that has no derivative.",
                        path=show_path(path),
                        expected="a dtype of floating point",
                        got=str(dtype),
                        fix="choose other variables with argnums=nnx.DiffState(0, filter), or pass allow_int=True",
                    )
        return None

    def gradients(self, handle: Handle, groups: Sequence[Any]) -> Any:
        """Returns the derivatives, one group each, the form of the arguments."""
        layout, args = handle.layout, handle.tree[0]
        streams = [iter(group.values) for group in groups]
        found = [next(streams[group]) if group < len(streams) else Missing for group in layout.groups]
        objects, arrays = iter(layout.roots), iter(found[len(handle.targets) :])
        # Of the structure that came in; the function may have changed that of the caller's objects.
        values = found[: len(handle.targets)]
        trees = iter(() if self.mode.updates else assembly_of(layout.graphdef).models(values))
        leaves = iter(
            [
                self._derivative(handle, found, next(objects), next(trees, None), leaf) if node else next(arrays)
                for leaf, node in zip(handle.leaves, layout.nodes)
            ]
        )
        whole = [jax.tree.map(lambda _: next(leaves), arg, is_leaf=is_node) for arg in args]
        made = tuple(whole[position] for position in self.positions)
        return made[0] if self.single else made

    def _derivative(self, handle: Handle, found: Sequence[Any], root: Any, tree: Any, leaf: Any) -> Any:
        """Give the derivative for an object or variable of the arguments; for an object without updates, ``tree``."""
        mine = [
            (path[1:], target, value)
            for path, target, value in zip(handle.layout.paths, handle.targets, found)
            if path[0] is root and value is not Missing
        ]
        if not self.mode.updates:
            return tree
        if is_variable(leaf) and mine:
            return leaf.replace(mine[0][2])
        return State.from_flat_path(
            [(path, target.replace(value) if is_variable(target) else value) for path, target, value in mine]
        )


@decorating
def value_and_grad(
    f: Callable[..., Any],
    *,
    argnums: Any = 0,
    has_aux: bool = False,
    holomorphic: bool = False,
    allow_int: bool = False,
    reduce_axes: Sequence[Any] = (),
    graph: bool | None = None,
    graph_updates: bool | None = None,
) -> Any:
    """Returns a function of the value and the derivative of ``f``; what `grad` says applies.

    Returns:
      a function of ``(value, gradients)``, or with ``has_aux`` of ``((value, aux), gradients)``.

    >>> import jax.numpy as jnp
    >>> import fx_nnx as nnx
    >>> scale = nnx.Param(jnp.full((), 3.0))
    >>> loss, gradient = nnx.value_and_grad(lambda scale, x: (scale * x) ** 2)(scale, jnp.ones(()))
    >>> float(loss), float(gradient.get_value())
    (9.0, 6.0)
    """
    refuse_reduce_axes("value_and_grad", reduce_axes)
    return transformed(
        *_differentiated("value_and_grad", f, argnums, has_aux, holomorphic, allow_int, graph, graph_updates)
    )


@decorating
def grad(
    f: Callable[..., Any],
    *,
    argnums: Any = 0,
    has_aux: bool = False,
    holomorphic: bool = False,
    allow_int: bool = False,
    reduce_axes: Sequence[Any] = (),
    graph: bool | None = None,
    graph_updates: bool | None = None,
) -> Any:
    """Returns a function of the derivative of a scalar function of modules and arrays, which may change the modules.

    The derivative for a module is a `State` of its parameters, as `fx_nnx.Optimizer.update` takes it; for an array it
    is an array. Pytrees of modules and arrays have trees of derivatives.

    >>> import jax.numpy as jnp
    >>> import fx_nnx as nnx
    >>> model = nnx.Dict(scale=nnx.Param(jnp.array(3.0)), calls=nnx.BatchStat(jnp.array(0)))
    >>> def loss(model, x):
    ...     model.calls[...] += 1
    ...     return model.scale * x**2
    >>> gradients = grad(loss)(model, 2.0)
    >>> float(gradients.scale[...]), int(model.calls[...])
    (4.0, 1)

    Args:
      f: gives a scalar, or ``(scalar, aux)``; without it, a decorator is returned.
      argnums: position of the argument, or a sequence; it is given by position, unless all are given by name.
        `DiffState` says which variables of a module count, which otherwise are those of type `fx_nnx.Param` and
        of the types that plugins register as differentiable. Of a `fx_nnx.State` all count. A variable that several
        arguments share has its whole derivative in the first of them, and none in the others.
      has_aux: whether ``f`` gives more than the scalar. The function then gives ``(gradients, aux)``.
      holomorphic: see `jax.grad`.
      allow_int: see `jax.grad`.
      reduce_axes: empty: JAX sums over no named axes any more.
      graph: False treats modules as trees; the derivative is then a module with derivatives for all variables.
      graph_updates: False lets only values of variables come out, and differentiates as for trees.

    Raises:
      ArgumentNumberError: there is no argument of a position, or one is named twice.
      TransformError: a variable is reachable from an argument that counts and from one that does not, or that counts
        by another filter.
      ArgumentTypeError: the derivative is for integers.
      PrefixError: `DiffState` for a tree.
      TransformError: ``f`` does not give a scalar, or no pair where ``has_aux`` says so.
    """
    refuse_reduce_axes("grad", reduce_axes)
    target, both = _differentiated("grad", f, argnums, has_aux, holomorphic, allow_int, graph, graph_updates)

    def call(*tree: Any) -> Any:
        out, gradients = both(*tree)
        return (gradients, out[1]) if has_aux else gradients

    return transformed(target, call)


def _differentiated(
    transform: str,
    f: Callable[..., Any],
    argnums: Any,
    has_aux: bool,
    holomorphic: bool,
    allow_int: bool,
    graph: bool | None,
    graph_updates: bool | None,
) -> tuple[Target, Callable[..., Any]]:
    target, mode = Target(f), graph_mode(graph, graph_updates)
    wanted = Wanted(transform, argnums, mode)
    rest = wanted.count - 1
    carrier = wanted.carrier()
    lifted = fx_transforms.value_and_grad(
        on_tree(target.call),
        carrier,
        wrt=range(rest),
        has_aux=has_aux,
        holomorphic=holomorphic,
        allow_int=allow_int,
        transform=transform,
    )

    def call(args: Any, kwargs: Any, *bound: Any) -> Any:
        if kwargs and not args:
            args, kwargs = by_position(f, kwargs)
        handle = Handle((args, kwargs, *bound))
        try:
            out, (groups, _) = lifted(handle)
        except TypeError as error:
            explained = None if allow_int or "allow_int" not in str(error) else wanted.explain(handle)
            if explained is None:
                raise
            raise explained from error
        return out, wanted.gradients(handle, groups)

    return target, call
