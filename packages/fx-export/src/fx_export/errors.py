"""The errors of fx-export: one class per mistake."""

from collections.abc import Sequence
from typing import Any

from fx_core.errors import ArgumentError, ArgumentTypeError, FxError, ItemNotFoundError, MissingPackageError

__all__ = [
    "ArgumentError",
    "ArgumentTypeError",
    "BundleError",
    "ExpiryWarning",
    "ExportError",
    "InputMismatchError",
    "ItemNotFoundError",
    "MissingPackageError",
    "PlatformError",
    "UncoveredPrimitivesError",
    "UnsupportedProgramError",
    "VerificationError",
]


class ExportError(FxError):
    """Base class of the errors about bundles."""


class UnsupportedProgramError(ExportError, ValueError):
    """The function computes something that no file can hold, such as a call back into Python.

    Wrong::

        def predict(variables, x):
            jax.debug.print("{}", x)
            return model.apply(variables, x)

    Right: leave out callbacks, prints and other effects, and return dicts, lists, tuples and arrays.
    """


class VerificationError(ExportError, ValueError):
    """What was exported computes something else than the model; nothing was written."""


class BundleError(ExportError, ValueError):
    """A bundle, or a file of PyTorch, cannot be read: damaged, hostile, or not what is written there."""


class PlatformError(ExportError, RuntimeError):
    """The bundle was made for other hardware: export with ``platforms=`` for all that it is to run on."""


class InputMismatchError(ExportError, TypeError):
    """A call of a loaded bundle has inputs of the wrong number, structure, shape or dtype.

    Nothing is cast: an array of 64-bit floats does not fit an input of 32-bit floats. Only a number of Python becomes
    one of the input's dtype.
    """


class UncoveredPrimitivesError(UnsupportedProgramError):
    """A network uses primitives of JAX that have no translation into a format.

    Attributes:
      uncovered: one line for each, with the module and the source line that it comes from.

    Args:
      uncovered: see above.
    """

    def __init__(self, uncovered: Sequence[str]):
        ExportError.__init__(
            self,
            "These primitives have no translation.",
            got="".join(f"\n  {line}" for line in uncovered),
            fix="Compute them in another way or outside of the network, or translate them: hook fx_onnx_primitives.",
        )
        self.uncovered = tuple(uncovered)


class ExpiryWarning(UserWarning):
    """A bundle is read today, and a later JAX may not read it: write it anew by ``fx export renew``."""


def unsupported_program(problem: str) -> UnsupportedProgramError:
    """The function computes something that no file can hold, such as a call back into Python."""
    return UnsupportedProgramError(
        "This function cannot be exported.",
        expected="a pure function of arrays that returns arrays in dicts, lists and tuples",
        got=problem,
        fix="Remove callbacks, debug prints and other effects, and convert custom containers at the border.",
    )


def refused_by_format(problem: str) -> UnsupportedProgramError:
    """The format has no operation for something that the function computes, or none in its dtype."""
    return UnsupportedProgramError(
        "This format cannot express what the function computes.",
        expected="operations that the format has, in dtypes that it has them in",
        got=problem,
        fix="Compute it in another way or in float32 and int32, or export to another format.",
    )


def refused_by_runtime(cause: BundleError) -> UnsupportedProgramError:
    """What was just written is as it should be, but its own runtime does not take it."""
    return UnsupportedProgramError(
        "The runtime of this format does not take what was written.",
        got=str(cause).partition("\n")[0] if cause.got is None else cause.got,
        fix="Compute it in another way or in other dtypes, or export to another format; nothing was written.",
    )


def unsupported_weight(path: str, got: str) -> ArgumentTypeError:
    """The variables hold something that is not an array of numbers."""
    return ArgumentTypeError(
        "This variable cannot be exported.",
        path=path or "the root",
        expected="an array of numbers",
        got=got,
        fix="Pass keys and the like as inputs, and keep functions out of the variables.",
    )


def exporter_option(exporter: str, expected: Any, got: Any) -> ArgumentTypeError:
    """An option does not fit the exporter."""
    return ArgumentTypeError(
        f"The exporter {exporter!r} does not take this.", expected=expected, got=got, fix="Correct the option."
    )


def other_names(option: str, expected: str, got: Any) -> ArgumentTypeError:
    """Names of arrays are more or fewer than the arrays, or are none."""
    return ArgumentTypeError(
        "The names do not fit the arrays.", expected=f"{option}: {expected}", got=got, fix="Correct the option."
    )


def unreadable_bundle(path: str, problem: str, got: Any = None, fix: str = "Export the network again.") -> BundleError:
    """A bundle cannot be read: a part of it is not what its exporter writes."""
    return BundleError(f"This bundle cannot be read: {problem}", path=path, got=got, fix=fix)


def input_mismatch(path: str, expected: Any, got: Any) -> InputMismatchError:
    """A call of a loaded bundle has inputs of the wrong number, structure, shape or dtype."""
    return InputMismatchError(
        "The input does not fit the exported network.",
        path=path,
        expected=expected,
        got=got,
        fix="Convert or reshape the input; the manifest of the bundle lists all inputs.",
    )
