import pytest
from fx_core.identity import identity_of


def test_classes_say_whether_identity_counts():
    class Node:
        __fx_identity__ = "object"

    assert identity_of(Node()) == "object"


@pytest.mark.parametrize("node", [{"a": 1}, [1], 1.0, None])
def test_other_nodes_are_values(node):
    assert identity_of(node) is None
