"""What can be wrong with the description of a model."""

from collections.abc import Sequence

from fx_core.errors._base import FxError


class DescriptionError(FxError, ValueError):
    """A description names no model, or a model cannot be described; the text lists all that is wrong.

    Args:
      mistakes: the place of each in the description, such as ``"layers[1].features"``, and what is wrong there.
      fix: what to do.

    Attributes:
      mistakes: as given.
    """

    def __init__(self, mistakes: Sequence[tuple[str, str]], fix: str | None = None):
        self.mistakes = tuple((place, text) for place, text in mistakes)
        count = "a mistake" if len(self.mistakes) == 1 else f"{len(self.mistakes)} mistakes"
        lines = "".join(f"\n    {place or 'the description'}: {text}" for place, text in self.mistakes)
        super().__init__(
            f"The description of a model has {count}.",
            got=lines,
            fix=fix or "Correct the description; `fx plugins schema` prints what layers take.",
        )
