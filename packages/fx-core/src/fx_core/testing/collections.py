"""What every collection has to be."""

from typing import Any

import pytest

from fx_core.errors.plugins import EntryLoadError
from fx_core.plugins.entries import CollectionEntry


class CollectionSuite:
    """The contract of a collection: subclass it and give the entry.

    Attributes:
      entry: as the plugin registers it.
    """

    entry: CollectionEntry

    def variable(self) -> Any:
        """The variable type."""
        try:
            return self.entry.load()
        except EntryLoadError as error:
            if error.absent is None:
                raise
            pytest.skip(f"{error.absent} is not installed")

    def test_its_variable_type_holds_a_value(self):
        assert self.variable()(1.0).get_value() == 1.0

    def test_its_variable_type_is_its_own(self):
        assert self.variable().__name__ != "Variable", "filters distinguish it from the others by a type of its own"

    def test_places_in_transforms_make_sense(self):
        assert not (self.entry.differentiable and self.entry.scan_slot == "carry"), (
            "what every step changes is no parameter"
        )
