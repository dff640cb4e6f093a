"""remat of modules."""

from collections.abc import Callable, Sequence
from typing import Any

from fx_core.scope import CollectionFilter
from fx_transforms import lift
from fx_transforms.lift.dropped import refuse_dropped

from fx_linen.transforms._call import Call, ModuleFn
from fx_linen.transforms._forms import Caller, Target, anew, named, transform_target
from fx_linen.transforms._static import hinting, numbers_of

__all__ = ["checkpoint", "remat"]

_remat = anew(lift.remat, by_name=True)


def make_remat(*, static_argnums: int | Sequence[int], first: int = 1, **options: Any) -> Callable[[ModuleFn], Caller]:
    """Returns the transform of a function of a module.

    Args:
      static_argnums: positions of Python arguments.
      first: the position of the first argument after the module.
      **options: of `fx_transforms.lift.remat`.
    """
    numbers = numbers_of(static_argnums)
    # A lifted function does not count its scope; the module is static anyway.
    inner = tuple(n - first if n >= 0 else n for n in numbers if n >= first or n < 0)
    prepare = _remat(static_argnums=inner, **options)

    def hinted(fn: ModuleFn) -> Caller:
        run = prepare(fn)

        def caller(call: Call) -> Any:
            with hinting("nn.remat", call, numbers, None, first):
                return run(call)

        return caller

    return hinted


named("Checkpoint", make_remat)


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
    """Recomputes a module, or a function of one, in the backward pass; see `jax.checkpoint`.

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

    Each layer is traced for itself, so it may read whatever it likes. ``nn.remat(nn.jit(Layer))`` traces and lowers
    equal layers once; what a layer does may then depend on its fields, variables and arguments only, see `jit`.

    Args:
      target: a subclass of Module, or a function whose first argument is a module.
      variables: collections that take part.
      rngs: streams that take part.
      concrete: False: JAX has dropped it; use ``static_argnums``.
      prevent_cse: `False` is right, and faster, inside scan.
      static_argnums: positions of Python arguments; the module is position 0.
      policy: what to keep all the same, one of `jax.checkpoint_policies`.
      methods: of a class: names of the methods to transform, or options by name; ``__call__`` by default.

    Returns:
      A class or function like the target.

    Raises:
      TransformTargetError: the target is something else.
      TransformedMethodReturnValueError: when called: the result holds modules or variables.
      UnsupportedOperationError: ``concrete`` is True.
    """
    refuse_dropped("remat", "concrete", concrete)
    options = {
        "variables": variables,
        "rngs": rngs,
        "prevent_cse": prevent_cse,
        "static_argnums": static_argnums,
        "policy": policy,
    }
    return transform_target("Checkpoint", make_remat, target, options, methods)


checkpoint = remat
