import weakref

import jax
import jax.numpy as jnp
import pytest
from fx_core import meta
from fx_core.errors import (
    ApplyScopeInvalidVariablesTypeError,
    ArgumentError,
    ArgumentTypeError,
    InvalidRngError,
    InvalidScopeError,
    ModifyScopeVariableError,
    NameInUseError,
    ScopeCollectionNotFound,
    ScopeParamNotFoundError,
    ScopeParamShapeError,
    ScopeVariableNotFoundError,
)
from fx_core.scope import DenyList, Scope, bind

KEY = jax.random.key(0)


def ones(key, shape):
    return jnp.ones(shape)


def make(mutable=("state",), **rngs):
    variables = {"params": {"w": jnp.ones(2), "sub": {"z": jnp.zeros(3)}}, "state": {"c": 0}}
    return bind(variables, rngs, mutable=mutable)


def test_existing_parameters_are_given_without_a_key():
    scope = make()
    assert scope.param("w", ones, (2,)).shape == (2,)
    assert scope.push("sub").param("z", ones, (3,)).tolist() == [0, 0, 0]


def test_new_parameters_are_drawn_in_order_of_creation():
    scope = make(mutable=True, params=KEY)
    twin = bind({}, {"params": KEY})
    for name in ("a", "b"):
        drawn = scope.param(name, jax.random.normal, (2,))
        assert (drawn == jax.random.normal(twin.make_rng(), (2,))).all()
    assert scope.param("kw", lambda key, a, b=0: a + b, 3, b=4) == 7


def test_an_existing_parameter_does_not_draw():
    scope = make(mutable=True, params=KEY)
    scope.param("w", ones, (2,))
    assert scope.rng_counters == {"params": 0}


def test_missing_parameters_say_what_there_is():
    with pytest.raises(ScopeParamNotFoundError, match="Could not find parameter 'q'") as info:
        make().push("sub").param("q", ones, ())
    assert (info.value.path, info.value.collection, info.value.got) == ("/sub", "params", ["z"])
    with pytest.raises(ScopeCollectionNotFound, match="collection 'params' is empty") as info:
        bind({}).param("q", ones, ())
    assert info.value.path == "/"


def test_a_new_parameter_needs_a_key():
    with pytest.raises(InvalidRngError, match="A key of the stream 'params' is needed"):
        bind({}, mutable=True).param("q", ones, ())


@pytest.mark.parametrize(
    ("init_fn", "want"),
    [
        (lambda key: jnp.ones(3), (3,)),
        (lambda key: jnp.ones((2, 1)), (2, 1)),
        (lambda key: (jnp.ones(2), jnp.ones(1)), [(2,), (1,)]),
    ],
)
def test_shapes_are_compared(init_fn, want):
    with pytest.raises(ScopeParamShapeError, match="another shape than its initializer makes") as info:
        make().param("w", init_fn)
    assert (info.value.path, info.value.expected, info.value.got) == ("/", want, (2,))


def test_shapes_are_compared_at_every_call():
    for _ in range(2):
        make().param("w", ones, (2,))
        with pytest.raises(ScopeParamShapeError, match="another shape"):
            make().param("w", ones, (3,))


def test_initializers_that_are_not_pure_are_not_accused():
    size = 3

    def init_fn(key):
        return jnp.ones(size)

    with pytest.raises(ScopeParamShapeError, match="another shape"):
        make().param("w", init_fn)
    size = 2
    assert make().param("w", init_fn).shape == (2,)


def test_dtypes_may_differ():
    assert make().param("w", lambda key: jnp.ones(2, jnp.int32)).dtype == jnp.float32


def test_variables_are_created_read_and_written():
    scope = make()
    new = scope.variable("state", "n", lambda a, b: a + b, 1, b=2)
    assert new.value == 3
    new.value += 1
    assert scope.get_variable("state", "n") == 4
    assert scope.variable("state", "c").value == 0
    assert new.is_mutable()
    assert (new.collection, new.name, new.unbox) == ("state", "n", True)
    assert repr(new) == "Variable('state', 'n', scope='/')"


def test_missing_variables_raise():
    scope = make()
    with pytest.raises(ScopeVariableNotFoundError, match="no variable 'q' in the collection 'state'") as info:
        scope.variable("state", "q")
    assert info.value.got == ["c"]
    with pytest.raises(ScopeVariableNotFoundError, match="no variable 'q' in the collection 'params'"):
        scope.variable("params", "q", lambda: 1)
    with pytest.raises(ScopeCollectionNotFound, match="the collection 'none' is empty"):
        scope.variable("none", "q", lambda: 1)


@pytest.mark.parametrize("write", [lambda s: s.put_variable("params", "w", 1), lambda s: set_value(s)])
def test_immutable_collections_cannot_be_written(write):
    with pytest.raises(ModifyScopeVariableError, match=r"Cannot update variable 'w'.*'params' is immutable") as info:
        write(make())
    assert (info.value.path, info.value.collection) == ("/", "params")
    assert "mutable=['params']" in info.value.fix


def set_value(scope):
    scope.variable("params", "w").value = 1


def test_inner_scopes_write_into_the_same_tree():
    scope = make()
    inner = scope.push("a").push("b")
    assert inner.variables() == {}
    inner.put_variable("state", "n", 1)
    assert scope.variables()["state"] == {"c": 0, "a": {"b": {"n": 1}}}
    assert inner.variables() == inner.mutable_variables() == {"state": {"n": 1}}
    scope.put_variable("state", "a", {"b": {"n": 2}})
    assert inner.get_variable("state", "n") == 2


def test_questions():
    scope = make()
    assert scope.has_variable("state", "c")
    assert not scope.has_variable("state", "d")
    assert not scope.has_variable("none", "c")
    assert scope.get_variable("none", "c", 5) == 5
    assert scope.is_mutable_collection("state")
    assert not scope.is_mutable_collection("params")
    assert scope.is_collection_empty("none")
    assert not scope.push("a").is_collection_empty("params")
    assert set(scope.mutable_variables()) == {"state"}
    assert bind({"a": {}, "b": {}}, mutable=DenyList("a")).mutable_variables() == {"b": {}}


def test_an_array_where_an_inner_scope_should_be():
    with pytest.raises(ApplyScopeInvalidVariablesTypeError, match="must be a dictionary of collections") as info:
        make().push("w").param("z", ones, ())
    assert info.value.path == "/w"


def test_names():
    scope = make(mutable=True, params=KEY)
    assert [scope.push(prefix=p).name for p in ("A_", "A_", "B_", "")] == ["A_0", "A_1", "B_0", "0"]
    scope.variable("state", "n", lambda: 1)
    scope.param("n", ones, ())
    with pytest.raises(NameInUseError, match="Could not create scope 'n'") as info:
        scope.push("n")
    assert info.value.path == "/"
    with pytest.raises(NameInUseError, match="Could not create parameter 'n'") as info:
        scope.param("n", ones, ())
    assert info.value.collection == "params"
    scope.reserve("kid")
    with pytest.raises(NameInUseError, match="'kid'"):
        scope.variable("state", "kid", lambda: 1)
    assert scope.name_reserved("n", "params")
    assert not scope.name_reserved("n", "cache")
    with pytest.raises(ArgumentTypeError, match="must be a string") as name_info:
        scope.push(3)
    assert name_info.value.got == "int: 3"


def test_pushing_again_reaches_the_same_variables():
    scope = make()
    scope.push("x").put_variable("state", "n", 1)
    assert scope.push("x", reuse=True).get_variable("state", "n") == 1


def test_a_rewound_scope_has_no_names_and_the_same_variables():
    scope = make()
    scope.reserve("u")
    again = scope.rewound()
    again.reserve("u")
    again.put_variable("state", "c", 6)
    assert scope.get_variable("state", "c") == 6
    assert again == scope
    assert hash(again) == hash(scope)
    assert scope != make()
    inner = scope.push("kid")
    assert inner.rewound().parent is scope
    assert inner.rewound().path == ("kid",)
    assert inner.root is scope


def test_children_are_called_again_on_the_same_variables():
    scope = bind({}, {"params": KEY}, mutable=True)

    def layer(scope, x, factor=1):
        return scope.param("w", jax.random.normal, ()) * x * factor

    kid = scope.child(layer, factor=2)
    assert kid(1.0) == kid(1.0)
    assert kid.__name__ == "layer"
    assert scope.child(lambda scope: scope.name, "nm")() == "nm"
    assert scope.child(lambda scope: scope.name, prefix="p")() == "p0"
    assert scope.child(layer, named_call=False)(1.0) != 0
    assert list(scope.variables()["params"]) == ["layer_0", "layer_1"]


def test_children_show_in_programs():
    def run(x):
        return bind({}).child(lambda scope, x: jnp.sin(x), "encoder")(x)

    (eqn,) = jax.make_jaxpr(run)(1.0).eqns
    assert str(eqn.source_info.name_stack) == "encoder"


def test_paths():
    scope = Scope({}, path=("x", "y"), debug_path=("vmap(x)", "y"))
    inner = scope.push("z")
    assert inner.path == ("x", "y", "z")
    assert inner.path_text == "/vmap(x)/y/z"
    assert bind({}).path_text == "/"
    assert repr(inner) == "Scope('/vmap(x)/y/z', mutable=False, rngs=[])"


def test_flags():
    scope = bind({}, flags={"train": True}).push("a")
    assert scope.has_flag("train")
    assert scope.get_flag("train") is True
    assert scope.get_flag("q", 3) == 3
    with pytest.raises(ArgumentError, match="no flag 'q'") as info:
        scope.get_flag("q")
    assert (info.value.path, info.value.expected) == ("/a", "one of ['train']")


CHANGES = {
    "param": lambda s: s.param("new", ones, ()),
    "variable": lambda s: s.variable("state", "new", lambda: 1),
    "put_variable": lambda s: s.put_variable("state", "c", 1),
    "make_rng": lambda s: s.make_rng(),
    "push": lambda s: s.push("new"),
    "child": lambda s: s.child(lambda s: None),
}


@pytest.mark.parametrize("change", [*CHANGES.values(), lambda s: s.rewound()], ids=[*CHANGES, "rewound"])
@pytest.mark.parametrize("inner", [False, True])
def test_a_scope_that_has_ended_cannot_be_used(change, inner):
    with make(mutable=True, params=KEY).temporary() as scope:
        used = scope.push("inner") if inner else scope
        assert not used.invalid
    assert used.invalid
    with pytest.raises(InvalidScopeError, match="is no longer valid") as info:
        change(used)
    assert info.value.path == ("/inner" if inner else "/")
    assert scope.get_variable("state", "c") == 0


def test_a_scope_ends_also_when_its_block_raises():
    scope = make()
    with pytest.raises(KeyError), scope.temporary():
        raise KeyError
    assert scope.invalid


def boxed(key=None):
    return meta.Partitioned(jnp.ones((2, 2)), ("a", None))


@pytest.mark.parametrize("unbox", [True, False])
def test_metadata_stays_in_the_collection(unbox):
    scope = bind({}, {"params": KEY}, mutable=True)
    value = scope.param("w", boxed, unbox=unbox)
    assert isinstance(value, meta.Partitioned) is not unbox
    assert isinstance(scope.get_variable("params", "w"), meta.Partitioned)
    variable = scope.variable("state", "w", boxed, unbox=unbox)
    assert isinstance(variable.value, meta.Partitioned) is not unbox
    variable.value = jnp.zeros((2, 2))
    assert isinstance(scope.get_variable("state", "w"), meta.Partitioned) is unbox


def test_an_unboxed_array_serves_for_a_boxed_parameter():
    scope = bind({"params": {"w": jnp.ones((2, 2)), "v": jnp.ones((2, 3))}})
    assert scope.param("w", boxed).shape == (2, 2)
    with pytest.raises(ScopeParamShapeError, match="another shape"):
        scope.param("v", boxed)


def test_parameters_that_are_passed_as_variables_are_recognized():
    with pytest.raises(ScopeCollectionNotFound, match=r"the collections \['dense', 'out'\]") as info:
        bind({"dense": {"w": 1.0}, "out": {"w": 1.0}}).push("dense").param("w", ones, ())
    assert '{"params": params}' in info.value.fix


def test_the_stream_of_parameters_is_named_once():
    with pytest.raises(InvalidRngError) as info:
        bind({}, mutable=True).make_rng("params")
    assert info.value.expected == "a key for 'params'"
    with pytest.raises(InvalidRngError) as info:
        bind({}, mutable=True).make_rng("dropout")
    assert info.value.expected == "a key for 'dropout' or for 'params'"


def test_scopes_and_variables_take_weak_references():
    scope = bind({"params": {"w": 1}}, mutable=["state"])
    variable = scope.variable("state", "x", lambda: 2)
    for thing in (scope, variable):
        assert weakref.ref(thing)() is thing


def test_collections_under_the_names_that_quantizers_use():
    scope = bind({"params": {"a": {"w": 1}}}, mutable=["state"])
    inner = scope.push("a")
    assert dict(inner._collection("params")) == {"w": 1}
    inner.put_variable("state", "x", 2)
    assert inner._mutable_collection("state").pop("x") == 2
    assert not inner.has_variable("state", "x")
    with pytest.raises(ModifyScopeVariableError):
        inner._mutable_collection("params")
