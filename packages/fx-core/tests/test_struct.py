"""fx_core.struct: pytree dataclasses."""

import copy
import dataclasses
import pickle

import jax
import jax.numpy as jnp
import pytest
from fx_core import errors, serialization, struct


@struct.dataclass
class Point:
    x: object
    y: object = 2
    label: str = struct.field(pytree_node=False, default="p")


@struct.dataclass
class Point3(Point):
    z: object = 3


class Node(struct.PyTreeNode):
    a: object
    b: object = struct.field(default_factory=list, metadata={"doc": "a list"})
    kind: str = struct.field(False, default="node")


class KeywordNode(Node, kw_only=True):
    c: int


def test_leaves_are_the_fields_with_their_names_and_static_fields_are_structure():
    leaves, structure = jax.tree_util.tree_flatten_with_path(Point(1.0, 5.0))
    assert [(jax.tree_util.keystr(path), leaf) for path, leaf in leaves] == [(".x", 1.0), (".y", 5.0)]
    assert structure == jax.tree.structure(Point(0.0, 0.0))
    assert structure != jax.tree.structure(Point(0.0, 0.0, label="other"))
    assert jax.tree.map(lambda v: v + 1, Point(1, label="q")) == Point(2, 3, label="q")


def test_subclasses_add_fields_and_bring_the_old_ones():
    assert jax.tree.leaves(Point3(1)) == [1, 2, 3]
    assert jax.tree.map(lambda v: -v, Point3(1)) == Point3(-1, -2, z=-3)


def test_pytreenode_subclasses_are_dataclasses_with_class_keywords():
    node = KeywordNode(1, c=4)
    assert dataclasses.is_dataclass(node)
    assert jax.tree.leaves(node) == [1, 4]
    assert node.replace(kind="k").kind == "k"
    with pytest.raises(TypeError, match="positional"):
        KeywordNode(1, [], "node", 4)  # type: ignore[misc]


def test_field_keeps_the_users_metadata():
    assert dict(dataclasses.fields(Node)[1].metadata) == {"doc": "a list", "pytree_node": True}


def test_replace_gives_a_changed_copy_and_names_unknown_fields():
    point = Point(1)
    assert point.replace(y=7) == Point(1, 7)
    assert point.y == 2
    with pytest.raises(errors.ArgumentTypeError, match=r"fields x, y, label\n  got: yy"):
        point.replace(yy=7)


def test_a_replace_of_ones_own_is_kept():
    @struct.dataclass
    class Own:
        x: int

        def replace(self, **updates):
            return "mine"

    assert Own(1).replace(x=2) == "mine"


def test_assignment_and_deletion_say_to_replace():
    point = Point(1)
    with pytest.raises(errors.ImmutableError, match=r"Cannot set 'x' of Point.*\n.*new = old.replace\(x=...\)"):
        point.x = 2
    with pytest.raises(dataclasses.FrozenInstanceError, match="Cannot delete 'y' of Point"):
        del point.y
    with pytest.raises(errors.ImmutableError, match="Cannot set 'new' of Point3"):
        Point3(1).new = 2


def test_decorating_twice_is_harmless_and_a_subclass_is_decorated_by_itself():
    assert struct.dataclass(Point) is Point
    assert struct.dataclass(Point3) is not Point


def test_keywords_go_to_dataclass():
    @struct.dataclass(frozen=False, kw_only=True)
    class Loose:
        x: int

    loose = Loose(x=1)
    loose.x = 5
    assert jax.tree.leaves(loose) == [5]

    @struct.dataclass(slots=True)
    class Slotted:
        x: int

    assert not hasattr(Slotted(1), "__dict__")
    assert jax.tree.map(lambda v: v + 1, Slotted(1)).x == 2
    with pytest.raises(errors.ImmutableError, match="immutable"):
        Slotted(1).x = 2


def test_derived_fields_are_made_anew():
    @struct.dataclass
    class Derived:
        x: object
        double: object = struct.field(init=False)

        def __post_init__(self):
            object.__setattr__(self, "double", jax.tree.map(lambda v: 2 * v, self.x))

    doubled = jax.tree.map(lambda v: v + 1, Derived(3))
    assert (doubled.x, doubled.double) == (4, 8)
    with pytest.raises(errors.ArgumentTypeError, match="got: double"):
        doubled.replace(double=1)


def test_through_jit_and_grad():
    point = Point(jnp.ones(2), 3.0)
    assert jax.jit(lambda p: p.replace(y=p.y * 2))(point).y == 6.0
    gradient = jax.grad(lambda p: (p.x * p.y).sum())(point)
    assert isinstance(gradient, Point)
    assert gradient.y == 2.0


def test_copies_and_pickles_are_equal():
    for made in (copy.copy(Point(1)), copy.deepcopy(Point(1)), pickle.loads(pickle.dumps(Point(1)))):
        assert made == Point(1)
        assert hash(made) == hash(Point(1))


def test_state_dictionaries_hold_the_fields_but_the_static_ones():
    point = Point([1, Point(2)], None, label="mine")
    state = serialization.to_state_dict(point)
    assert state == {"x": {"0": 1, "1": {"x": 2, "y": 2}}, "y": None}
    restored = serialization.from_state_dict(point.replace(x=[0, Point(0)]), state)
    assert restored == point


def test_state_dictionaries_with_missing_or_unknown_fields_are_refused_with_path():
    with pytest.raises(errors.StateDictMismatchError, match=r"fit the Point: missing 'y'.\n  where: ./p") as caught:
        serialization.from_state_dict({"p": Point(1)}, {"p": {"x": 1}})
    assert caught.value.missing == ("y",)
    with pytest.raises(errors.StateDictMismatchError, match="unknown 'z'"):
        serialization.from_state_dict(Point(1), {"x": 1, "y": 2, "z": 3})
