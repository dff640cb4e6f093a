"""jit and fold_rngs of modules."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from fx_core.scope import CollectionFilter
from fx_transforms import lift
from fx_transforms.carrier import Static

from fx_linen.module import Naming, naming_of, resume_naming
from fx_linen.module._base import ModuleBase
from fx_linen.transforms._call import Call, ModuleFn
from fx_linen.transforms._fingerprint import Fingerprint
from fx_linen.transforms._forms import Caller, Target, anew, named, transform_target
from fx_linen.transforms._static import hinting, numbers_of

__all__ = ["fold_rngs", "jit"]


class Traced:
    """Takes a call into the trace, if there is one. JAX's cache keeps this, but not the call."""

    __slots__ = ("bound", "call")

    def __init__(self, call: Call, bound: list[ModuleBase]):
        self.call, self.bound = call, bound

    def run(self, fn: ModuleFn, scopes: Any, args: Any, kwargs: Any) -> tuple[Any, tuple[Naming, ...]]:
        """Does the call inside.

        Returns:
          The result, and how far naming came in each of the bound modules.
        """
        copies: dict[int, tuple[Any, Any]] = {}
        out = self.call.run(fn, scopes, args, kwargs, copies)
        return out, tuple(naming_of(copies[id(module)][1]) for module in self.bound)

    def release(self) -> None:
        """Discards the call."""
        del self.call, self.bound


def _make_jit(**options: Any) -> Callable[[ModuleFn], Caller]:
    def prepare(fn: ModuleFn) -> Caller:
        def on_scopes(handle: tuple[Static, Any], *args: Any, **kwargs: Any) -> Any:
            described, scopes = handle
            out, naming = described.note.run(fn, scopes, args, kwargs)
            return out, Static(naming)

        numbers, given = numbers_of(options["static_argnums"]), options["static_argnames"]
        names = {given} if isinstance(given, str) else set(given)
        # One compiled function for all instances and calls; what differs between them is in the description.
        compiled = lift.jit(on_scopes, **options)

        def caller(call: Call) -> Any:
            description = Fingerprint(call.modules, call.scopes)
            traced = Traced(call, description.bound)
            try:
                handle = Static((call.target, description.value), traced), call.scopes
                with hinting("nn.jit", call, numbers, names):
                    out, naming = compiled(handle, *call.args, **call.kwargs)
            finally:
                traced.release()
            for module, found in zip(description.bound, naming.value, strict=True):
                resume_naming(module, found)
            return out

        return caller

    return prepare


def jit(
    target: Target,
    variables: CollectionFilter = True,
    rngs: CollectionFilter = True,
    static_argnums: int | Sequence[int] = (),
    static_argnames: str | Iterable[str] = (),
    donate_argnums: int | Sequence[int] = (),
    device: Any = None,
    backend: str | None = None,
    methods: Any = None,
) -> Target:
    """Compiles a module or a function of one; see `jax.jit`.

    Most programs compile the whole step instead. This is for parts that run outside of one, and for large parts that
    occur often: a module is traced once for all instances with equal fields, wherever they are in the network.

    >>> import jax, jax.numpy as jnp
    >>> import fx_linen as nn
    >>> model = nn.jit(nn.Dense)(2)
    >>> jax.tree.map(jnp.shape, model.init(jax.random.key(0), jnp.ones(3)))
    {'params': {'bias': (2,), 'kernel': (3, 2)}}

    Args:
      target: a subclass of Module, or a function whose first argument is a module.
      variables: collections that take part.
      rngs: streams that take part.
      static_argnums: positions of arguments to compile for; the module is position 0.
      static_argnames: names of arguments to compile for.
      donate_argnums: positions of arguments whose buffers may be reused.
      device: see `jax.jit`.
      backend: see `jax.jit`.
      methods: of a class: names of the methods to transform, or options by name; ``__call__`` by default.

    Returns:
      A class or function like the target.

    Raises:
      TransformTargetError: the target is something else.
      TransformedMethodReturnValueError: when called: the result holds modules or variables.
    """
    options = {
        "variables": variables,
        "rngs": rngs,
        "static_argnums": static_argnums,
        "static_argnames": static_argnames,
        "donate_argnums": donate_argnums,
        "device": device,
        "backend": backend,
    }
    return transform_target("Jit", _make_jit, target, options, methods)


_make_fold_rngs = named("Fold_rngs", anew(lift.fold_rngs, by_name=True))
named("Jit", _make_jit)


def fold_rngs(target: Target, variables: CollectionFilter = True, rngs: CollectionFilter = True) -> Target:
    """Folds path and counters into the keys before a module, or a function of one, runs.

    What it draws then depends on its place in the network by arrays only, as inside `jit`.

    Args:
      target: a subclass of Module, or a function whose first argument is a module.
      variables: collections that take part.
      rngs: streams that take part.

    Returns:
      A class or function like the target.

    Raises:
      TransformTargetError: the target is something else.

    >>> import jax, jax.numpy as jnp
    >>> import fx_linen as nn
    >>> class Network(nn.Module):
    ...     @nn.compact
    ...     def __call__(self, x):
    ...         return nn.fold_rngs(nn.Dense)(2, name="dense")(x)
    >>> variables = Network().init(jax.random.key(0), jnp.ones(3))
    >>> variables["params"]["dense"]["kernel"].shape
    (3, 2)
    """
    return transform_target("Fold_rngs", _make_fold_rngs, target, {"variables": variables, "rngs": rngs}, None)
