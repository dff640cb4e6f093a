"""The base of every error that fx raises."""

from typing import Any, Self


class FxError(Exception):
    """Base class of the errors of every fx package.

    An error says what went wrong, where, what was expected, what came instead and what to do. The parts are kept as
    attributes, so that programs can react to them, and make up the text:

    >>> print(FxError("Kernel has the wrong shape.", path="/Dense_0", collection="params",
    ...               expected=(3, 4), got=(3, 5), fix="Initialize the module again."))
    Kernel has the wrong shape.
      where: /Dense_0 (collection 'params')
      expected: (3, 4)
      got: (3, 5)
      what to do: Initialize the module again.

    A subclass takes whatever arguments describe its mistake best and hands the parts to this initializer. Errors
    pickle, whatever their signature, as long as their arguments do.

    Args:
      what: one sentence that says what went wrong.
      path: module or scope path where it happened, such as ``"/encoder/Dense_0"``.
      collection: variable collection concerned.
      expected: what would have been right.
      got: what was there instead.
      fix: what the user can do about it.
    """

    path: str | None
    collection: str | None
    expected: Any
    got: Any
    fix: str | None

    _init: tuple[tuple[Any, ...], dict[str, Any]]
    _place: str | None = None

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        # Exceptions pickle by calling their class with `self.args`, which here is the finished text. Remembering the
        # arguments of the subclass lets any signature survive a trip between processes.
        self = super().__new__(cls)
        self._init = (args, kwargs)
        return self

    def __init__(
        self,
        what: str,
        *,
        path: str | None = None,
        collection: str | None = None,
        expected: Any = None,
        got: Any = None,
        fix: str | None = None,
    ):
        self.path, self.collection = path, collection
        self.expected, self.got, self.fix = expected, got, fix
        self._what = what
        super().__init__("\n".join([what, *self._details()]))

    def locate(self, path: str) -> Self:
        """Adds where it happened, after the fact: for errors of mathematics, which does not know of modules.

        >>> print(FxError("The kernel is too large.").locate("Model/layers/0"))
        The kernel is too large.
          where: Model/layers/0
        """
        self.path = self._place = path
        self.args = ("\n".join([self._what, *self._details()]),)
        return self

    def _details(self) -> list[str]:
        where = self.path or ""
        if self.collection is not None:
            where = f"{where} (collection {self.collection!r})".strip()
        parts = {"where": where or None, "expected": self.expected, "got": self.got, "what to do": self.fix}
        return [f"  {label}: {part}" for label, part in parts.items() if part is not None]

    def __reduce__(self) -> tuple[Any, ...]:
        args, kwargs = self._init
        return _rebuild, (type(self), args, kwargs, self._place)


def _rebuild(cls: type[FxError], args: tuple[Any, ...], kwargs: dict[str, Any], place: str | None = None) -> FxError:
    made = cls(*args, **kwargs)
    return made if place is None else made.locate(place)
