"""Modules: objects that make up networks."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from fx_core.errors import ArgumentTypeError
from fx_core.summary import show_size, size_and_bytes

from fx_nnx.errors import missing_attribute, not_a_node
from fx_nnx.filters import Filter, to_predicate
from fx_nnx.graph.children import children_of
from fx_nnx.graph.iterate import iter_graph
from fx_nnx.graph.kinds import is_node, kind_of
from fx_nnx.modes import set_graph_mode
from fx_nnx.objects.pytree import Pytree, attributes_of
from fx_nnx.paths import Path
from fx_nnx.variables.kinds import Perturbation
from fx_nnx.variables.names import variable_type_from_name
from fx_nnx.variables.variable import Variable

__all__ = ["CAPTURES", "Module", "iter_children", "iter_module_children", "iter_modules"]

A = TypeVar("A")

CAPTURES = "__captures__"
"""The attribute in which `fx_nnx.capture` collects what is sown: a variable per type, each with a dict by name."""


class Module(Pytree):
    """Base class of networks and their parts.

    Layers are made in ``__init__`` and called in methods; variables are attributes that may change in any method.

    >>> import jax.numpy as jnp
    >>> import fx_nnx as nnx
    >>> class Affine(Module):
    ...     def __init__(self, size):
    ...         self.scale, self.shift = nnx.Param(jnp.ones(size)), nnx.Param(jnp.zeros(size))
    ...     def __call__(self, x):
    ...         return x * self.scale + self.shift
    >>> Affine(2)(jnp.array([1.0, 2.0]))
    Array([1., 2.], dtype=float32)
    """

    __slots__ = ()

    def sow(
        self,
        variable_type: type[Variable[Any]] | str,
        name: str,
        value: Any,
        reduce_fn: Callable[[Any, Any], Any] = lambda kept, value: (*kept, value),
        init_fn: Callable[[], Any] = lambda: (),
        capture_noop: bool | None = None,
    ) -> bool:
        """Keeps a value for inspection, in a variable of the module.

        Args:
          variable_type: type of the variable, or the name of a collection.
          name: attribute that holds it.
          value: what to keep.
          reduce_fn: joins what is kept already and the new value; by default values make up a tuple.
          init_fn: gives what is kept before the first value.
          capture_noop: whether to do nothing.

        Returns:
          Whether it was kept.

        Raises:
          ArgumentTypeError: the attribute is something else.
        """
        if capture_noop:
            return False
        if isinstance(variable_type, str):
            variable_type = variable_type_from_name(variable_type, allow_register=True)
        captured = attributes_of(self).get(CAPTURES)
        if captured is not None:
            return _collect(captured, variable_type, name, lambda kept: reduce_fn(kept, value), init_fn) is not None
        kept = _sown(self, name, variable_type)
        if kept is None:
            setattr(self, name, variable_type(reduce_fn(init_fn(), value)))
        else:
            kept.set_raw_value(reduce_fn(kept.get_raw_value(), value))
        return True

    def perturb(
        self, name: str, value: Any, variable_type: Any = Perturbation, capture_noop: bool | None = None
    ) -> Any:
        """Adds a variable of zeros to a value, so that the variable's gradient is that of the value.

        Args:
          name: attribute that holds the variable; made at the first call.
          value: any array.
          variable_type: type of the variable, or the name of a collection.
          capture_noop: whether to do nothing.

        Returns:
          The sum.

        Raises:
          ArgumentTypeError: the attribute is something else.
        """
        if capture_noop:
            return value
        if isinstance(variable_type, str):
            variable_type = variable_type_from_name(variable_type, allow_register=True)
        captured, zeros = attributes_of(self).get(CAPTURES), lambda: jax.tree.map(jnp.zeros_like, value)
        if captured is not None:
            found = _collect(captured, variable_type, name, lambda kept: kept, zeros)
            return value if found is None else jax.tree.map(jnp.add, value, found[name])
        kept = _sown(self, name, variable_type)
        if kept is None:
            kept = variable_type(zeros())
            setattr(self, name, kept)
        return jax.tree.map(jnp.add, value, kept.get_value())

    def iter_modules(self) -> Iterator[tuple[Path, "Module"]]:
        """Returns path and module of every module in this one, itself last."""
        return iter_modules(self)

    def iter_children(self) -> Iterator[tuple[Any, Any]]:
        """Returns name and value of the modules, other objects and variables among the attributes."""
        return iter_children(self)

    def set_attributes(
        self, *filters: Filter, raise_if_not_found: bool = True, graph: bool | None = None, **attributes: Any
    ) -> None:
        """Sets attributes of all modules in this one that have them.

        Args:
          *filters: which modules; all if none is given.
          raise_if_not_found: whether each attribute has to exist somewhere.
          graph: as in `fx_nnx.iter_graph`.
          **attributes: the new values.

        Raises:
          NnxError: no module has one of the attributes.

        >>> import fx_nnx as nnx
        >>> layer = nnx.Dropout(0.5)
        >>> layer.set_attributes(deterministic=True)
        >>> layer.deterministic
        True
        """
        predicates = [to_predicate(filter) for filter in filters or (True,)]
        missing = set(attributes)
        for path, module in iter_modules(self, graph=graph):
            if not any(matches(path, module) for matches in predicates):
                continue
            own = attributes_of(module)
            for name, value in attributes.items():
                if name in own:
                    setattr(module, name, value)
                    missing.discard(name)
        if missing and raise_if_not_found:
            raise missing_attribute(missing)

    def _note(self) -> str:
        kinds: dict[str, list[Any]] = {}
        for _, node in iter_graph(self):
            if isinstance(node, Variable):
                kinds.setdefault(type(node).__name__, []).append(node.get_raw_value())
        return ", ".join(f"{name}: {show_size(*size_and_bytes(kinds[name]))}" for name in sorted(kinds))

    def train(self, **attributes: Any) -> None:
        """Sets all layers to training: dropout drops, normalization uses the statistics of the batch."""
        self._set_mode(False, attributes)

    def eval(self, **attributes: Any) -> None:
        """Sets all layers to evaluation: nothing is random, normalization uses running statistics."""
        self._set_mode(True, attributes)

    def _set_mode(self, value: bool, attributes: dict[str, Any]) -> None:
        chosen = {"deterministic": value, "use_running_average": value, **attributes}
        self.set_attributes(raise_if_not_found=False, **chosen)


def iter_modules(module: Any, /, *, graph: bool | None = None) -> Iterator[tuple[Path, Module]]:
    """Returns path and module of every module in a model, each once, inner ones before outer ones.

    >>> import fx_nnx as nnx
    >>> model = nnx.Sequential(nnx.Linear(2, 2, rngs=nnx.Rngs(0)), nnx.relu)
    >>> [(path, type(module).__name__) for path, module in nnx.iter_modules(model)][-1]
    ((), 'Sequential')
    """
    return ((path, value) for path, value in iter_graph(module, graph=graph) if isinstance(value, Module))


def iter_children(node: Any, /, *, graph: bool | None = None) -> Iterator[tuple[Any, Any]]:
    """Returns name and value of the modules, other objects and variables that a node holds itself, sorted by name.

    Args:
      node: a module, another `Pytree`, or a pytree of them.
      graph: as in `fx_nnx.iter_graph`.

    Raises:
      NnxError: the value is no node; or, with ``graph=False``, an object is no pytree.

    >>> import fx_nnx as nnx
    >>> class Block(nnx.Module):
    ...     def __init__(self, rngs):
    ...         self.norm, self.dense = nnx.LayerNorm(2, rngs=rngs), nnx.Linear(2, 2, rngs=rngs)
    ...         self.temperature = nnx.Param(1.0)
    >>> [name for name, child in nnx.iter_children(Block(nnx.Rngs(0)))]
    ['dense', 'norm', 'temperature']
    """
    if kind_of(node) in ("variable", "leaf"):
        raise not_a_node(node)
    if isinstance(node, Pytree) and not (set_graph_mode.resolve(graph) or type(node)._nnx_pytree):
        raise not_a_node(node, ())
    return ((key, child) for key, child in children_of(node) if is_node(child))


def iter_module_children(node: Any, /, *, graph: bool | None = None) -> Iterator[tuple[Any, Module]]:
    """Returns name and module of the modules among what a node holds itself; else as `iter_children`.

    >>> import fx_nnx as nnx
    >>> list(nnx.iter_module_children(nnx.Linear(2, 2, rngs=nnx.Rngs(0))))
    []
    """
    return ((key, child) for key, child in iter_children(node, graph=graph) if isinstance(child, Module))


def _sown(module: Module, name: str, variable_type: type[Any]) -> Any:
    """Returns the variable that holds what was sown under a name, or None."""
    kept = attributes_of(module).get(name)
    taken = kept
    if kept is None:
        taken = next((vars(cls)[name] for cls in type(module).__mro__ if name in vars(cls)), None)
    if taken is not None and not isinstance(taken, variable_type):
        raise _sow_target(type(module).__name__, name, variable_type.__name__, type(taken).__name__)
    return kept


def _collect(
    captured: Sequence[Variable[Any]],
    variable_type: type[Any],
    name: str,
    change: Callable[[Any], Any],
    first: Callable[[], Any],
) -> dict[str, Any] | None:
    """Changes what is captured under a name, and returns all of its type; None if nothing of the type is.

    What is sown belongs to the closest of the types that are captured. Perturbations are asked for by name.
    """
    bases = variable_type.__mro__
    if issubclass(variable_type, Perturbation):
        bases = bases[: bases.index(Perturbation) + 1]
    chosen = next((variable for base in bases for variable in captured if type(variable) is base), None)
    if chosen is None:
        return None
    values = chosen.get_raw_value()
    values = {**values, name: change(values[name] if name in values else first())}
    chosen.set_raw_value(values)
    return values


def _sow_target(owner: str, name: str, expected: str, got: str) -> ArgumentTypeError:
    return ArgumentTypeError(
        f"{owner}.{name}: expected {expected}, got {got}.",
        path=f"{owner}.{name}",
        expected=f"a variable of type {expected}, or nothing",
        got=got,
        fix="sow under another name",
    )
