"""fx-ckpt without its extra: asking for Orbax names the extra, before anything is written."""

import importlib.util

import fx_ckpt
import pytest
from fx_core.errors import FxError


def test_orbax_backend_names_its_extra(tmp_path):
    assert importlib.util.find_spec("orbax") is None, "this combo is to have no Orbax"
    with pytest.raises(FxError, match=r"fx-ckpt\[orbax\]"):
        fx_ckpt.save(tmp_path / "checkpoint", {"a": 1}, backend="orbax")
    assert list(tmp_path.iterdir()) == []
