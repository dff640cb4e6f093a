"""What others have put in the way of saves stays as it was."""

import pytest
from fx_ckpt.testing.foreign import THINGS, WRITERS, left_alone


@pytest.mark.parametrize("backend", ["msgpack", "safetensors", pytest.param("orbax", marks=pytest.mark.slow)])
def test_every_writer_leaves_every_thing_alone(tmp_path, backend):
    counts = left_alone(backend, tmp_path)
    assert set(counts) == set(THINGS)
    assert set(counts.values()) == {len(WRITERS)}


def test_the_suite_notices_what_is_taken(tmp_path, monkeypatch):
    monkeypatch.setitem(WRITERS, "save", lambda path, backend: (path / "thesis.tex").unlink(missing_ok=True))
    with pytest.raises(AssertionError, match="save wrote over a folder"):
        left_alone("msgpack", tmp_path)
