"""Modules as dataclasses: fields, freezing, equality, pickling, representation."""

import copy
import dataclasses
import functools
import inspect
import pickle
from typing import Any, NamedTuple

import fx_linen as nn
import jax
import jax.numpy as jnp
import pytest
from fx_core import config, errors, struct

KEY = jax.random.key(0)


class Point(nn.Module):
    x: int
    y: int = 2

    def __call__(self):
        return self.x


class Point3(Point):
    z: int = 3


class Sub(nn.Module):
    def setup(self):
        self.point = Point(1)

    def __call__(self):
        return self.point()


def test_fields_and_inheritance():
    assert [p.name for p in inspect.signature(Point3).parameters.values()] == ["x", "y", "z", "parent", "name"]
    module = Point3(1, z=5, name="p")
    assert (module.x, module.y, module.z, module.name, module.parent) == (1, 2, 5, "p", None)
    with pytest.raises(TypeError, match="positional"):
        Point(1, 2, None)


def test_keyword_only_fields():
    with pytest.raises(TypeError, match="non-default argument 'w' follows default argument"):

        class Wrong(Point):
            w: int

    class Right(Point, kw_only=True):
        w: int

    assert Right(1, w=3).w == 3


def test_fields_that_are_not_arguments():
    class Net(nn.Module):
        n: int = dataclasses.field(default=2, init=False)
        f: Any = dataclasses.field(default=len, repr=False, compare=False)

    assert Net().n == 2
    assert Net(f=max) == Net(f=min)
    assert repr(Net(f=max)) == "Net(\n    # attributes\n    n = 2\n)"


@pytest.mark.parametrize("name", ["parent", "name"])
def test_reserved_fields(name):
    with pytest.raises(errors.ReservedModuleAttributeError, match=name):
        type("Net", (nn.Module,), {"__annotations__": {name: int}})


@pytest.mark.parametrize("declared", [str, str | None, "str", "Optional[str]"])
def test_a_class_may_declare_the_name_that_the_base_has(declared):
    Net = type("Net", (nn.Module,), {"__annotations__": {"name": declared, "size": int}, "name": None})
    assert (Net(3).name, Net(3).size, Net(3, name="q").name) == (None, 3, "q")
    with pytest.raises(errors.ReservedModuleAttributeError, match="name"):
        type("Net", (nn.Module,), {"__annotations__": {"name": declared}, "name": "head"})


def test_equality_and_hash():
    assert Point(1) == Point(1)
    assert Point(1) != Point(2)
    assert Point(1) != Point(1, name="q")
    assert Point(1) != Point3(1)
    assert len({Point(1), Point(1), Point(2)}) == 2
    with pytest.raises(TypeError, match=r"Can't call __hash__ on this Point: a field has no hash"):
        hash(Point([1]))
    with pytest.raises(errors.ArgumentTypeError, match="it holds variables"):
        hash(Point(1).bind({}))
    assert Point(1).bind({}) != Point(1)


def test_own_equality_keeps_the_hash():
    class Net(nn.Module):
        a: int = 1

        def __eq__(self, other):
            return True

    assert hash(Net(1)) == hash(Net(1))
    assert Net(1) == Net(2)


def test_frozen_once_bound():
    module = Point(1)
    module.x = 4
    assert module.x == 4

    class Net(nn.Module):
        a: int = 1

        def __call__(self):
            self.b = 2

        def field(self):
            self.a = 2

    class Late(nn.Module):
        a: int = 1

        def setup(self):
            self.a = 3

        def __call__(self):
            return self.a

    with pytest.raises(errors.SetAttributeFrozenModuleError, match="b"):
        Net().apply({})
    with pytest.raises(errors.SetAttributeFrozenModuleError, match="a"):
        Net().apply({}, method="field")
    with pytest.raises(errors.SetAttributeInModuleSetupError, match=r"(?i)frozen|setup"):
        Late().apply({})


def test_post_init():
    class Good(nn.Module):
        a: int = 0

        def __post_init__(self):
            self.a, self.b = self.a + 5, 7
            super().__post_init__()

        def __call__(self):
            return self.a, self.b

    class Bad(nn.Module):
        def __post_init__(self):
            pass

        def __call__(self):
            return 1

    assert Good(1).a == 6
    assert Good().bind({}).b == 7
    with pytest.raises(errors.IncorrectPostInitOverrideError, match="__post_init__"):
        Bad().apply({})
    with pytest.raises(errors.IncorrectPostInitOverrideError, match="__post_init__"):
        Bad()()


def test_lists_and_dicts_freeze_when_bound():
    class Net(nn.Module):
        a: Any
        b: Any

        def __call__(self):
            return self.a, self.b["k"]

    net = Net([1, [2]], {"k": [3]})
    assert net.apply({}) == ((1, (2,)), (3,))
    assert net.a == [1, [2]]


def test_pickle_and_copy():
    for module in (Point(3), Sub()):
        for again in (pickle.loads(pickle.dumps(module)), copy.copy(module), copy.deepcopy(module)):
            assert again == module
            assert again is not module
            assert again.apply({}) == module.apply({})
    with pytest.raises(TypeError, match="A bound Point cannot be pickled or copied"):
        pickle.dumps(Point(1).bind({}))


def test_clone_and_copy():
    module = Point(1, name="a")
    assert (module.clone().name, module.clone(name="b").name, module.copy().name) == ("a", "b", None)
    assert module.clone(x=5).x == 5
    with pytest.raises(TypeError, match="nope"):
        module.clone(nope=1)

    class Net(nn.Module):
        @nn.compact
        def __call__(self):
            inner = Point(1)
            twin, named, orphan = inner.copy(), inner.copy(name="zz"), inner.clone()
            assert twin.parent is self
            assert orphan.parent is None
            return inner.name, twin.name, named.name, orphan.name, inner.clone(parent=self, name="g").path

    assert Net(parent=None).apply({}) == ("Point_0", "Point_1", "zz", "Point_0", ("g",))


def test_deep_clones_stay_shared():
    class Two(nn.Module):
        a: Any
        b: Any

    shared = Point(1)
    clone = Two(shared, [shared]).clone(_deep_clone=True)
    assert clone.a is clone.b[0]
    assert clone.a is not shared


def test_the_depth_of_a_representation():
    class Inner(nn.Module):
        size: int = 1

    class Outer(nn.Module):
        inner: Any
        more: Any = ()

        def __call__(self):
            return None

    model = Outer(Inner(2), (Outer(Inner()),))
    assert "size = 1" in repr(model)
    with config.override(max_repr_depth=0):
        assert repr(model) == "Outer(\n    # attributes\n    inner = Inner(...)\n    more = (Outer(...),)\n)"
    with config.override(max_repr_depth=1):
        assert "size = 2" in repr(model)
        assert "inner = Inner(...)" in repr(model)
        assert "size = 1" not in repr(model)


def test_representation():
    assert repr(Sub()) == "Sub()"
    point = "Point(\n    # attributes\n    x = 1\n    y = 2\n)"
    assert repr(Point(1)) == point
    bound = Sub().bind({})
    assert bound.point.x == 1
    nested = point.replace("\n", "\n    ")
    assert repr(bound) == f"Sub(\n    # children\n    point = {nested}\n)"

    class Net(nn.Module):
        dtype: Any = jnp.float32
        init: Any = jax.nn.initializers.zeros

    assert repr(Net()) == "Net(\n    # attributes\n    dtype = float32\n    init = zeros\n)"


def test_attributes_that_are_not_there():
    with pytest.raises(AttributeError, match=r'"Sub" object has no attribute "point"') as caught:
        Sub().point  # noqa: B018
    assert "setup()" in str(caught.value)
    assert not hasattr(Sub().bind({}), "other")
    assert Sub().bind({}).point.x == 1


def test_descriptors_see_what_setup_made():
    class Net(nn.Module):
        def setup(self):
            self.point = Point(1)

        @property
        def x(self):
            return self.point.x

        @property
        def bad(self):
            return self.nothing

        @functools.cached_property
        def cached(self):
            return self.point.y

        @staticmethod
        def static(x):
            return x

        @classmethod
        def of_class(cls):
            return cls.__name__

    bound = Net().bind({})
    assert (bound.x, bound.cached) == (1, 2)
    assert (Net.static(3), Net.of_class()) == (3, "Net")
    with pytest.raises(errors.DescriptorAttributeError, match=r"(?i)attribute") as caught:
        bound.bad  # noqa: B018
    assert '"nothing"' in str(caught.value.__cause__)


def test_settable_property():
    class Net(nn.Module):
        def __post_init__(self):
            self.twice = 4
            super().__post_init__()

        @property
        def twice(self):
            return self._once * 2

        @twice.setter
        def twice(self, value):
            self._once = value // 2

    assert Net().twice == 4


def test_methods_are_wrapped_once_and_keep_their_face():
    assert Point.__call__.__qualname__ == "Point.__call__"
    assert nn.wrap_method_once(Point.__call__) is Point.__call__
    plain = nn.wrap_method_once(lambda self: self.x)
    assert nn.wrap_method_once(plain) is plain
    assert plain(Point(3)) == 3


def test_modules_of_main_survive_cloudpickle():
    # cloudpickle stores such a class by value: its wrappers may refer only to what can be imported.
    for name, method in vars(Sub).items():
        if hasattr(method, "method_handler_wrapped"):
            used = {n: method.__globals__.get(n) for n in method.__code__.co_names}
            assert used, name
            for value in used.values():
                assert inspect.isfunction(value)
                assert value.__module__ == "fx_linen.module._call"


@struct.dataclass
class Boxed:
    items: Any


class Named(NamedTuple):
    items: Any


class Numbers(tuple):
    __slots__ = ()


class Holding(nn.Module):
    value: Any

    def __call__(self):
        return self.value


@pytest.mark.parametrize(
    "value",
    [Boxed([1, 2]), Boxed({"a": [1]}), Named([1]), Named({"a": {}}), Numbers([1, [2]]), Boxed(Named([Boxed([1])]))],
    ids=repr,
)
def test_values_of_others_stay_as_they_are(value):
    assert Holding(value).apply({}) is value
    assert Holding([value]).apply({})[0] is value
    assert Holding({"a": value}).apply({})["a"] is value


def test_modules_in_values_of_others_are_found():
    held = Boxed({"layers": [nn.Dense(2)], "size": [2]})

    class Net(nn.Module):
        held: Any

        @nn.compact
        def __call__(self, x):
            assert self.held.items["size"] == [2]
            return self.held.items["layers"][0](x)

    assert list(Net(held).init(KEY, jnp.ones((1, 3)))["params"]) == ["held_items_layers_0"]
    assert held.items["layers"][0].name is None


def test_dir_shows_what_setup_makes():
    class Net(nn.Module):
        def setup(self):
            self.inner = nn.Dense(2)

        def __call__(self):
            return dir(self)

    assert "inner" in Net().apply({})
    assert "inner" in dir(Net().bind({}))
    assert "inner" not in dir(Net())
