"""Which modules a network is made of."""

from typing import Any

import jax
import numpy as np

from fx_linen.module._base import ModuleBase
from fx_linen.module._intercept import InterceptorContext, intercept_methods
from fx_linen.module._running import WITHOUT_INTERMEDIATES, CollectionFilter, Rngs, Running

__all__ = ["Listing", "abstract_call"]


class Listing(Running):
    """Finding the modules below one."""

    def module_paths(
        self,
        rngs: Rngs,
        *args: Any,
        show_repeated: bool = False,
        mutable: CollectionFilter = WITHOUT_INTERMEDIATES,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """List the modules whose methods ``init`` calls, by path.

        Nothing is computed: the call is traced with abstract values.

        Args:
          rngs: keys for ``init``.
          *args: arguments of ``__call__``.
          show_repeated: no difference here, since a dict has each path once; accepted for compatibility.
          mutable: the collections to make.
          **kwargs: more arguments of ``__call__``.

        Returns:
          Paths joined with slashes, ``""`` for this module, and an unbound copy of each module.
        """
        del show_repeated
        found: dict[str, ModuleBase] = {}

        def note(next_fun: Any, args: Any, kwargs: Any, context: InterceptorContext) -> Any:
            module = context.module
            if module.scope is not None and context.method_name != "setup":
                found.setdefault("/".join(module.path), module.clone(_deep_clone=True, name=None))
            return next_fun(*args, **kwargs)

        def init(*args: Any, **kwargs: Any) -> Any:
            return self.init(*args, mutable=mutable, **kwargs)

        with intercept_methods(note):
            abstract_call(init, rngs, *args, **kwargs)
        return found


def abstract_call(fun: Any, *args: Any, **kwargs: Any) -> Any:
    """Trace a call: arrays become abstract, everything else is passed as it is.

    Returns:
      The shapes of the result.
    """
    leaves, tree = jax.tree.flatten((args, kwargs))
    is_array = [isinstance(leaf, (jax.Array, np.ndarray, jax.ShapeDtypeStruct)) for leaf in leaves]

    def call(arrays: list[Any]) -> Any:
        rest = iter(arrays)
        values = [next(rest) if dynamic else leaf for leaf, dynamic in zip(leaves, is_array, strict=True)]
        args, kwargs = jax.tree.unflatten(tree, values)
        return fun(*args, **kwargs)

    return jax.eval_shape(call, [leaf for leaf, dynamic in zip(leaves, is_array, strict=True) if dynamic])
