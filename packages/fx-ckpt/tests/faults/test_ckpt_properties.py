"""Random trees come back to the bit, whatever the backend, with and without a target."""

import numpy as np
import pytest
from fx_ckpt.testing.roundtrips import difference, round_trips


@pytest.mark.parametrize(
    ("backend", "count"),
    [
        pytest.param("msgpack", 100, marks=pytest.mark.slow),
        pytest.param("safetensors", 100, marks=pytest.mark.slow),
        ("orbax", 15),
    ],
)
def test_random_trees(backend, count):
    assert round_trips(backend, count)["trees"] >= count


def test_differences_are_seen():
    for one, other in [
        ({"a": 1}, {"a": True}),
        ({1: 0}, {"1": 0}),
        ([1], (1,)),
        (np.float32(1), np.float64(1)),
        (np.zeros(2), np.array([0.0, -0.0])),
        (0.0, -0.0),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
    ]:
        assert difference(one, one) is None
        assert difference(one, other) is not None
