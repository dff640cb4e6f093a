"""Without the demo plugin its names are unknown, and the error helps."""

import pytest
from fx_core.errors import FxError
from fx_core.plugins import registry


def test_unknown_backend_lists_what_there_is():
    with pytest.raises(FxError, match="msgpack"):
        registry().get("checkpoint_backend", "msgpak")
