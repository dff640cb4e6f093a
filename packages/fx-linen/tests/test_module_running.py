"""init, apply, bind and what methods can ask their module."""

import fx_linen as nn
import jax
import jax.numpy as jnp
import pytest
from fx_core import errors
from fx_core.scope import DenyList

KEY = jax.random.key(0)


X = jnp.ones((1, 3))


class Affine(nn.Module):
    features: int = 2

    def setup(self):
        self.w = self.param("w", jax.nn.initializers.normal(), (3, self.features))

    def __call__(self, x):
        return x @ self.w

    def sum(self, x):
        return self(x).sum()


class Net(nn.Module):
    def setup(self):
        self.inner = Affine()

    def __call__(self, x):
        return self.inner(x)

    def encode(self, x, scale=1.0):
        return self.inner(x) * scale


def test_init_and_apply():
    variables = Net().init(KEY, X)
    assert jax.tree.map(jnp.shape, variables) == {"params": {"inner": {"w": (3, 2)}}}
    expected = X @ variables["params"]["inner"]["w"]
    assert jnp.array_equal(Net().apply(variables, X), expected)
    y, again = Net().init_with_output({"params": KEY}, X)
    assert jnp.array_equal(y, expected)
    assert jax.tree.all(jax.tree.map(jnp.array_equal, again, variables))
    assert jnp.array_equal(jax.jit(Net().apply)(variables, X), expected)


@pytest.mark.parametrize(
    "method",
    ["encode", Net.encode, Net().encode, lambda m, x, scale: m.encode(x, scale=scale)],
    ids=["name", "function", "bound", "lambda"],
)
def test_other_methods(method):
    variables = Net().init(KEY, X, scale=2.0, method=method)
    y = Net().apply(variables, X, scale=2.0, method=method)
    assert jnp.array_equal(y, 2 * Net().apply(variables, X))


def test_methods_that_cannot_be_run():
    with pytest.raises(errors.ApplyModuleInvalidMethodError, match="3"):
        Net().apply({}, X, method=3)
    with pytest.raises(AttributeError, match='no attribute "nope"'):
        Net().apply({}, X, method="nope")
    with pytest.raises(TypeError, match=r"'Net.name' must be a callable"):
        Net().apply({}, X, method="name")


def test_function_forms():
    def both(module, x):
        return module(x), module.encode(x, 2.0)

    variables = nn.init(both, Net())(KEY, X)
    (a, b), state = nn.apply(both, Net(), capture_intermediates=True)(variables, X)
    assert jnp.array_equal(2 * a, b)
    assert set(state["intermediates"]) == {"__call__", "inner"}
    out, again = nn.init_with_output(both, Net())(KEY, X)
    assert jnp.array_equal(out[0], a)
    assert jax.tree.all(jax.tree.map(jnp.array_equal, again, variables))


def test_lazy_init_takes_shapes():
    lazy = Net().lazy_init(KEY, jax.ShapeDtypeStruct((1, 3), jnp.float32))
    assert jax.tree.all(jax.tree.map(jnp.array_equal, lazy, Net().init(KEY, X)))


def test_unbound_and_class_calls():
    class Compact(nn.Module):
        @nn.compact
        def __call__(self, x):
            return x

    with pytest.raises(errors.CallCompactUnboundModuleError, match="without variables cannot be called"):
        Compact()(X)
    with pytest.raises(errors.CallSetupUnboundModuleError, match="called on a module without variables"):
        Net().setup()
    with pytest.raises(AttributeError, match='no attribute "inner"'):
        Net()(X)
    for run in (Net.init, Net.apply, Net.init_with_output):
        with pytest.raises(errors.InvalidInstanceModuleError, match="are called on instances"):
            run(KEY, X)
    with pytest.raises(errors.CallUnbindOnUnboundModuleError, match="Only a bound module can be unbound"):
        Net().unbind()


@pytest.mark.parametrize(
    "ask",
    [
        lambda m: m.path,
        lambda m: m.variables,
        lambda m: m.has_variable("a", "b"),
        lambda m: m.get_variable("a", "b"),
        lambda m: m.put_variable("a", "b", 1),
        lambda m: m.param("a", jnp.ones, ()),
        lambda m: m.variable("a", "b", jnp.ones, ()),
        lambda m: m.sow("a", "b", 1),
        lambda m: m.perturb("a", X),
        lambda m: m.has_rng("a"),
        lambda m: m.make_rng("a"),
        lambda m: m.is_initializing(),
        lambda m: m.is_mutable_collection("a"),
    ],
)
def test_unbound_modules_have_no_variables(ask):
    with pytest.raises(ValueError, match="An unbound Net cannot"):
        ask(Net())


def test_wrong_keys():
    with pytest.raises(errors.InvalidRngError, match="RNGs should be"):
        Net().init("a", X)
    with pytest.raises(
        errors.InvalidRngError, match=r"where: Net\n.*\n  got: an array of shape \(4,\) and dtype float32"
    ):
        Net().init(jnp.ones(4), X)
    with pytest.raises(errors.InvalidRngError):
        Net().init({}, X)


def test_bind_and_unbind():
    variables = Net().init(KEY, X)
    bound = Net().bind(variables)
    assert jnp.array_equal(bound.encode(X), Net().apply(variables, X))
    assert bound.inner.path == ("inner",)
    assert bound.inner.variables == {"params": variables["params"]["inner"]}
    inner, own = bound.inner.unbind()
    assert inner.scope is None
    assert inner.name is None
    assert jnp.array_equal(inner.apply(own, X), bound(X))


def test_asking_the_scope():
    class Asking(nn.Module):
        @nn.compact
        def __call__(self):
            count = self.variable("state", "count", lambda: 0)
            count.value += 1
            assert self.get_variable("state", "count") == count.value
            assert self.get_variable("state", "nope", 7) == 7
            return (
                self.is_initializing(),
                self.has_rng("dropout"),
                self.is_mutable_collection("state"),
                self.has_variable("state", "count"),
            )

    asked, variables = Asking().init_with_output({"params": KEY, "dropout": KEY})
    assert asked == (True, True, True, True)
    assert variables == {"state": {"count": 1}}
    asked, state = Asking().apply(variables, mutable=["state"])
    assert asked == (False, False, True, True)
    assert state == {"state": {"count": 2}}
    with pytest.raises(errors.ModifyScopeVariableError, match="state"):
        Asking().apply(variables)


def test_put_variable_outside_of_compact_methods():
    class Counter(nn.Module):
        def __call__(self):
            self.put_variable("state", "n", self.get_variable("state", "n", 0) + 1)

    assert Counter().apply({}, mutable=["state"])[1] == {"state": {"n": 1}}


def test_variables_must_be_made_in_the_right_place():
    class Wrong(nn.Module):
        def __call__(self, x):
            return self.param("a", jnp.ones, ())

        def other(self):
            return self.variable("state", "b", jnp.ones, ())

        def sub(self, x):
            return Affine()(x)

    with pytest.raises(ValueError, match="Parameters must be initialized in `setup"):
        Wrong().init(KEY, X)
    with pytest.raises(errors.ArgumentError, match="Variables must be initialized in `setup"):
        Wrong().init(KEY, method="other")
    with pytest.raises(errors.AssignSubModuleError, match="Affine"):
        Wrong().init(KEY, X, method="sub")


def test_wrong_parents():
    with pytest.raises(ValueError, match="parent must be None, Module or Scope"):
        Affine(parent=4)
    with pytest.raises(errors.ArgumentError, match="an unbound Net"):
        Affine(parent=Net())


def test_keys_differ_between_calls_and_are_the_same_in_each_run():
    class Keys(nn.Module):
        @nn.compact
        def __call__(self):
            return jnp.stack([jax.random.key_data(self.make_rng("dropout")) for _ in range(2)])

    class Outer(nn.Module):
        @nn.compact
        def __call__(self):
            keys = Keys()
            return jnp.concatenate([keys(), keys(), Keys()()])

    drawn = Outer().apply({}, rngs={"dropout": KEY})
    assert len({tuple(key) for key in drawn.tolist()}) == 6
    assert jnp.array_equal(drawn, Outer().apply({}, rngs={"dropout": KEY}))
    assert jnp.array_equal(drawn, Outer().apply({}, rngs=KEY))


def test_sow_collects_only_when_asked():
    class Sower(nn.Module):
        @nn.compact
        def __call__(self, x):
            stored = [self.sow("intermediates", "h", x) for _ in range(2)]
            return [*stored, self.sow("sum", "s", x, init_fn=lambda: 0.0, reduce_fn=lambda a, b: a + b)]

    assert Sower().apply({}, 2.0) == [False, False, False]
    stored, state = Sower().apply({}, 2.0, mutable=["intermediates", "sum"])
    assert stored == [True, True, True]
    assert state == {"intermediates": {"h": (2.0, 2.0)}, "sum": {"s": 2.0}}
    assert Sower().init(KEY, 2.0) == {"sum": {"s": 2.0}}


def test_sow_may_not_take_a_submodule_name():
    class Sower(nn.Module):
        @nn.compact
        def __call__(self, x):
            Affine(name="d")(x)
            self.sow("intermediates", "d", x)

    with pytest.raises(errors.NameInUseError, match="variable 'd'"):
        Sower().init(KEY, X, mutable=True)


def test_perturb_gives_gradients_in_the_middle():
    class Middle(nn.Module):
        @nn.compact
        def __call__(self, x):
            return (self.perturb("h", 3 * x) ** 2).sum()

    variables = Middle().init(KEY, X)
    assert jnp.array_equal(variables["perturbations"]["h"], jnp.zeros((1, 3)))
    grads = jax.grad(lambda p: Middle().apply({"perturbations": p}, X))(variables["perturbations"])
    assert jnp.array_equal(grads["h"], jnp.full((1, 3), 6.0))
    assert Middle().apply({}, X) == 27
    with pytest.raises(ValueError, match="missing perturbation variable h"):
        Middle().apply({"perturbations": {"q": X}}, X)


def test_capture_intermediates():
    variables = Net().init(KEY, X)
    y, state = Net().apply(variables, X, capture_intermediates=True)
    assert jnp.array_equal(state["intermediates"]["inner"]["__call__"][0], y)
    seen = []
    _, state = Net().apply(
        variables, X, method="encode", capture_intermediates=lambda m, n: seen.append((m.name, n)) or n == "encode"
    )
    assert set(state["intermediates"]) == {"encode"}
    assert seen == [("inner", "__call__"), (None, "encode")]


def test_mutable_filters():
    class Two(nn.Module):
        @nn.compact
        def __call__(self):
            self.variable("a", "x", lambda: 1)
            if self.is_mutable_collection("b"):
                self.variable("b", "x", lambda: 2)
            self.sow("intermediates", "y", 3)

    assert set(Two().init(KEY)) == {"a", "b"}
    assert set(Two().init(KEY, mutable=True)) == {"a", "b", "intermediates"}
    assert set(Two().init(KEY, mutable=DenyList("b"))) == {"a", "intermediates"}


def test_setup_runs_once_and_lazily():
    runs = []

    class Lazy(nn.Module):
        def setup(self):
            runs.append(self.path)
            self.sub = Affine()

        def __call__(self, x):
            return self.sub(x) + self.sub(x)

    bound = Lazy().bind(Lazy().init(KEY, X))
    assert runs == [()]
    bound(X)
    bound(X)
    assert runs == [(), ()]


def test_setup_may_call_what_it_makes():
    class Caller(nn.Module):
        def setup(self):
            self.helper()
            self.made = self.inner(X)

        def helper(self):
            self.inner = Affine()

        def __call__(self):
            return self.made

    assert jax.tree.map(jnp.shape, Caller().init(KEY)) == {"params": {"inner": {"w": (3, 2)}}}


def test_module_paths():
    class Outer(nn.Module):
        @nn.compact
        def __call__(self, x, train):
            assert train is True
            return Net()(Affine(3)(x))

    paths = Outer().module_paths(KEY, X, train=True)
    assert list(paths) == ["", "Affine_0", "Net_0", "Net_0/inner"]
    assert paths["Affine_0"].scope is None
    assert paths["Affine_0"].features == 3


def test_merge_param():
    assert nn.merge_param("a", None, 1) == 1
    assert nn.merge_param("a", False, None) is False
    with pytest.raises(ValueError, match='"a" was passed to the constructor and at call time'):
        nn.merge_param("a", 1, 2)
    with pytest.raises(ValueError, match='"a" must be passed to the constructor or at call time'):
        nn.merge_param("a", None, None)


class Tower(nn.Module):
    head: nn.Module
    width: int = 3

    def setup(self):
        self.body = nn.Dense(self.width)

    def __call__(self, x):
        return self.head(self.body(x))


def test_the_name_of_a_submodule_as_method():
    model = Tower(nn.Dense(2))
    variables = model.init(KEY, X)
    for name in ("head", "body"):
        layer = variables["params"][name]
        expected = X @ layer["kernel"] + layer["bias"][None]
        assert jnp.allclose(model.apply(variables, X, method=name), expected)
        assert jax.tree.all(jax.tree.map(jnp.array_equal, model.init(KEY, X, method=name), {"params": {name: layer}}))


def test_names_that_are_no_methods():
    model = Tower(nn.Dense(2))
    with pytest.raises(AttributeError, match=r"no attribute .neck."):
        model.apply({}, X, method="neck")
    with pytest.raises(TypeError, match=r"'Tower\.width' must be a callable"):
        model.apply({}, X, method="width")
    with pytest.raises(errors.ApplyModuleInvalidMethodError):
        model.apply({}, method=lambda: True)


@pytest.mark.parametrize("bad", [jax.random.split(KEY), 3, None], ids=["two keys", "number", "none"])
def test_what_is_no_key_is_told_by_the_name_of_its_stream(bad):
    model = nn.Sequential([nn.Dense(3), nn.Dropout(0.5, deterministic=False)])
    for run in (model.init, model.init_with_output, model.lazy_init):
        with pytest.raises(errors.InvalidRngError, match="the stream 'dropout' was given is no key"):
            run({"params": KEY, "dropout": bad}, X)
    with pytest.raises(errors.InvalidRngError, match="the stream 'dropout' was given is no key"):
        model.apply(model.init(KEY, X), X, rngs={"dropout": bad})
