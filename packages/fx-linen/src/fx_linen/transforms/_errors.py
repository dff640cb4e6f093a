"""Mistakes in calling a transform of modules that only fx_linen has."""

from collections.abc import Sequence
from typing import Any

from fx_core.errors import FxError

__all__ = ["ManyScopesError", "NotAModuleError", "TransformMethodsError", "UnknownMethodError"]


class TransformMethodsError(FxError, ValueError):
    """``methods`` of a transform says in no way which methods are meant.

    Wrong::

        nn.remat(Block, methods="forward")

    Right::

        nn.remat(Block, methods=["forward"])
        nn.remat(Block, methods={"forward": {"prevent_cse": False}})

    Args:
      methods: what came.
    """

    def __init__(self, methods: Any):
        super().__init__(
            "methods of a transform names no methods.",
            expected="None for __call__, a list or tuple of names, or a dict of options by name",
            got=repr(methods),
            fix="Give the names in a list: methods=['encode', 'decode'].",
        )


class UnknownMethodError(FxError, AttributeError):
    """A transform was asked for a method that the class does not have.

    Args:
      cls_name: the class.
      method: the name.
      known: the names of its methods.
    """

    def __init__(self, cls_name: str, method: str, known: Sequence[str]):
        super().__init__(
            f"{cls_name} has no method {method!r} to transform.",
            expected=f"one of {', '.join(known)}",
            got=repr(method),
            fix="Correct the name, or give methods= with the names of methods that the class has.",
        )


class NotAModuleError(FxError, TypeError):
    """A transformed function was called without a module as its first argument.

    Wrong::

        nn.remat(self.encode)(x)
        nn.remat(lambda layers, x: layers[0](x))([dense], x)

    Right::

        nn.remat(Model.encode)(self, x)
        nn.remat(lambda model, layers, x: layers[0](x))(self, [dense], x)

    Args:
      got: what came.
    """

    def __init__(self, got: Any):
        super().__init__(
            "A transformed function of a module was called on something else.",
            expected="a module as the first argument",
            got=f"{type(got).__name__}",
            fix="Pass the module first: nn.remat(fn)(module, x). More modules may follow as arguments.",
        )


class ManyScopesError(FxError, NotImplementedError):
    """A derivative with respect to the variables of a module that holds modules from elsewhere.

    There is then one dictionary of variables for each place, and the caller has to say that it wants several. Wrong::

        nn.vjp(fn, Pair(shared_a, shared_b), x)

    Right::

        nn.vjp(fn, Pair(shared_a, shared_b), x, multi_scope=True)      # a list of cotangents, one per scope

    Args:
      transform: name of the transform.
      paths: where the variables are.
      fix: what to do.
    """

    def __init__(self, transform: str, paths: Sequence[str], fix: str):
        super().__init__(
            f"{transform} got a module whose variables are in several places, because it holds modules from elsewhere.",
            expected="a module that has all its variables below itself",
            got=f"variables at {', '.join(paths)}",
            fix=fix,
        )
