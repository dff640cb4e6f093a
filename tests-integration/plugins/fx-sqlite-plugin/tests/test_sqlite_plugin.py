import contextlib
import sqlite3

import numpy as np
import pytest
from fx_sqlite_plugin.backend import SqliteBackend

fx_distribution = "fx-sqlite-plugin"


def test_other_programs_can_read_it(tmp_path):
    SqliteBackend().save(tmp_path, {"a": {"kernel": np.ones((2, 3), np.float32)}, "step": 3})
    with contextlib.closing(sqlite3.connect(tmp_path / "state.sqlite")) as database:
        rows = database.execute("select path, dtype, shape from leaves").fetchall()
    assert ('["a", "kernel"]', "float32", "[2, 3]") in rows


def test_what_cannot_be_stored_is_refused(tmp_path):
    with pytest.raises(TypeError, match=r"stores arrays, numbers, text and None, not .*object"):
        SqliteBackend().save(tmp_path, {"a": object()})
