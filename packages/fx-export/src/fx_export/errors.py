"""The errors of fx-export: one class per mistake."""

from collections.abc import Sequence
from typing import Any

from fx_core.errors import FxError


class ExportError(FxError):
    """Base class of the errors about bundles."""


class UnsupportedProgramError(ExportError, ValueError):
    """The function computes something that no file can hold, such as a call back into Python.

    Wrong::

        def predict(variables, x):
            jax.debug.print("{}", x)
            return model.apply(variables, x)

    Right: leave out callbacks, prints and other effects, and return dicts, lists, tuples and arrays.

    Args:
      problem: what JAX said.
    """

    def __init__(self, problem: str):
        super().__init__(
            "This function cannot be exported.",
            expected="a pure function of arrays that returns arrays in dicts, lists and tuples",
            got=problem,
            fix="Remove callbacks, debug prints and other effects, and convert custom containers at the border.",
        )


class VerificationError(ExportError, ValueError):
    """What was exported computes something else than the model.

    Args:
      path: the output.
      case: the inputs it was tried with.
      expected: the tolerance.
      got: the error that was found.
    """

    def __init__(self, path: str, case: str, expected: str, got: str):
        super().__init__(
            f"The exported network computes something else than the model, for {case}.",
            path=path,
            expected=expected,
            got=got,
            fix="Raise the tolerance if that is close enough, or report it: nothing was written.",
        )


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


class UnsupportedWeightError(ExportError, TypeError):
    """The variables hold something that is not an array of numbers.

    Args:
      path: where in the variables.
      got: what is there.
    """

    def __init__(self, path: str, got: str):
        super().__init__(
            "This variable cannot be exported.",
            path=path or "the root",
            expected="an array of numbers",
            got=got,
            fix="Pass keys and the like as inputs, and keep functions out of the variables.",
        )


class ExporterOptionError(ExportError, TypeError):
    """An option does not fit the exporter.

    Args:
      exporter: its name.
      expected: what it takes.
      got: what came.
    """

    def __init__(self, exporter: str, expected: Any, got: Any):
        super().__init__(
            f"The exporter {exporter!r} does not take this.", expected=expected, got=got, fix="Correct the option."
        )


class BundleError(ExportError, ValueError):
    """A bundle cannot be read: a part of it is not what its exporter writes.

    Args:
      path: the file.
      problem: what is wrong.
      got: what is there.
      fix: what to do.
    """

    def __init__(self, path: str, problem: str, got: Any = None, fix: str = "Export the network again."):
        super().__init__(f"This bundle cannot be read: {problem}", path=path, got=got, fix=fix)


class PlatformError(ExportError, RuntimeError):
    """The bundle was made for other hardware.

    Args:
      path: the bundle.
      expected: the platforms it was made for.
      got: the platform of this process.
    """

    def __init__(self, path: str, expected: Sequence[str], got: str):
        super().__init__(
            "This bundle was made for other platforms.",
            path=path,
            expected=", ".join(expected),
            got=got,
            fix=f"Export with platforms=[…, {got!r}], or run where one of the platforms is there.",
        )


class InputMismatchError(ExportError, TypeError):
    """A call of a loaded bundle has inputs of the wrong number, structure, shape or dtype.

    Nothing is cast: an array of 64-bit floats does not fit an input of 32-bit floats.

    Args:
      path: which input.
      expected: what was exported.
      got: what came.
    """

    def __init__(self, path: str, expected: Any, got: Any):
        super().__init__(
            "The input does not fit the exported network.",
            path=path,
            expected=expected,
            got=got,
            fix="Convert or reshape the input; the manifest of the bundle lists all inputs.",
        )


class InputTextError(ExportError, ValueError):
    """The description of an input is malformed.

    Args:
      got: the text.
    """

    def __init__(self, got: str):
        super().__init__(
            "This describes no input.",
            expected="an optional name, a dtype and sizes, such as image:float32[batch, 28, 28, 1]",
            got=got,
            fix="Write numbers for fixed sizes and names for free ones.",
        )


class EntryPointError(ExportError, LookupError):
    """A bundle of several networks was called without a name, or has none of that name.

    Wrong: ``fx_export.load(path)(tokens)``. Right: ``fx_export.load(path)["prefill"](tokens)``.

    Args:
      path: the bundle.
      got: the name; None without one.
      names: those that there are.
    """

    def __init__(self, path: str, got: str | None, names: Sequence[str]):
        super().__init__(
            "This bundle has several networks." if got is None else f"This bundle has no entry point {got!r}.",
            path=path,
            expected=", ".join(names) or "no names: it is one network",
            got=got,
            fix=f"Choose one: load(path)[{names[0]!r}](...)." if names else "Call it: load(path)(...).",
        )


class ExpiryWarning(UserWarning):
    """A bundle is read today, and a later JAX may not read it: write it anew by ``fx export renew``."""
