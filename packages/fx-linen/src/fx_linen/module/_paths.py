"""Which modules a network is made of."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import jax
import numpy as np
from fx_core.traceback_util import api_boundary

from fx_linen.module._base import ModuleBase
from fx_linen.module._intercept import InterceptorContext, intercept_methods
from fx_linen.module._running import WITHOUT_INTERMEDIATES, CollectionFilter, Rngs, Running

__all__ = ["Listing", "abstract_call"]


class Listing(Running):
    """Finding the modules below one."""

    @api_boundary
    def module_paths(
        self,
        rngs: Rngs,
        *args: Any,
        show_repeated: bool = False,
        mutable: CollectionFilter = WITHOUT_INTERMEDIATES,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """Lists the modules whose methods ``init`` calls, by path.

        Nothing is computed: the call is traced with abstract values.

        Args:
          rngs: keys for ``init``.
          *args: arguments of ``__call__``.
          show_repeated: no effect, since a dict has each path once.
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

    @api_boundary
    def tabulate(
        self,
        rngs: Rngs,
        *args: Any,
        depth: int | None = None,
        show_repeated: bool = False,
        mutable: CollectionFilter = WITHOUT_INTERMEDIATES,
        console_kwargs: Mapping[str, Any] | None = None,
        table_kwargs: Mapping[str, Any] = MappingProxyType({}),
        column_kwargs: Mapping[str, Any] = MappingProxyType({}),
        compute_flops: bool = False,
        compute_vjp_flops: bool = False,
        **kwargs: Any,
    ) -> str:
        """Shows the network as a table: modules, shapes, variables and their sizes.

        Nothing is computed: ``init`` is traced with abstract values. Drawing needs the extra ``fx-linen[summary]``.

        Args:
          rngs: keys for ``init``.
          *args: arguments of ``__call__``.
          depth: how deep submodules have rows of their own; deeper ones are counted with the row above.
          show_repeated: show calls of a module after its first, too.
          mutable: the collections to show.
          console_kwargs: options of ``rich.console.Console``.
          table_kwargs: options of ``rich.table.Table``.
          column_kwargs: options of its columns.
          compute_flops: a column with the floating point operations of each call.
          compute_vjp_flops: a column with those of each call and its gradient.
          **kwargs: more arguments of ``__call__``, or ``method``.

        Returns:
          The table as text.

        Raises:
          MissingPackageError: rich is not installed.
        """
        # The table is an optional part with dependencies of its own; modules work without it.
        from fx_linen import summary

        show = summary.tabulate(
            self,
            rngs,
            depth=depth,
            show_repeated=show_repeated,
            mutable=mutable,
            console_kwargs=console_kwargs,
            table_kwargs=table_kwargs,
            column_kwargs=column_kwargs,
            compute_flops=compute_flops,
            compute_vjp_flops=compute_vjp_flops,
            **kwargs,
        )
        return show(*args)


def abstract_call(fun: Any, *args: Any, **kwargs: Any) -> Any:
    """Traces a call: arrays become abstract, everything else is passed as it is.

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
