import pickle
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fx_core import config, errors
from fx_core.errors import (
    ApplyScopeInvalidVariablesStructureError,
    ApplyScopeInvalidVariablesTypeError,
    InvalidFilterError,
    LazyInitError,
    ScopeCollectionNotFound,
)
from fx_core.frozen_dict import FrozenDict, freeze
from fx_core.scope import DenyList, apply, bind, init, lazy_init
from hypothesis import given, settings
from hypothesis import strategies as st

KEY = jax.random.key(0)


def dense(scope, x):
    w = scope.param("w", jax.random.normal, (x.shape[-1], 2))
    count = scope.variable("state", "count", lambda: jnp.zeros(()))
    if scope.is_mutable_collection("state"):
        count.value += 1
    return x @ w


X = np.ones((1, 3), np.float32)
_, VARIABLES = init(dense)(KEY, X)


def test_init_gives_result_and_variables():
    y, variables = init(dense)({"params": KEY}, X)
    assert y.shape == (1, 2)
    assert {col: type(xs) for col, xs in variables.items()} == {"params": dict, "state": dict}
    assert (variables["params"]["w"] == VARIABLES["params"]["w"]).all()


def test_init_sets_its_flag():
    read = lambda scope: (scope.get_flag("initializing", False), scope.get_flag("a", 0))  # noqa: E731
    assert init(read, flags={"a": 1})(KEY)[0] == (True, 1)
    assert apply(read, flags={"a": 1})({}) == (False, 1)


def test_init_of_some_collections():
    with pytest.raises(ScopeCollectionNotFound, match="'state' is empty"):
        init(dense, mutable=["params"])(KEY, X)
    with pytest.raises(ScopeCollectionNotFound, match="'state' is empty"):
        init(dense, mutable=DenyList("state"))(KEY, X)


@pytest.mark.parametrize("kind", [dict, freeze])
def test_apply_returns_what_is_mutable(kind):
    variables = kind(VARIABLES)
    assert apply(dense)(variables, X).shape == (1, 2)
    _, updates = apply(dense, mutable=["state"])(variables, X)
    assert updates == {"state": {"count": 2}}
    assert type(updates) is type(updates["state"]) is dict
    assert VARIABLES["state"]["count"] == 1
    assert set(apply(dense, mutable=True)(variables, X)[1]) == {"params", "state"}
    assert apply(dense, mutable=[])(variables, X)[1] == {}
    assert apply(lambda scope: None, mutable=["params", "none"])(variables)[1].keys() == {"params"}


def test_other_mappings_are_copied():
    inner = {"n": 1}
    scope = bind({"state": types.MappingProxyType({"a": inner})}, mutable=True)
    scope.push("a").put_variable("state", "n", 2)
    assert inner == {"n": 1}
    assert scope.variables() == {"state": {"a": {"n": 2}}}


def test_a_flag_asks_for_frozen_results():
    with config.override(return_frozen_dict=True):
        assert type(apply(dense, mutable=["state"])(VARIABLES, X)[1]) is FrozenDict
        assert type(init(dense)(KEY, X)[1]) is FrozenDict


def test_arguments_are_handed_on():
    fn = lambda scope, *args, **kwargs: (args, kwargs)  # noqa: E731
    assert apply(fn)({}, 1, mutable=3) == ((1,), {"mutable": 3})
    assert init(fn)(KEY, 1, b=2)[0] == ((1,), {"b": 2})
    assert apply(dense).__name__ == "dense"


@pytest.mark.parametrize(
    "bad", [None, [1], jnp.ones(2), {"params": 3}, {"params": jnp.ones(2)}, {1: {}}, {"params": {1: 2}}]
)
@pytest.mark.parametrize("use", [apply(lambda scope: None), bind])
def test_what_is_no_dictionary_of_collections_raises(use, bad):
    with pytest.raises(ApplyScopeInvalidVariablesTypeError, match="must be a dictionary of collections"):
        use(bad)


@pytest.mark.parametrize("kind", [dict, freeze])
def test_params_inside_of_params_raise(kind):
    with pytest.raises(ApplyScopeInvalidVariablesStructureError, match="'params' inside of 'params'") as info:
        apply(dense)(kind({"params": VARIABLES}), X)
    assert "['params', 'state']" in info.value.got


@pytest.mark.parametrize("bad", [3, None])
@pytest.mark.parametrize("use", [lambda m: apply(dense, mutable=m)({}, X), lambda m: init(dense, mutable=m)(KEY, X)])
def test_bad_filters_raise(use, bad):
    with pytest.raises(InvalidFilterError, match="not a filter of collections"):
        use(bad)


names = st.text(alphabet="abc", min_size=1, max_size=2)
collections = st.dictionaries(names, st.one_of(st.none(), st.integers(), st.dictionaries(names, st.none())), max_size=3)


@settings(max_examples=50, deadline=None)
@given(st.dictionaries(names, collections, max_size=3))
def test_all_mutable_and_nothing_done_is_the_identity(variables):
    out = apply(lambda scope: scope.push(prefix="new_") and None, mutable=True)(variables)[1]
    assert out == variables
    assert all(out[col] is not variables[col] for col in variables)
    assert bind(variables).variables() == variables


def test_lazy_init_gives_the_bits_of_init():
    def network(scope, x, factor, label):
        x = scope.child(dense, "first")(x) * factor + len(label)
        return scope.child(dense, "second")(jax.nn.relu(x))

    lazy = lazy_init(network)(KEY, jax.ShapeDtypeStruct((1, 3), jnp.float32), jnp.ones((1, 2)), "text")
    _, eager = init(network)(KEY, X, jnp.ones((1, 2)), "text")
    assert jax.tree.structure(lazy) == jax.tree.structure(eager)
    assert all((a == b).all() for a, b in zip(jax.tree.leaves(lazy), jax.tree.leaves(eager)))


def test_lazy_init_computes_nothing_else():
    # A thousand terabytes of activations: nobody could compute those.
    def wide(scope, x):
        return scope.param("w", jax.random.normal, (2,)).sum() + (x @ x.T)

    huge = jax.ShapeDtypeStruct((2**25, 2**25), jnp.float32)
    assert lazy_init(wide)(KEY, huge)["params"]["w"].shape == (2,)


def test_lazy_init_looks_inside_of_loops_and_jits():
    def fn(scope, x):
        @jax.jit
        def both(key, x):
            return jax.random.normal(key, (2,)), x * 2

        w, x = both(scope.make_rng(), x)
        scope.put_variable("params", "w", w)
        _, stacked = jax.lax.scan(lambda c, k: (c * x, k * 2), x, jnp.arange(3))
        scope.put_variable("params", "stacked", stacked)
        return x

    variables = lazy_init(fn)(KEY, jax.ShapeDtypeStruct((), jnp.float32))
    assert variables["params"]["stacked"].tolist() == [0, 2, 4]
    assert (variables["params"]["w"] == init(fn)(KEY, 1.0)[1]["params"]["w"]).all()


def test_lazy_init_of_concrete_arguments_and_under_jit():
    for run in (lazy_init(dense), jax.jit(lazy_init(dense))):
        assert (run(KEY, X)["params"]["w"] == VARIABLES["params"]["w"]).all()
    jitted = jax.jit(lambda key: lazy_init(dense)(key, jax.ShapeDtypeStruct((1, 3), jnp.float32)))
    assert (jitted(KEY)["params"]["w"] == VARIABLES["params"]["w"]).all()


def test_lazy_init_names_the_variable_that_needs_a_value():
    def fn(scope, x):
        scope.param("fine", jax.random.normal, ())
        scope.push("in").put_variable("state", "first", x[0])

    with pytest.raises(LazyInitError, match="needs the value of an argument") as info:
        lazy_init(fn)(KEY, jax.ShapeDtypeStruct((3,), jnp.float32))
    assert (info.value.path, info.value.collection) == ("/in/first", "state")


def test_lazy_init_cannot_print_what_it_does_not_know():
    with pytest.raises(LazyInitError, match="an effect, such as printing"):
        lazy_init(lambda scope, x: jax.debug.print("{}", x))(KEY, jax.ShapeDtypeStruct((), jnp.float32))


SCOPE_ERRORS = [
    errors.ApplyScopeInvalidVariablesTypeError(),
    errors.ApplyScopeInvalidVariablesStructureError({"params": {"params": {}}}),
    errors.ImmutableVariableError("This one is fixed."),
    errors.InvalidFilterError(3),
    errors.InvalidRngError("No key."),
    errors.InvalidScopeError("a"),
    errors.JaxTransformError(),
    errors.LazyInitError(None),
    errors.ModifyScopeVariableError("state", "c", "/a"),
    errors.NameInUseError("param", "w", "/a"),
    errors.ScopeCollectionNotFound("state", "c", "/a"),
    errors.ScopeParamNotFoundError("w", "/a"),
    errors.ScopeParamShapeError("w", "/a", (1,), (2,)),
    errors.ScopeVariableNotFoundError("c", "state", "/a"),
    errors.TraceContextError("Another trace."),
]


@pytest.mark.parametrize("error", SCOPE_ERRORS, ids=lambda error: type(error).__name__)
def test_errors_tell_what_to_do_and_pickle(error):
    assert "what to do: " in str(error)
    back = pickle.loads(pickle.dumps(error))
    assert (type(back), str(back)) == (type(error), str(error))
