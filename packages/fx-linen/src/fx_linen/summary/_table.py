"""What a network does, call by call."""

import dataclasses
import functools
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from fx_core.summary import abstract, size_and_bytes

from fx_linen.module import InterceptorContext, ModuleBase, intercept_methods
from fx_linen.module._paths import abstract_call
from fx_linen.module._rebind import naming_of, resume_naming
from fx_linen.summary._flops import count_flops

__all__ = ["Row", "Table", "make_table"]

Variables = dict[str, dict[str, Any]]


@dataclasses.dataclass(frozen=True)
class Row:
    """One call of a module's method.

    Attributes:
      path: the module's path.
      module_copy: the module, unbound.
      method: the method's name.
      inputs: shapes and dtypes of the arguments.
      outputs: shapes and dtypes of the results.
      module_variables: the module's own variables by collection, as `jax.ShapeDtypeStruct`, in the boxes that name
        their axes.
      counted_variables: those that this row counts: also the ones of modules too deep for a row of their own, but
        nothing twice.
      flops: floating point operations of the call, 0 if they were not counted. The inputs identify a call: inside
        of a scan it is one step, inside of a vmap one example. The row of the module around has them all.
      vjp_flops: the same for the call and its gradient.
    """

    path: tuple[str, ...]
    module_copy: Any
    method: str
    inputs: Any
    outputs: Any
    module_variables: Variables
    counted_variables: Variables
    flops: int = 0
    vjp_flops: int = 0

    def size_and_bytes(self, collections: Iterable[str]) -> dict[str, tuple[int, int]]:
        """Returns number of elements and of bytes of the counted variables.

        Args:
          collections: which ones.
        """
        return {col: size_and_bytes(self.counted_variables.get(col, {})) for col in collections}


class Table(list[Row]):
    """The rows of a network, in the order of calls.

    Args:
      module: the network.
      collections: the collections that its variables are in.
      rows: the rows.
    """

    def __init__(self, module: ModuleBase, collections: Sequence[str], rows: Iterable[Row]):
        super().__init__(rows)
        self.module = module
        self.collections = tuple(collections)


@dataclasses.dataclass
class _Call:
    path: tuple[str, ...]
    module: Any
    method: str
    inputs: Any
    outputs: Any = None
    flops: int = 0
    vjp_flops: int = 0


def make_table(
    module: Any,
    rngs: Any,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    *,
    depth: int | None,
    show_repeated: bool,
    mutable: Any,
    compute_flops: bool = False,
    compute_vjp_flops: bool = False,
) -> Table:
    """Traces ``init`` of a module once, with abstract values, and note each call.

    Args:
      module: the network, unbound.
      rngs: keys for ``init``.
      args: arguments of ``__call__``, or ``method`` among ``kwargs``.
      kwargs: more arguments.
      depth: how deep modules have rows of their own; None for all.
      show_repeated: show calls of a module after its first, too.
      mutable: the collections to make.
      compute_flops: count the operations of each call, which compiles it.
      compute_vjp_flops: count those of each call with its gradient.
    """
    calls: list[_Call] = []
    is_method = functools.cache(_is_method)

    def note(next_fun: Callable[..., Any], args: Any, kwargs: Any, context: InterceptorContext) -> Any:
        bound = context.module
        fun = context.orig_method.func  # type: ignore[attr-defined]
        shown = bound.scope is not None and context.method_name != "setup"
        shown = shown and is_method(type(bound), fun)  # functions of a module that a transform runs are no calls
        if not shown or (depth is not None and len(bound.path) > depth):
            return next_fun(*args, **kwargs)
        call = _Call(bound.path, bound.clone(_deep_clone=True), context.method_name, abstract(_inputs(args, kwargs)))
        calls.append(call)
        before = naming_of(bound) if compute_flops or compute_vjp_flops else None
        outputs = next_fun(*args, **kwargs)
        call.outputs = abstract(outputs)
        if before is not None:
            after = naming_of(bound)
            resume_naming(bound, before)
            call.flops, call.vjp_flops = count_flops(bound, fun, args, kwargs, compute_flops, compute_vjp_flops)
            resume_naming(bound, after)
        return outputs

    def init(*args: Any, **kwargs: Any) -> Any:
        with intercept_methods(note):
            return module.init(*args, mutable=mutable, **kwargs)

    variables = abstract_call(init, rngs, *args, **kwargs)
    collections = sorted(variables, key=lambda col: (col != "params", col))
    return Table(module, collections, _rows(calls, variables, depth, show_repeated))


def _is_method(cls: type, fun: Callable[..., Any]) -> bool:
    """Whether a function is a method of a class or of one of its bases, transformed or not."""
    found = [vars(base).get(fun.__name__) for base in cls.__mro__]
    return any(callable(method) and inspect.unwrap(method) is inspect.unwrap(fun) for method in found)


def _rows(calls: list[_Call], variables: Any, depth: int | None, show_repeated: bool) -> Iterable[Row]:
    paths = {call.path for call in calls}
    seen: set[tuple[str, ...]] = set()
    for call in calls:
        if call.path in seen and not show_repeated:
            continue
        own, counted = {}, {}
        for col, tree in variables.items():
            subtree = _at(tree, call.path)
            own[col] = {name: value for name, value in subtree.items() if not isinstance(value, Mapping)}
            counted[col] = {} if call.path in seen else _uncounted(subtree, call.path, paths, depth)
        seen.add(call.path)
        yield Row(
            call.path, call.module, call.method, call.inputs, call.outputs, own, counted, call.flops, call.vjp_flops
        )


def _at(tree: Any, path: tuple[str, ...]) -> Mapping[str, Any]:
    for name in path:
        tree = tree.get(name, {}) if isinstance(tree, Mapping) else {}
    return tree if isinstance(tree, Mapping) else {}


def _uncounted(tree: Any, path: tuple[str, ...], paths: set[tuple[str, ...]], depth: int | None) -> dict[str, Any]:
    """The variables below a path without those that have rows of their own."""
    found = {}
    for name, value in tree.items():
        if not isinstance(value, Mapping):
            found[name] = value
        elif (*path, name) not in paths:
            inner = _uncounted(value, (*path, name), paths, depth)
            if inner:
                found[name] = inner
    return found


def _inputs(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """The arguments as they are shown: a single one by itself."""
    if kwargs:
        return (*args, dict(kwargs)) if args else dict(kwargs)
    return args[0] if len(args) == 1 else args
