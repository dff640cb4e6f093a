import fx_linen as nn
import pytest
from fx_core.ops import initializers


@pytest.mark.parametrize("room", ["initializers", "meta", "module", "partitioning", "spmd", "summary", "transforms"])
def test_rooms_are_reached_through_the_face(room):
    # Type checkers know a submodule as an attribute only where the package itself imports it.
    assert room in nn.__all__
    assert getattr(nn, room).__name__ == f"fx_linen.{room}"


def test_initializers_are_those_of_the_core():
    assert nn.initializers.lecun_normal is initializers.lecun_normal
