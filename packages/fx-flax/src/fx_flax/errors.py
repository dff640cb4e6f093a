"""The errors and the warning of fx-flax."""

from fx_core.errors import FxError, MissingPackageError

__all__ = ["FlaxImportedError", "FlaxNameError", "FlaxVersionWarning", "MissingPackageError", "UnreadableSourceError"]


class FlaxImportedError(FxError, ImportError):
    """Flax itself was imported before, or cannot be imported where it is needed.

    Wrong::

        import flax
        import fx_flax

        fx_flax.install()

    Right::

        import fx_flax

        fx_flax.install()
        import flax
    """


class FlaxNameError(FxError, AttributeError):
    """A name of Flax that fx does not have, or a name that Flax does not have either.

    The text says which of the two it is, and why fx lacks the name.

    >>> import fx_flax
    >>> fx_flax.install()
    >>> import flax
    >>> hasattr(flax, "no_such_name")  # it is an AttributeError
    False
    >>> fx_flax.uninstall()
    """

    def __init__(self, module: str, name: str, what: str, fix: str | None = None):
        super().__init__(what, fix=fix)
        # `hasattr` and the hints of the interpreter read these.
        self.module, self.name = module, name


class UnreadableSourceError(FxError, ValueError):
    """A file that `fx migrate` is to rewrite cannot be decoded, or is not of the language that its name says."""


class FlaxVersionWarning(UserWarning):
    """A library asks for a newer Flax than the one whose names fx-flax knows.

    Right::

        import warnings

        import fx_flax

        warnings.simplefilter("error", fx_flax.FlaxVersionWarning)  # stop instead
    """


def package_missing(wanted: str, package: str) -> MissingPackageError:
    """A name of Flax needs a package of fx that is not installed."""
    distribution = package.replace("_", "-")
    error = MissingPackageError(
        f"{wanted} is in {distribution}, which is not installed.",
        fix=f"pip install {distribution}, or 'fx-flax[all]' for all that programs written for Flax may need",
    )
    error.name = package
    return error
