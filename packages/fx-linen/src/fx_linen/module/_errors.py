"""Mistakes with modules that have no class of their own in the reference API."""

from fx_core.errors import FxError


class UnboundModuleError(FxError, ValueError):
    """Variables, keys or the path of a module were asked for while it is bound to none.

    Wrong::

        nn.Dense(3).variables

    Right::

        nn.Dense(3).bind(variables).variables

    Args:
      action: what cannot be done, as in ``"read its path"``.
      cls_name: class of the module.
    """

    def __init__(self, action: str, cls_name: str):
        super().__init__(
            f"An unbound {cls_name} cannot {action}.",
            path=f"{cls_name} (unbound)",
            expected="a module inside init or apply, or one made by bind",
            fix="Do this in a method that init or apply runs, or on module.bind(variables).",
        )
