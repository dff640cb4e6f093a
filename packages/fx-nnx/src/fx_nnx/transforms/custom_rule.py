"""custom_vjp."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import fx_transforms
import jax
import jax.numpy as jnp
import numpy as np
from fx_core.errors.nnx_transforms import CustomRuleError, TangentError
from fx_transforms.static import Static

from fx_nnx.states.state import State
from fx_nnx.transforms.arguments import Missing, StaticArguments, bound
from fx_nnx.transforms.carrier import ObjectCarrier
from fx_nnx.transforms.change import GAP, identical, is_gap
from fx_nnx.transforms.forest import ForestWalk, is_node, make_roots
from fx_nnx.transforms.layout import Group, Handle, Inner, Layout, is_variable, read_value
from fx_nnx.transforms.modes import carriage
from fx_nnx.transforms.prefixes import DiffState
from fx_nnx.transforms.targets import Target
from fx_nnx.transforms.values import derivative_leaves, values_by_path

__all__ = ["CustomVjp", "custom_vjp"]


class CustomVjp:
    """A function with a backward rule of its own, as `custom_vjp` makes it."""

    def __init__(self, fun: Callable[..., Any], nondiff_argnums: Any, graph: bool | None, graph_updates: bool | None):
        if Target(fun).bound:
            raise CustomRuleError(
                "custom_vjp got a function that is bound to a module, whose cotangents its rule could not give.",
                expected="a function that gets all modules as arguments",
                got=fun,
                fix="give it unbound: nnx.custom_vjp(Model.method), called as f(model, x)",
            )
        functools.update_wrapper(self, fun, [n for n in functools.WRAPPER_ASSIGNMENTS if hasattr(fun, n)])
        self.fun = fun
        self.how = carriage(graph, graph_updates)
        nums = nondiff_argnums if isinstance(nondiff_argnums, Sequence) else (nondiff_argnums,)
        if any(isinstance(n, DiffState) for n in nums):
            raise CustomRuleError(
                "nondiff_argnums of custom_vjp can only be positions.",
                expected="positions of hashable arguments",
                got=nondiff_argnums,
                fix="let the backward rule give None, or nothing, for the variables that take no part",
            )
        self.statics = StaticArguments(fun, "custom_vjp", nums)
        self.forward: Callable[..., Any] | None = None
        self.backward: Callable[..., Any] | None = None

    def defvjp(self, fwd: Callable[..., Any], bwd: Callable[..., Any], symbolic_zeros: bool = False) -> None:
        """Give the function its rule.

        Args:
          fwd: ``(*args) -> (out, residuals)``; may change the arguments as the function does.
          bwd: ``(*nondiff, residuals, g) -> cotangents``, one per differentiable argument: for modules a state, module
            or dictionary of cotangents, in which what is missing is zero; None is zero. ``g`` is ``(changes, out)``:
            cotangents of what the arguments were changed to, a state per module and None for arrays, and those of the
            result. Without updates of the graph it is the cotangent of the result alone.
          symbolic_zeros: not supported.

        Raises:
          CustomRuleError: for ``symbolic_zeros``.
        """
        if symbolic_zeros:
            raise CustomRuleError("custom_vjp has no symbolic zeros.", got="symbolic_zeros=True", fix="leave it away")
        self.forward, self.backward = fwd, bwd

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        return self if instance is None else functools.partial(self, instance)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function, or under differentiation its forward rule."""
        if self.forward is None or self.backward is None:
            name = getattr(self.fun, "__name__", "the function")
            raise CustomRuleError(f"{name} has no rule yet.", fix=f"call {name}.defvjp(forward, backward)")
        statics, rest, _ = self.statics.take(bound(self.fun, args, kwargs), {})
        handle = Handle((rest, {}), statics)
        call = _Call(self, handle, self.forward, self.backward)
        carrier = ObjectCarrier(self.how, transform="custom_vjp")
        return fx_transforms.custom_vjp(
            call.primal_rule, call.forward_rule, call.backward_rule, carrier, wrt=(0,), with_state=True
        )(handle)


class _Call:
    """One call: what its forward pass found out for the backward pass."""

    def __init__(self, rule: CustomVjp, handle: Handle, forward: Callable[..., Any], backward: Callable[..., Any]):
        self.rule, self.handle, self.forward, self.backward = rule, handle, forward, backward
        self.kinds: list[Any] = []
        self.changed: list[int] = []
        self.layout: Layout

    def _args(self, inner: Inner) -> Sequence[Any]:
        return StaticArguments.put(inner.layout.statics, inner.tree[0], {})[0]

    def primal_rule(self, inner: Inner) -> Any:
        return self.rule.fun(*self._args(inner))

    def forward_rule(self, inner: Inner) -> Any:
        self.kinds = [jax.tree.map(jax.typeof, value) for value in inner.values]
        self.layout = inner.layout
        returned = self.forward(*self._args(inner))
        if not isinstance(returned, tuple) or len(returned) != 2:
            raise CustomRuleError(
                "The forward rule of custom_vjp returned the wrong thing.",
                expected="a tuple (out, residuals)",
                got=type(returned).__name__,
                fix="return the result and what the backward rule needs",
            )
        self.changed = _changed(inner)
        return returned[0], _pack(returned[1])

    def backward_rule(self, residuals: Any, cotangents: Any) -> Any:
        (written,), out = cotangents
        statics = [value for _, value in self.layout.statics[0]]
        g = (self._of_changes(written.values), out) if self.rule.how.updates else out
        found = self.backward(*statics, _unpack(residuals), g)
        return ((self._group(found),),)

    def _of_changes(self, values: Sequence[Any]) -> tuple[Any, ...]:
        """Cotangents of what the arguments were changed to, in the form of the arguments."""
        layout = self.layout
        by_number = dict(zip(self.changed, values))
        objects = iter(layout.roots)
        leaves: list[Any] = []
        for leaf, node in zip(self.handle.leaves, layout.nodes):
            leaves.append(self._of_change(next(objects), leaf, by_number) if node else None)
        args = jax.tree.unflatten(layout.treedef, leaves)[0]
        skipped = {n for n, _ in layout.statics[0]}
        return tuple(arg for n, arg in enumerate(args) if n not in skipped)

    def _of_change(self, root: Any, leaf: Any, by_number: dict[int, Any]) -> Any:
        pairs = []
        for number, (path, target) in enumerate(zip(self.layout.paths, self.handle.targets)):
            if path[0] is root and is_variable(target):
                value = by_number[number] if number in by_number else _zeros(self.kinds[number])
                pairs.append((path[1:], target.replace(value)))
        return (pairs[0][1] if pairs else None) if is_variable(leaf) else State.from_flat_path(pairs)

    def _group(self, found: Any) -> Group:
        """The cotangents of all values, out of what the backward rule gave; None is zero."""
        args = self.handle.tree[0]
        skipped = {n for n, _ in self.layout.statics[0]}
        active = tuple(arg for n, arg in enumerate(args) if n not in skipped)
        if len(active) == 1 and not isinstance(found, tuple):
            found = (found,)
        if not isinstance(found, tuple) or len(found) != len(active):
            raise CustomRuleError(
                "The backward rule of custom_vjp returned the wrong thing.",
                expected=f"a tuple of {len(active)} cotangents, one per differentiable argument",
                got=found,
                fix="give None for arguments whose cotangent is zero",
            )
        try:
            parts = derivative_leaves(found, active, is_node)
        except (ValueError, TypeError) as error:
            raise TangentError(str(error)) from error
        by_path = [values_by_path(part) for part in parts]
        roots = {id(root): by_path[leaf] for leaf, root in zip(self._object_leaves(), self.layout.roots)}
        values = [roots[id(path[0])].get(path[1:]) for path in self.layout.paths[: len(self.handle.targets)]]
        arrays = [found.get(()) for found, node in zip(by_path, self.layout.nodes) if not node]
        return Group([*values, *arrays], self.layout.paths)

    def _object_leaves(self) -> list[int]:
        return [number for number, node in enumerate(self.layout.nodes) if node]


def _changed(inner: Inner) -> list[int]:
    found = []
    for i, (number, old) in enumerate(zip(inner.layout.forest.numbers, inner.values)):
        if number is not None and not identical(inner.index[number]._value, old):
            found.append(i)
    return found


def _zeros(kind: Any) -> Any:
    def zero(aval: Any) -> Any:
        if jnp.issubdtype(aval.dtype, jnp.inexact):
            return jnp.zeros(aval.shape, aval.dtype)
        return np.zeros(aval.shape, jax.dtypes.float0)

    return jax.tree.map(zero, kind)


def _pack(tree: Any) -> Any:
    """Give a tree of arrays that stands for a tree with objects."""
    leaves, treedef = jax.tree.flatten(tree, is_leaf=is_node)
    walk = ForestWalk()
    for number, leaf in enumerate(leaves):
        if is_node(leaf):
            walk.root(leaf, (number,))
    emptied = jax.tree.unflatten(treedef, [GAP if is_node(leaf) else leaf for leaf in leaves])
    return Static(walk.forest()), [read_value(target) for target in walk.leaves], emptied


def _unpack(packed: Any) -> Any:
    """Undo `_pack`, with new objects."""
    forest, values, emptied = packed
    roots = iter(make_roots(forest.value, values).roots)
    return jax.tree.map(lambda x: next(roots) if is_gap(x) else x, emptied, is_leaf=is_gap)


def custom_vjp(
    fun: Any = Missing,
    *,
    nondiff_argnums: int | Sequence[int] = (),
    graph: bool | None = None,
    graph_updates: bool | None = None,
) -> Any:
    """Give a function of modules and arrays a backward rule of its own, see `CustomVjp.defvjp`.

    >>> import jax, jax.numpy as jnp
    >>> from fx_nnx.modules.containers import Dict
    >>> from fx_nnx.transforms.differentiate import grad
    >>> from fx_nnx.variables import Param
    >>> @custom_vjp
    ... def f(model, x):
    ...     return model.scale * x
    >>> def forward(model, x):
    ...     return f(model, x), (model, x)
    >>> def backward(residuals, g):
    ...     (model, x), (_, out) = residuals, g
    ...     return {"scale": 10 * out}, None
    >>> f.defvjp(forward, backward)
    >>> float(grad(lambda model: f(model, 2.0))(Dict(scale=Param(jnp.array(3.0)))).scale[...])
    10.0

    Args:
      fun: the function, which may change its arguments; without it, a decorator is returned.
      nondiff_argnums: positions of arguments to trace for, hashable ones.
      graph: False treats modules as trees, in which no object is shared.
      graph_updates: False lets only values of variables come out.

    Raises:
      CustomRuleError: the function has no rule when it is called, or its rule gives the wrong thing.
    """
    if fun is Missing:
        return lambda fun: CustomVjp(fun, nondiff_argnums, graph, graph_updates)
    return CustomVjp(fun, nondiff_argnums, graph, graph_updates)
