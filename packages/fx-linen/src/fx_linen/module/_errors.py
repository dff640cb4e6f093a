"""Mistakes with modules that have no class of their own in the reference API."""

from typing import Any

from fx_core.errors import FxError

__all__ = [
    "BoundModulePickleError",
    "InitializationPlaceError",
    "MergeParamError",
    "MissingMethodError",
    "ModuleAttributeError",
    "ModuleParentError",
    "PerturbationNotFoundError",
    "UnboundModuleError",
    "UnhashableModuleError",
]


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


class InitializationPlaceError(FxError, ValueError):
    """A parameter or variable was made outside of ``setup`` and compact methods.

    Wrong::

        class Scale(nn.Module):
            def __call__(self, x):
                return x * self.param("scale", nn.initializers.ones, ())

    Right::

        class Scale(nn.Module):
            @nn.compact
            def __call__(self, x):
                return x * self.param("scale", nn.initializers.ones, ())

    Args:
      what: ``"Parameters"`` or ``"Variables"``.
      name: the variable's name.
      path: where.
    """

    def __init__(self, what: str, name: str, path: str):
        super().__init__(
            f"{what} must be initialized in `setup()` or in a method wrapped in `@compact`.",
            path=path,
            got=f"{name!r} made by another method",
            fix=f"Make {name!r} in setup(), or put @nn.compact on the method.",
        )


class ModuleParentError(FxError, ValueError):
    """A module was given a parent that cannot have submodules.

    Args:
      cls_name: class of the module.
      parent: what was given.
    """

    def __init__(self, cls_name: str, parent: str):
        super().__init__(
            f"{cls_name} cannot be attached to this parent: parent must be None, Module or Scope.",
            expected="None, a bound module or a scope",
            got=parent,
            fix="Leave parent out: a module made inside a method belongs to the module whose method it is.",
        )


class ModuleAttributeError(FxError, AttributeError):
    """A module has no attribute of that name, at least not now.

    What ``setup`` assigns exists only while the module is bound to variables.

    Args:
      cls_name: class of the module.
      name: the attribute.
      bound: whether the module was bound.
    """

    def __init__(self, cls_name: str, name: str, bound: bool):
        fix = f'If "{name}" is assigned in setup(), it exists only inside init, apply or on a bound module.'
        super().__init__(
            f'"{cls_name}" object has no attribute "{name}".',
            fix="Check the spelling; setup() ran and did not assign it." if bound else fix,
        )


class UnhashableModuleError(FxError, TypeError):
    """The hash of a module was asked for, but it holds variables or a field without a hash.

    Args:
      cls_name: class of the module.
      cause: why it has no hash.
      fix: what to do.
    """

    def __init__(self, cls_name: str, cause: str, fix: str):
        super().__init__(f"Can't call __hash__ on this {cls_name}: {cause}.", fix=fix)


class BoundModulePickleError(FxError, TypeError):
    """A bound module was pickled or copied by the copy module; it is tied to a scope.

    Args:
      cls_name: class of the module.
      path: where.
    """

    def __init__(self, cls_name: str, path: str):
        super().__init__(
            f"A bound {cls_name} cannot be pickled or copied: it holds variables.",
            path=path,
            fix="Use module, variables = module.unbind() and keep both, or module.clone().",
        )


class PerturbationNotFoundError(FxError, ValueError):
    """``perturb`` found its collection but not its variable.

    Args:
      collection: the collection.
      name: the variable.
      path: where.
    """

    def __init__(self, collection: str, name: str, path: str):
        super().__init__(
            f"Perturbation collection {collection} present, but missing perturbation variable {name}.",
            path=path,
            collection=collection,
            expected=f"a variable {name!r} of the shape of the value",
            fix=f"Pass the {collection!r} collection that init returns, or none at all.",
        )


class MergeParamError(FxError, ValueError):
    """A parameter that belongs to the constructor or the call was given to both or to none.

    Args:
      name: the parameter.
      twice: given to both.
      values: what was given.
    """

    def __init__(self, name: str, twice: bool, values: tuple[Any, Any] = (None, None)):
        if twice:
            what = f'Parameter "{name}" was passed to the constructor and at call time. Should be passed just once.'
        else:
            what = f'Parameter "{name}" must be passed to the constructor or at call time.'
        super().__init__(
            what,
            expected="one value, not None",
            got=f"{values[0]!r} and {values[1]!r}",
            fix=f"Give {name} once: {name}=... where the module is made, or where it is called.",
        )


class MissingMethodError(FxError, TypeError):
    """``method=`` named an attribute that cannot be called.

    Args:
      cls_name: class of the module.
      name: the attribute.
      got: type of its value.
    """

    def __init__(self, cls_name: str, name: str, got: str):
        super().__init__(
            f"'{cls_name}.{name}' must be a callable, got {got}.",
            expected="the name of a method",
            fix="Pass a method's name, the method itself, or a function of the module.",
        )
