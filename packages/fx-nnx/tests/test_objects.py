import dataclasses
import functools
import inspect

import fx_nnx as nnx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fx_core.errors import TraceContextError
from fx_core.errors.ops import ArgumentError
from fx_nnx.errors import ArgumentTypeError, HiddenDataError, NnxError


class Pair(nnx.Module):
    def __init__(self):
        self.left, self.right, self.n = nnx.Param(jnp.ones(2)), jnp.zeros(3), 1


def test_modules_are_pytrees():
    pair = Pair()
    doubled = jax.tree.map(lambda x: 2 * x, pair)
    assert isinstance(doubled, Pair)
    assert (doubled.n, doubled.left[0]) == (1, 2)
    path, _ = jax.tree_util.tree_leaves_with_path(pair)[0]
    assert jax.tree_util.keystr(path) == ".left.value"
    assert jax.jit(lambda p: p.left + p.n)(pair)[0] == 2


def test_hidden_data_is_found():
    pair = Pair()
    for value in ([nnx.Param(1.0)], {"a": (1, jnp.ones(1))}, (Pair(),)):
        with pytest.raises(HiddenDataError, match="'bad' of Pair is static, but its"):
            pair.bad = value

    class Late(nnx.Module):
        def __init__(self):
            self.layers = []
            self.layers.append(nnx.Param(1.0))

    with pytest.raises(HiddenDataError, match="a list with Param"):
        Late()
    late = Pair()
    late.names = []
    late.names.append(jnp.ones(1))
    with pytest.raises(HiddenDataError, match=r"nnx\.List or nnx\.Dict"):
        nnx.check_pytree(late)

    class Free(nnx.Module, pytree=False):
        def __init__(self):
            self.layers = [nnx.Param(1.0)]

    assert len(Free().layers) == 1


def test_declarations():
    class Declared(nnx.Module):
        table: list = nnx.data()
        rate: float = nnx.static()

        def __init__(self):
            self.table = [nnx.Param(1.0)]
            self.rate = 0.5
            self.more = nnx.data({"x": jnp.ones(1)})
            self.fixed = nnx.static((1, 2))

    declared = Declared()
    assert set(nnx.state(declared)) == {"table", "more"}
    with pytest.raises(TypeError, match="need a value on assignment"):
        declared.other = nnx.data()


def test_kinds_stay():
    pair = Pair()
    with pytest.raises(NnxError, match="static attribute 'n' of Pair"):
        pair.n = nnx.Param(1.0)
    pair.n = nnx.data(nnx.Param(1.0))
    pair.left = 3
    assert set(nnx.state(pair)) == {"left", "right", "n"}
    linear = nnx.Linear(1, 1, use_bias=False, rngs=nnx.Rngs(0))
    linear.bias = nnx.Param(jnp.ones(1))
    assert linear(jnp.zeros((1, 1)))[0, 0] == 1


def test_what_counts_as_data():
    assert nnx.is_data(nnx.Rngs(0))
    assert nnx.is_data(nnx.State({}))
    assert not nnx.is_data(3)
    assert len(nnx.has_data([jnp.ones(1), {"a": nnx.Param(1)}, 3])) == 2

    @nnx.register_data_type
    @jax.tree_util.register_dataclass
    @dataclasses.dataclass
    class Mine:
        x: jax.Array

    pair = Pair()
    pair.mine = Mine(jnp.ones(1))
    assert nnx.state(pair).mine.x.shape == (1,)
    assert isinstance(nnx.clone(pair).mine, Mine)


def test_vars_properties_and_cached_properties():
    class Odd(Pair):
        @property
        def twice(self):
            return 2 * self.n

        @twice.setter
        def twice(self, value):
            self.n = value // 2

        @functools.cached_property
        def slow(self):
            return 42

    odd = Odd()
    odd.twice = 8
    assert (odd.n, odd.slow, odd.slow) == (4, 42, 42)
    assert vars(odd)["slow"] == 42
    vars(odd)["n"] = 7
    assert odd.n == 7
    assert "left" in dir(odd)
    del odd.slow
    assert "slow" not in vars(odd)


def test_dataclass():
    @nnx.dataclass
    class Data(nnx.Module):
        width: int
        kernel: nnx.Param
        items: list = nnx.data(default_factory=list)
        name: str = nnx.static(default="x", kw_only=True)

    made = Data(3, nnx.Param(jnp.ones(1)), name="y")
    made.items.append(nnx.Param(jnp.ones(2)))
    assert (made.width, made.name) == (3, "y")
    assert set(nnx.state(made)) == {"kernel", "items"}


def test_list():
    items = nnx.List([nnx.Param(1.0), 2])
    items.append(nnx.Param(3.0))
    items.insert(0, 9)
    items[1] = 4
    items[0:2] = [nnx.Param(5.0)]
    assert len(items) == 3
    assert set(nnx.state(items)) == {0, 2}
    items.reverse()
    assert items.pop().get_value() == 5
    del items[0]
    assert list(items) == [2]
    with pytest.raises(IndexError, match="index 3 of a List of 1 items"):
        items[3]
    with pytest.raises(HiddenDataError):
        items.append([jnp.ones(1)])
    assert items != [2]
    assert repr(nnx.List([1])) == "List([\n  1\n])"


def test_dict():
    names = nnx.Dict({"a": 1}, b=nnx.Param(2.0))
    names["c"] = 3
    names.d = 4
    del names["a"]
    assert list(names) == ["b", "c", "d"]
    assert names.get("zz") is None
    with pytest.raises(TypeError, match=r"strings.\n.*\n  got: 1"):
        names[1] = 2
    with pytest.raises(KeyError):
        names["zz"]


def test_sequential():
    chain = nnx.Sequential(lambda x: {"a": x, "b": 1}, lambda a, b: (a, b), lambda a, b: a + b)
    assert chain(2) == 3
    assert nnx.Sequential()(1) == 1
    assert nnx.Sequential()(1, 2) == (1, 2)
    assert nnx.Sequential()(a=1) == {"a": 1}
    assert nnx.Sequential()() is None
    with pytest.raises(ArgumentError, match="Sequential has no layers to call"):
        nnx.Sequential()(1, a=1)


def test_sequential_hands_streams_to_each_layer_that_takes_some():
    class Block(nnx.Module):
        def __init__(self):
            self.dropout = nnx.Dropout(0.5)

        def __call__(self, x, *, rngs=None):
            return self.dropout(x, rngs=rngs)

    inner = nnx.Sequential(lambda x, **more: x, nnx.Dropout(0.5, rngs=nnx.Rngs(3)), jnp.asarray)
    given, same = nnx.Rngs(7), nnx.Rngs(7)
    out = nnx.Sequential(jnp.copy, Block(), lambda x: {"x": x}, inner)(jnp.ones((4, 8)), rngs=given)
    x = nnx.Dropout(0.5)(jnp.ones((4, 8)), rngs=same)
    np.testing.assert_array_equal(out, nnx.Dropout(0.5)(x, rngs=same))
    assert inner.layers[1].rngs.count[...] == 0


def test_sow_and_perturb():
    class Seen(nnx.Module):
        def __call__(self, x):
            x = self.perturb("delta", x)
            self.sow(nnx.Intermediate, "h", x)
            self.sow("intermediates", "last", x, reduce_fn=lambda old, new: new, init_fn=lambda: None)
            self.sow(nnx.Intermediate, "nothing", x, capture_noop=True)
            return 3 * x

    seen = Seen()
    seen(jnp.ones(2))
    seen(jnp.ones(2))
    assert len(seen.h.get_value()) == 2
    assert seen.last.shape == (2,)
    assert not hasattr(seen, "nothing")
    graphdef, deltas, rest = nnx.split(seen, nnx.Perturbation, ...)
    loss = lambda deltas: nnx.merge(graphdef, deltas, rest, copy=True)(jnp.ones(2)).sum()  # noqa: E731
    np.testing.assert_array_equal(jax.grad(loss)(deltas)["delta"][...], [3, 3])
    with pytest.raises(TypeError, match=r"Seen\.h: expected Param, got Intermediate"):
        seen.sow(nnx.Param, "h", 1)


def test_set_attributes_train_eval():
    model = nnx.Sequential(nnx.Dropout(0.5), nnx.BatchNorm(1, rngs=nnx.Rngs(0)), nnx.Dropout(0.1))
    model.eval()
    assert model.layers[0].deterministic
    assert model.layers[1].use_running_average
    model.train()
    model.set_attributes(nnx.PathContains(2), deterministic=True)
    assert [model.layers[0].deterministic, model.layers[2].deterministic] == [False, True]
    with pytest.raises(NnxError, match="'zork'"):
        model.set_attributes(zork=1)
    model.set_attributes(zork=1, raise_if_not_found=False)


def test_repr_of_cycles_ends():
    pair = Pair()
    pair.me = pair
    assert "me=Pair(...)" in repr(pair)
    assert repr(nnx.state(pair)).startswith("State({")


HIDDEN = {
    "array": lambda: jnp.ones(1),
    "numpy": lambda: np.ones(1),
    "key": lambda: jax.random.key(0),
    "variable": lambda: nnx.Param(jnp.ones(1)),
    "module": lambda: nnx.Linear(1, 1, rngs=nnx.Rngs(0)),
    "list": lambda: [np.ones(1)],
    "tuple": lambda: (jnp.ones(1),),
    "dict": lambda: {"a": {"b": np.ones(1)}},
    "list of variables": lambda: [[nnx.Param(jnp.ones(1))]],
    "pytree": lambda: jax.tree_util.Partial(len, jnp.ones(1)),
    "split": lambda: nnx.split(nnx.Linear(1, 1, rngs=nnx.Rngs(0))),
}


class Declared(nnx.Pytree):
    by_field: object = nnx.static()
    by_annotation: nnx.Static[object]


@pytest.mark.parametrize("name", HIDDEN)
def test_no_data_where_it_would_not_be_found(name):
    value, owner = HIDDEN[name](), Declared()
    for attribute in ("by_field", "by_annotation"):
        with pytest.raises(ValueError, match=f"(static, but its|static attribute).*{attribute}|{attribute}"):
            setattr(owner, attribute, value)
        assert attribute not in vars(owner)
    with pytest.raises(ValueError, match=r"Declared\.wrapped"):
        owner.wrapped = nnx.static(value)
    owner.first = 1
    with pytest.raises(ValueError, match=r"Declared\.first"):
        owner.first = value
    if not nnx.is_data(value):
        with pytest.raises(ValueError, match=r"Declared\.fresh"):
            owner.fresh = value
    owner.kept = nnx.data(value)
    assert jax.tree.leaves(owner)


@pytest.mark.parametrize("value", [np.ones(1), jnp.ones(1), nnx.Param(1)], ids=["numpy", "array", "variable"])
@pytest.mark.parametrize("first", [list, dict, lambda: nnx.static([])], ids=["list", "dict", "static"])
def test_data_put_into_a_container_later_is_found_after_init(first, value):
    class Late(nnx.Pytree):
        def __init__(self):
            self.a = first()
            self.a.update(x=value) if isinstance(self.a, dict) else self.a.append(value)

    with pytest.raises(ValueError, match=r"The attribute .a. of Late is static, but its "):
        Late()
    plain = nnx.Dict(a=first())
    plain.a.update(x=value) if isinstance(plain.a, dict) else plain.a.append(value)
    with pytest.raises(ValueError, match="The attribute 'a' of Dict"):
        nnx.check_pytree(plain)


def test_shapes_may_be_static():
    owner = Declared()
    owner.by_field = jax.ShapeDtypeStruct((2,), jnp.float32)
    assert not jax.tree.leaves(owner)


def test_without_pytrees_data_counts_although_it_is_declared_static():
    class Loose(nnx.Object):
        a: nnx.Static[object]

    loose = Loose()
    loose.a, loose.b = nnx.Param(jnp.ones(1)), nnx.static([jnp.ones(1)])
    assert nnx.to_flat_state(nnx.state(loose)).paths == (("a",), ("b", 0))


def test_what_an_assignment_declares_holds_for_later_ones():
    class Declared(nnx.Pytree):
        a: nnx.Data[int]
        b: nnx.Static[int]

        def __init__(self):
            self.a, self.b = 1, 2

    declared = Declared()
    assert jax.tree.leaves(declared) == [1]
    declared.a = nnx.static(3)
    declared.a = 4
    declared.b = nnx.data(5)
    declared.b = 6
    assert jax.tree.leaves(declared) == [6]
    with pytest.raises(ValueError, match="attribute 'a' of Declared is static, but its list holds data"):
        declared.a = ["text", jnp.ones(1)]
    with pytest.raises(NnxError, match="static attribute 'a' of Declared"):
        declared.a = jnp.ones(1)


def test_a_change_in_another_trace_is_the_error_of_all_scopes_and_modules():
    model = nnx.Dict(a=nnx.Param(1))
    with pytest.raises(TraceContextError, match="Cannot change Dict from a different trace level"):
        jax.jit(lambda: setattr(model, "a", 2))()


def test_classes_have_the_signature_of_their_initializer():
    class Layer(nnx.Module):
        def __init__(self, features: int, *, rngs: nnx.Rngs):
            self.features = features

    assert str(inspect.signature(Layer)) == "(features: int, *, rngs: fx_nnx.rngs.rngs.Rngs)"
    assert list(inspect.signature(nnx.Linear).parameters)[:2] == ["in_features", "out_features"]
    assert list(inspect.signature(nnx.Linear(2, 3, rngs=nnx.Rngs(0))).parameters) == ["inputs", "out_sharding"]


class Unwritten(nnx.Module):
    width: int = 3


@pytest.mark.parametrize(
    ("make", "given"),
    [(lambda: Unwritten(5), "5"), (lambda: Unwritten(width=5), "width=5"), (lambda: nnx.Metric(2), "2")],
)
def test_classes_without_an_initializer_take_no_arguments(make, given):
    with pytest.raises(TypeError, match=f"takes no arguments(.|\\n)*got: {given}(.|\\n)*nnx.dataclass"):
        make()
    assert Unwritten().width == 3


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: nnx.merge(3, {}), "the structure of a model first"),
        (lambda: nnx.merge((3, {})), "the structure of a model first"),
        (lambda: nnx.update(nnx.Dict(a=nnx.Param(1)), 3), "nnx.update takes states"),
        (lambda: nnx.update(nnx.Dict(a=nnx.Param(1)), [1]), "nnx.update takes states"),
        (lambda: nnx.WeightNorm(3, rngs=nnx.Rngs(0)), "the weights of a layer"),
        (lambda: nnx.SpectralNorm(3, rngs=nnx.Rngs(0)), "the weights of a layer"),
        (lambda: nnx.custom_vjp(3), "something else than a function"),
        (lambda: nnx.Dict({1: 2}), "keys of a Dict are strings"),
    ],
)
def test_wrong_kinds_of_arguments_are_errors_of_types(call, text):
    with pytest.raises(ArgumentTypeError, match=text) as caught:
        call()
    assert isinstance(caught.value, TypeError)


def test_values_with_metadata_may_be_attributes():
    pair = Pair()
    pair.made = nnx.with_metadata(lambda: nnx.Param(jnp.ones(2)), axes=("a",))()  # as qwix does before it initializes
    assert pair.made.metadata == {"axes": ("a",)}
    assert len(jax.tree.leaves(nnx.state(pair))) == 2


def test_streams_that_are_missing_are_missing_items_and_attributes():
    rngs = nnx.Rngs(params=0)
    with pytest.raises(KeyError, match="no RNG stream 'noise'"):
        _ = rngs["noise"]
    with pytest.raises(AttributeError, match="no RNG stream 'noise'"):
        _ = rngs.noise
    with pytest.raises(AttributeError, match="no RNG stream 'default'"):
        rngs()
    assert not hasattr(rngs, "noise")
