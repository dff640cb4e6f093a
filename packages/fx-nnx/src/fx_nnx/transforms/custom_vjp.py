"""custom_vjp."""

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import fx_transforms
import jax
from fx_core.errors import ArgumentTypeError
from fx_transforms.axes import check_aliases
from fx_transforms.carrier import Outcome, Static

from fx_nnx.errors import PrefixError, wrong_tangent
from fx_nnx.graph.assembly import assembly_of
from fx_nnx.graph.kinds import is_node
from fx_nnx.graph.record import Walk
from fx_nnx.objects.fields import is_array
from fx_nnx.paths import show_path
from fx_nnx.transforms.arguments import Missing, StaticArguments, bound
from fx_nnx.transforms.carrier import ObjectCarrier
from fx_nnx.transforms.change import GAP, is_gap
from fx_nnx.transforms.cotangents import ArgumentCotangents, ResultCotangents
from fx_nnx.transforms.layout import Group, Handle, Inner, Layout, read_value, root_paths, variables_in
from fx_nnx.transforms.policies import ResultPolicy, graph_mode
from fx_nnx.transforms.prefixes import DiffState
from fx_nnx.transforms.targets import Target
from fx_nnx.transforms.values import derivative_leaves, values_by_path

__all__ = ["CustomVjp", "custom_vjp"]


class CustomVjp:
    """A function with a backward rule of its own, as `custom_vjp` makes it."""

    def __init__(self, fun: Callable[..., Any], nondiff_argnums: Any, graph: bool | None, graph_updates: bool | None):
        if not callable(fun):
            raise ArgumentTypeError("custom_vjp got something else than a function.", expected="a function", got=fun)
        if Target(fun).bound:
            raise ArgumentTypeError(
                "custom_vjp got a function that is bound to a module, whose cotangents its rule could not give; bound "
                "methods are not supported.",
                expected="a function that gets all modules as arguments",
                got=fun,
                fix="give it unbound: nnx.custom_vjp(Model.method), called as f(model, x)",
            )
        functools.update_wrapper(self, fun, [n for n in functools.WRAPPER_ASSIGNMENTS if hasattr(fun, n)])
        self.fun = fun
        self.mode = graph_mode(graph, graph_updates)
        nums = nondiff_argnums if isinstance(nondiff_argnums, Sequence) else (nondiff_argnums,)
        self.parts = [n for n in nums if isinstance(n, DiffState)]
        if self.parts and not self.mode.updates:
            what = "`nondiff_argnums` cannot contain `DiffState` objects without updates of the graph: nondiff_argnums"
            raise PrefixError.misplaced(what, self.parts, "positions, since a tree is differentiated whole")
        self.statics = StaticArguments(fun, "custom_vjp", [n for n in nums if not isinstance(n, DiffState)])
        self.forward: Callable[..., Any] | None = None
        self.backward: Callable[..., Any] | None = None

    def defvjp(self, fwd: Callable[..., Any], bwd: Callable[..., Any], symbolic_zeros: bool = False) -> None:
        """Returns the function its rule.

        Args:
          fwd: ``(*args) -> (out, residuals)``; may change the arguments as the function does.
          bwd: ``(*nondiff, residuals, g) -> cotangents``, one per differentiable argument: for modules a state, module
            or dictionary of cotangents, in which what is missing is zero; None is zero. ``g`` is ``(changes, out)``:
            cotangents of what the arguments were changed to, a state per module and None for arrays, and those of the
            result, with a state in the place of a module and a variable in that of a variable. If no argument holds
            modules or variables, nothing can change, and ``g`` is the cotangent of the result, as in `jax.custom_vjp`.
            Without updates of the graph it is always that, with modules in the place of modules, and the changes are
            given as ``updates_g`` if the rule has an argument of this name.
          symbolic_zeros: not supported.

        Raises:
          ArgumentTypeError: for ``symbolic_zeros``.
        """
        if symbolic_zeros:
            raise ArgumentTypeError("custom_vjp has no symbolic zeros.", got="symbolic_zeros=True", fix="leave it away")
        self.forward, self.backward = fwd, bwd

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        return self if instance is None else functools.partial(self, instance)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Calls the function, or under differentiation its forward rule."""
        if self.forward is None or self.backward is None:
            name = getattr(self.fun, "__name__", "the function")
            raise ArgumentTypeError(f"{name} has no rule yet.", fix=f"call {name}.defvjp(forward, backward)")
        args = bound(self.fun, args, kwargs)
        apart = [n for n in self.statics.nums if n < len(args) and _holds_arrays(args[n])]
        self._check_aliases(args, apart)
        statics, rest, _ = self.statics.take(args, {}, but=apart)
        handle = Handle((rest, {}), statics)
        carrier = _NotingCarrier(self.mode, results=ResultPolicy(passing=self.mode.updates), transform="custom_vjp")
        call = _RuleCall(self, handle, carrier, self.forward, self.backward, apart)
        return fx_transforms.custom_vjp(
            call.primal_rule, call.forward_rule, call.backward_rule, carrier, wrt=(0,), with_state=True
        )(handle)

    def _check_aliases(self, args: Sequence[Any], apart: Sequence[int]) -> None:
        """Make sure that no variable both takes part and does not; the rule would lose a part of its derivative."""
        found: list[tuple[int, str, Any]] = []
        names, leaves, _ = root_paths((args,) if apart or self.parts else ())
        for leaf, path, variable in variables_in(names, leaves):
            number = names[leaf][1].idx
            filters = [part for part in self.parts if part.argnum == number]
            active = number not in apart and all(part.map_prefix(path[1:], variable) for part in filters)
            found.append((id(variable), show_path(path), "a derivative" if active else "no derivative"))
        check_aliases("custom_vjp", found)


def _holds_arrays(value: Any) -> bool:
    """Whether an argument goes through the transform, although the rule gives no cotangent for it."""
    leaves = jax.tree.leaves(value, is_leaf=is_node)
    return any(is_node(leaf) or is_array(leaf) for leaf in leaves)


class _NotingCarrier(ObjectCarrier):
    """Notes what it collected last, which is what the backward rule belongs to."""

    latest: Outcome

    def collect(self, inner: Inner, out: Any) -> Outcome:
        """See `fx_transforms.Carrier.collect`."""
        self.latest = super().collect(inner, out)
        return self.latest


class _RuleCall:
    """One call: what its forward pass found out for the backward pass."""

    layout: Layout
    result: ResultCotangents
    changes: ArgumentCotangents

    def __init__(
        self,
        rule: CustomVjp,
        handle: Handle,
        carrier: _NotingCarrier,
        forward: Callable[..., Any],
        backward: Callable[..., Any],
        apart: Sequence[int],
    ):
        self.rule, self.handle, self.carrier = rule, handle, carrier
        self.forward, self.backward, self.apart = forward, backward, frozenset(apart)

    def _args(self, inner: Inner) -> Sequence[Any]:
        return StaticArguments.put(inner.layout.statics, inner.tree[0], {})[0]

    def _is_active(self, number: int) -> bool:
        return number not in self.apart and all(number != n for n, _ in self.layout.statics[0])

    def primal_rule(self, inner: Inner) -> Any:
        return self.rule.fun(*self._args(inner))

    def forward_rule(self, inner: Inner) -> Any:
        self.layout = inner.layout
        args = self._args(inner)
        returned = self.forward(*args)
        if not isinstance(returned, tuple) or len(returned) != 2:
            raise ArgumentTypeError(
                "The forward rule of custom_vjp returned the wrong thing.",
                expected="a tuple (out, residuals)",
                got=type(returned).__name__,
                fix="return the result and what the backward rule needs",
            )
        out, residuals = returned
        self.result = ResultCotangents(out, inner, updates=self.rule.mode.updates)
        self.changes = ArgumentCotangents(self.handle, inner, updates=self.rule.mode.updates)
        return out, _pack(({n: args[n] for n in sorted(self.apart)}, residuals))

    def backward_rule(self, residuals: Any, cotangents: Any) -> Any:
        (written,), out = cotangents
        collected = self.carrier.latest
        out = self.result.of(out, written.values, collected)
        changes = self.changes.of(written.values, collected.shape.value.returned, self._is_active)
        apart, residuals = _unpack(residuals)
        nondiff = {**dict(self.layout.statics[0]), **apart}
        options = {}
        if not self.rule.mode.updates:
            options = {"updates_g": changes} if _has_argument(self.backward, "updates_g") else {}
        elif any(self.layout.nodes):
            out = changes, out
        found = self.backward(*(nondiff[n] for n in sorted(nondiff)), residuals, out, **options)
        return ((self._group(found),),)

    def _group(self, found: Any) -> Group:
        """The cotangents of all values, out of what the backward rule gave; None is zero."""
        args = self.handle.tree[0]
        numbers = [n for n in range(len(args)) if self._is_active(n)]
        if len(numbers) == 1 and not isinstance(found, tuple):
            found = (found,)
        if not isinstance(found, tuple) or len(found) != len(numbers):
            raise ArgumentTypeError(
                "The backward rule of custom_vjp returned the wrong thing.",
                expected=f"a tuple of {len(numbers)} cotangents, one per differentiable argument",
                got=found,
                fix="give None for arguments whose cotangent is zero",
            )
        given = dict(zip(numbers, found))
        try:
            parts = derivative_leaves(tuple([given.get(n) for n in range(len(args))]), tuple(args), is_node)
        except (ValueError, TypeError) as error:
            raise wrong_tangent(str(error)) from error
        by_path = [values_by_path(part) for part in parts]
        roots = {id(root): by_path[leaf] for leaf, root in zip(self._object_leaves(), self.layout.roots)}
        paths = self.layout.paths[: len(self.handle.targets)]
        values = [roots[id(path[0])].get(path[1:]) for path in paths]
        for part in self.rule.parts:
            self._check_part(part, values)
        known = {(id(path[0]), path[1:]) for path in paths}
        for leaf, root in zip(self._object_leaves(), self.layout.roots):
            extra = [path for path in by_path[leaf] if (id(root), path) not in known]
            if extra:
                what = "/".join(map(str, extra[0])) or f"a {type(by_path[leaf][extra[0]]).__name__}"
                raise wrong_tangent(f"{root} got {what} as a cotangent, for which it has no variable")
        arrays = [found.get(()) for found, node in zip(by_path, self.layout.nodes) if not node]
        return Group(Static(None, self.layout.paths), [*values, *arrays])

    def _check_part(self, part: DiffState, values: Sequence[Any]) -> None:
        """Make sure that there are cotangents only for the variables that take part."""
        for path, target, value in zip(self.layout.paths, self.handle.targets, values):
            number = path[0][1].idx
            if value is not None and number == part.argnum and not part.map_prefix(path[1:], target):
                raise wrong_tangent(
                    f"there is a cotangent for {'/'.join(map(str, path[1:]))}, which {part!r} leaves out"
                )

    def _object_leaves(self) -> list[int]:
        return [number for number, node in enumerate(self.layout.nodes) if node]


def _has_argument(f: Callable[..., Any], name: str) -> bool:
    try:
        parameters = inspect.signature(f).parameters
    except (TypeError, ValueError):
        return False
    return name in parameters or any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values())


def _pack(tree: Any) -> Any:
    """Give a tree of arrays that stands for a tree with objects."""
    leaves, treedef = jax.tree.flatten(tree, is_leaf=is_node)
    walk = Walk().through(leaves)
    emptied = jax.tree.unflatten(treedef, [GAP if is_node(leaf) else leaf for leaf in leaves])
    return Static(walk.graphdef()), [read_value(target) for target in walk.leaves], emptied


def _unpack(packed: Any) -> Any:
    """Undo `_pack`, with new objects."""
    graphdef, values, emptied = packed
    roots = iter(assembly_of(graphdef.value).models(values))
    return jax.tree.map(lambda x: next(roots) if is_gap(x) else x, emptied, is_leaf=is_gap)


def custom_vjp(
    fun: Any = Missing,
    *,
    nondiff_argnums: int | Sequence[int] = (),
    graph: bool | None = None,
    graph_updates: bool | None = None,
) -> Any:
    """Defines the backward rule of a function of modules and arrays, see `CustomVjp.defvjp`.

    >>> import jax, jax.numpy as jnp
    >>> import fx_nnx as nnx
    >>> @custom_vjp
    ... def f(model, x):
    ...     return model.scale * x
    >>> def forward(model, x):
    ...     return f(model, x), (model, x)
    >>> def backward(residuals, g):
    ...     (model, x), (_, out) = residuals, g
    ...     return {"scale": 10 * out}, None
    >>> f.defvjp(forward, backward)
    >>> float(nnx.grad(lambda model: f(model, 2.0))(nnx.Dict(scale=nnx.Param(jnp.array(3.0)))).scale[...])
    10.0

    Args:
      fun: the function, which may change its arguments; without it, a decorator is returned.
      nondiff_argnums: positions of arguments that the rule gives no cotangents for: hashable ones, for which the
        function is traced, or modules and arrays, which the backward rule gets first of all. A `DiffState` says which
        variables of an argument take part; the others have none.
      graph: False treats modules as trees, in which no object is shared.
      graph_updates: False lets only values of variables come out.

    Raises:
      TransformError: a variable is reachable from an argument that the rule is for and from one that it is not.
      PrefixError: `DiffState` without updates of the graph.
      ArgumentTypeError: the function has no rule when it is called, or its rule gives the wrong thing.
    """
    if fun is Missing:
        return lambda fun: CustomVjp(fun, nondiff_argnums, graph, graph_updates)
    return CustomVjp(fun, nondiff_argnums, graph, graph_updates)
