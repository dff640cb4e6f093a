"""Mistakes with modules that have no variables."""

from fx_core.errors._base import FxError


class CallCompactUnboundModuleError(FxError):
    """A compact method was called on a module that has no variables.

    Wrong::

        nn.Dense(3)(x)

    Right::

        dense = nn.Dense(3)
        y, variables = dense.init_with_output(key, x)
        y = dense.apply(variables, x)

    Args:
      cls: name of the module's class.
      method: name of the method.
    """

    def __init__(self, cls: str | None = None, method: str | None = None):
        super().__init__(
            "A module without variables cannot be called.",
            path=None if cls is None else f"{cls} (unbound)",
            expected="a module inside of init or apply, or one from bind",
            got="a module by itself" if method is None else f"a call of {method!r} on a module by itself",
            fix="Use variables = module.init(key, ...) and module.apply(variables, ...).",
        )


class CallSetupUnboundModuleError(FxError):
    """``setup`` was called by hand on a module without variables.

    Wrong::

        net = Net()
        net.setup()

    Right (setup is called when it is needed)::

        variables = Net().init(key, x)

    Args:
      cls: name of the module's class.
    """

    def __init__(self, cls: str | None = None):
        super().__init__(
            "setup() was called on a module without variables.",
            path=None if cls is None else f"{cls} (unbound)",
            expected="a module inside of init or apply, or one from bind",
            got="a module by itself",
            fix="Do not call setup: init, apply and bind do. To inspect submodules use module.bind(variables).",
        )


class CallUnbindOnUnboundModuleError(FxError):
    """``unbind`` was called on a module that is not bound.

    Wrong::

        net = Net()
        net.unbind()

    Right::

        bound = net.bind(variables)
        submodule, variables = bound.encoder.unbind()
    """

    def __init__(self):
        super().__init__(
            "Only a bound module can be unbound.",
            expected="a module from bind, or a submodule of one",
            got="a module by itself",
            fix="Bind it first: module.bind(variables).",
        )


class CallShareScopeOnUnboundModuleError(FxError):
    """``share_scope`` was called with a module that is not bound.

    Wrong::

        nn.share_scope(Outer(), Inner())

    Right::

        class Outer(nn.Module):
            def setup(self):
                self.inner = Inner()
                nn.share_scope(self, self.inner)
    """

    def __init__(self):
        super().__init__(
            "share_scope needs bound modules.",
            expected="the module and a submodule of it, in setup()",
            got="a module without a scope",
            fix="Call share_scope(self, self.submodule) in setup().",
        )
