"""remat of modules."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import jax
from fx_core import config
from fx_core.scope import CollectionFilter
from fx_core.scope._watched import Watch
from fx_transforms import lift
from fx_transforms.scope_carrier import ScopeCarrier
from fx_transforms.shared_remat import SharedRemat
from fx_transforms.static import Static

from fx_linen.module import absorb_progress
from fx_linen.module._base import ModuleBase
from fx_linen.module._context import context
from fx_linen.transforms._call import Call, ModuleFn
from fx_linen.transforms._fingerprint import Fingerprint, Same
from fx_linen.transforms._forms import Caller, Target, anew, transform_target
from fx_linen.transforms._surroundings import Surroundings
from fx_linen.transforms.compilation import Traced

__all__ = ["checkpoint", "remat"]


def make_remat(
    *, variables: Any, rngs: Any, prevent_cse: Any, static_argnums: int | Sequence[int], policy: Any
) -> Callable[[ModuleFn], Caller]:
    numbers = (static_argnums,) if isinstance(static_argnums, int) else static_argnums
    # A lifted function does not count its scope; the module, at 0, is static anyway.
    statics = tuple(n - 1 if n > 0 else n for n in numbers if n != 0)
    options = {"prevent_cse": prevent_cse, "static_argnums": statics, "policy": policy}
    prepare_alone = anew(lift.remat, by_name=True)(variables=variables, rngs=rngs, **options)
    carrier = ScopeCarrier([variables], [variables], [rngs], "remat")
    shared, lifted = SharedRemat(carrier, statics, prevent_cse, policy), (repr(variables), repr(rngs))

    def prepare(fn: ModuleFn) -> Caller:
        alone = prepare_alone(fn)

        def caller(call: Call) -> Any:
            if not (isinstance(prevent_cse, bool) and _may_share(call)):
                return alone(call)
            description = Fingerprint(call.modules, call.scopes, call.target)
            traced = Traced(call, description.bound)

            def make(watch: Watch) -> Callable[..., Any]:
                def on_scopes(scopes: Any, *args: Any, **kwargs: Any) -> Any:
                    out, progress = traced.run(fn, scopes, args, kwargs, watch)
                    return out, Static(progress)

                return on_scopes

            around = _around(fn, call, description.bound)
            about = fn, call.target, lifted, description.value, around
            run = shared.find(make, about, call.scopes, call.args, dict(call.kwargs))
            if run is None:
                return alone(call)
            with _named(call.modules[0]):
                out, progress = run()
            for module, names in zip(description.bound, progress.value, strict=True):
                absorb_progress(module, names)
            return out

        return caller

    return prepare


def _may_share(call: Call) -> bool:
    """Whether nothing but what is described has a part in the call."""
    if context.interceptors or (context.captures and context.captures[-1] is not None) or not call.scopes:
        return False
    first, *others = (scope.root for scope in call.scopes)
    if first.memo is None or any(root is not first for root in others):
        return False
    return first.belongs_here() and not first.get_flag("initializing", False)


def _around(fn: ModuleFn, call: Call, modules: list[ModuleBase]) -> tuple[Same, ...]:
    """The values of Python variables that a function of modules sees."""
    memo = call.scopes[0].memo
    assert memo is not None
    kinds = tuple(type(module) for module in modules if call.target is None or module is not call.modules[0])
    key = Surroundings, fn, call.target, kinds
    known = memo.get(key)
    if known is None or not known.current():
        known = memo[key] = Surroundings(fn, *kinds, *(() if call.target is None else (call.target,)))
    return known.values()


def _named(module: Any) -> AbstractContextManager[Any]:
    """Name operations by the module, which inside of a shared trace has no name."""
    if context.named_call or (context.named_call is None and config.profile):
        return jax.named_scope(module.name or type(module).__name__)
    return nullcontext()


def remat(
    target: Target,
    variables: CollectionFilter = True,
    rngs: CollectionFilter = True,
    concrete: bool = False,
    prevent_cse: bool = True,
    static_argnums: int | Sequence[int] = (),
    policy: Callable[..., bool] | None = None,
    methods: Any = None,
) -> Target:
    """Recompute a module, or a function of one, in the backward pass; see `jax.checkpoint`.

    >>> import jax, jax.numpy as jnp
    >>> import fx_linen as nn
    >>> class Net(nn.Module):
    ...     @nn.compact
    ...     def __call__(self, x):
    ...         for _ in range(2):
    ...             x = nn.remat(nn.Dense)(3)(x)
    ...         return x
    >>> sorted(Net().init(jax.random.key(0), jnp.ones(3))["params"])
    ['CheckpointDense_0', 'CheckpointDense_1']

    Within one ``init`` or ``apply``, modules with equal fields, arguments and variables of equal shapes share a trace,
    wherever they are, as calls of one function do that went through `jax.checkpoint`: twelve equal layers are traced
    and lowered once. Keys are drawn, and variables written, for each place. A module that asks for its name, path or
    parent is traced for itself, and so is everything under `intercept_methods`, ``capture_intermediates`` and ``init``.
    As for any function that JAX traces, what a module does may depend on its fields, its variables and its arguments,
    on settings of JAX and fx, and on Python variables around it, but not on objects that change.

    Args:
      target: a subclass of Module, or a function whose first argument is a module.
      variables: collections that take part.
      rngs: streams that take part.
      concrete: of no effect, JAX has dropped it; use ``static_argnums``.
      prevent_cse: `False` is right, and faster, inside scan.
      static_argnums: positions of Python arguments; the module is position 0.
      policy: what to keep all the same, one of `jax.checkpoint_policies`.
      methods: of a class: names of the methods to transform, or options by name; ``__call__`` by default.

    Returns:
      A class or function like the target.

    Raises:
      TransformTargetError: the target is something else.
      TransformedMethodReturnValueError: when called: the result holds modules or variables.
    """
    del concrete
    options = {
        "variables": variables,
        "rngs": rngs,
        "prevent_cse": prevent_cse,
        "static_argnums": static_argnums,
        "policy": policy,
    }
    return transform_target("Checkpoint", make_remat, target, options, methods)


checkpoint = remat
