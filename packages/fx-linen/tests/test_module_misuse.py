"""Misuse of modules inside of a network: the class of the error, and that it shows the path, the values and the fix."""

import fx_linen as nn
import jax
import jax.numpy as jnp
import pytest
from fx_core import errors
from fx_transforms.errors import AxisSizeError

KEY = jax.random.key(0)
X = jnp.ones((4, 3))
zeros, ones = jax.nn.initializers.zeros, jax.nn.initializers.ones
GOOD = {"params": {"inner": {"w": jnp.ones((3, 2)), "z": jnp.ones(())}}, "state": {"inner": {"n": jnp.ones(())}}}
OVER_PARAMS = {"variable_axes": {"params": 0}, "split_rngs": {"params": True}}


class Inner(nn.Module):
    """Does in its method what a test wants to see."""

    what: str = ""

    def setup(self):
        if self.what == "field in setup":
            self.what = "changed"

    def plain(self, x):
        return Affine()(x)

    @nn.compact
    def wide(self, x):
        return nn.Dense(5)(x)

    @nn.compact
    def narrow(self, x):
        return nn.Dense(3)(x)

    @nn.compact
    def __call__(self, x):
        return DOINGS[self.what](self, x)


class Outer(nn.Module):
    what: str

    @nn.compact
    def __call__(self, x):
        inner = Inner(self.what, name="inner")
        if self.what == "submodule":
            return inner.plain(x)
        return inner.narrow(inner.wide(x)) if self.what == "two compact methods" else inner(x)


class Affine(nn.Module):
    @nn.compact
    def __call__(self, x):
        return x @ self.param("w", ones, (x.shape[-1], 2))


class Stack(nn.Module):
    @nn.compact
    def __call__(self, c, x):
        return c + Affine()(x).sum(), None


def assign_module(module, x):
    module.layer = nn.Dense(3)


def assign(module, x):
    module.count = 3


def twice(kind):
    def do(module, x):
        for _ in range(2):
            kind(module, x)

    return do


DOINGS = {
    "assign": assign,
    "assign module": assign_module,
    "param": lambda m, x: m.param("w", ones, (3, 2)),
    "param of another shape": lambda m, x: m.param("w", ones, (5, 2)),
    "missing param": lambda m, x: m.param("absent", ones, (3, 2)),
    "missing variable": lambda m, x: m.variable("state", "absent", lambda: 0),
    "missing collection": lambda m, x: m.variable("cache", "key", lambda: 0),
    "write": lambda m, x: m.put_variable("state", "n", 2.0),
    "key": lambda m, x: m.make_rng("noise"),
    "param twice": twice(lambda m, x: m.param("w", ones, (3, 2))),
    "module twice": twice(lambda m, x: Affine(name="a")(x)),
    "vmap": lambda m, x: nn.vmap(Affine, **OVER_PARAMS, axis_size=7)(name="many")(x),
    "vmap of params": lambda m, x: nn.vmap(Affine, **OVER_PARAMS)(name="many")(x),
    "scan": lambda m, x: nn.scan(Stack, **OVER_PARAMS, length=6)(name="many")(0.0, x),
    "inner value": lambda m, x: jax.vmap(lambda row: m.param("v", lambda key: 2 * row))(x),
}
MANY = {"params": {"inner": {"many": {"w": jnp.ones((5, 3, 2))}}}}
RUNS = {
    "call": lambda what: Outer(what)(X),
    "call of Inner": lambda what: Inner(what).wide(X),
    "init": lambda what: Outer(what).init(KEY, X),
    "init without keys": lambda what: Outer(what).init({}, X),
    "jitted init": lambda what: jax.jit(Outer(what).init)(KEY, X),
    "apply": lambda what: Outer(what).apply(GOOD, X),
    "apply misspelt": lambda what: Outer(what).apply(GOOD, X, mutable=["stats"]),
    "apply to nothing": lambda what: Outer(what).apply({}, X),
    "apply to params": lambda what: Outer(what).apply(GOOD["params"], X),
    "apply with keys": lambda what: Outer(what).apply(GOOD, X, rngs={"dropout": KEY}),
    "apply to many": lambda what: Outer(what).apply(MANY, X),
}
MISUSE = [
    # what, run, class, path, what the message says of values, what it says of the fix
    ("", "call", errors.CallCompactUnboundModuleError, "Outer (unbound)", ["'__call__'"], "module.apply(variables"),
    ("", "call of Inner", errors.CallCompactUnboundModuleError, "Inner (unbound)", ["'wide'"], "module.init(key"),
    ("assign", "init", errors.SetAttributeFrozenModuleError, "/inner (Inner)", ["'count'", "count = 3"], "in setup()"),
    (
        "field in setup",
        "init",
        errors.SetAttributeInModuleSetupError,
        "/inner (Inner)",
        ["what = 'changed'"],
        "another",
    ),
    ("submodule", "init", errors.AssignSubModuleError, "/inner (Inner)", ["Submodule Affine"], "@compact"),
    (
        "two compact methods",
        "init",
        errors.MultipleMethodsCompactError,
        "/inner (Inner)",
        ["'wide' and 'narrow'"],
        "setup",
    ),
    ("param", "apply to nothing", errors.ScopeCollectionNotFound, "/inner", ["'w'", "'params'"], "Pass the collection"),
    ("param", "apply to params", errors.ScopeCollectionNotFound, "/inner", ["['inner']"], '{"params": params}'),
    ("missing param", "apply", errors.ScopeParamNotFoundError, "/inner", ["'absent'", "['w', 'z']"], "renamed layer"),
    (
        "missing variable",
        "apply",
        errors.ScopeVariableNotFoundError,
        "/inner",
        ["'absent'", "['n']"],
        "'state' mutable",
    ),
    ("missing collection", "apply", errors.ScopeCollectionNotFound, "/inner", ["'key'", "'cache'"], "make it mutable"),
    (
        "param of another shape",
        "apply",
        errors.ScopeParamShapeError,
        "/inner",
        ["(3, 2)", "(5, 2)"],
        "initialize again",
    ),
    ("write", "apply", errors.ModifyScopeVariableError, "/inner", ["'n'", "'state'", "a write\n"], "mutable=['state']"),
    ("write", "apply misspelt", errors.ModifyScopeVariableError, "/inner", ["mutable=['stats']"], "mutable=['state']"),
    ("assign module", "init", errors.SetAttributeFrozenModuleError, "/inner (Inner)", ["= Dense(...)\n"], "in setup()"),
    ("param", "init without keys", errors.InvalidRngError, "/inner", ["'params'", "keys for []"], "rngs="),
    ("key", "apply with keys", errors.InvalidRngError, "/inner", ["'noise'", "keys for ['dropout']"], "rngs="),
    ("param twice", "init", errors.NameInUseError, "/inner (Inner)", ["param 'w'"], "another name"),
    ("module twice", "init", errors.NameInUseError, "/inner (Inner)", ["submodule 'a'"], "another name"),
    (
        "vmap",
        "init",
        AxisSizeError,
        "/inner/many",
        ["axis_size=7", "argument 1 of shape (4, 3) (axis 0) has 4"],
        "equal",
    ),
    (
        "vmap of params",
        "apply to many",
        AxisSizeError,
        "/inner/many",
        ["w of collection 'params' has 5"],
        "another slot",
    ),
    ("scan", "init", AxisSizeError, "/inner/many", ["length=6", "argument 2 of shape (4, 3) (axis 0) has 4"], "equal"),
    ("inner value", "jitted init", errors.JaxTransformError, "/inner", ["parameter 'v'", "values"], "lifted transform"),
]


@pytest.mark.parametrize(("what", "run", "error", "path", "values", "fix"), MISUSE)
def test_misuse(what, run, error, path, values, fix):
    with pytest.raises(error) as caught:
        RUNS[run](what)
    text = str(caught.value)
    assert caught.value.path == path
    assert not [value for value in values if value not in text]
    assert fix in caught.value.fix


LAYERS = {
    "einsum": (lambda: nn.Einsum((3, 4), "ab,bc->ac"), jnp.ones((2, 5)), errors.ShapeMismatchError, "Einsum_0"),
    "scalar": (lambda: nn.Dense(2), jnp.ones(()), errors.ShapeMismatchError, "Dense_0"),
    "text": (lambda: nn.Conv(2, (3,)), "abc", errors.ShapeMismatchError, "Conv_0"),
    "vector": (
        lambda: nn.MultiHeadDotProductAttention(2),
        jnp.ones(4),
        errors.ShapeMismatchError,
        "MultiHeadDotProductAttention_0",
    ),
    "groups": (lambda: nn.GroupNorm(5), jnp.ones((2, 3)), errors.ArgumentError, "GroupNorm_0"),
    "axes": (lambda: nn.LayerNorm(), jnp.ones(()), errors.ShapeMismatchError, "LayerNorm_0"),
    "negative": (lambda: nn.Dense(-1), jnp.ones((2, 3)), errors.ArgumentError, "Dense_0"),
    "half": (lambda: nn.Dense(2.5), jnp.ones((2, 3)), errors.ArgumentError, "Dense_0"),
    "name": (lambda: nn.Embed("3", 4), jnp.ones(2, int), errors.ArgumentError, "Embed_0"),
    "indices": (lambda: nn.Embed(3, 4), jnp.ones(2), errors.DtypeError, "Embed_0"),
}


class Around(nn.Module):
    make: object

    @nn.compact
    def __call__(self, x):
        return self.make()(x)


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("lifted", [lambda m: m, nn.remat, nn.jit], ids=["plain", "remat", "jit"])
def test_wrong_inputs_of_layers_are_told_with_the_path_of_the_layer(name, lifted):
    make, x, error, place = LAYERS[name]
    if isinstance(x, str) and lifted in (nn.remat, nn.jit):
        x = jnp.ones(())  # text goes into no compiled function
    model = nn.Sequential([lifted(Around)(make)])
    with pytest.raises(error, match=rf"\n  where: /(\w+\()?layers_0\)?/{place} \({place[:-2]}\)\n  expected: "):
        model.init(KEY, x)
