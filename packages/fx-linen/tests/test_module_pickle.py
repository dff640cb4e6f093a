"""Modules as dataclasses of Python: pickled, generic, with mixins and keyword-only fields."""

import copy
import dataclasses
import functools
import pickle
import subprocess
import sys
from collections.abc import Callable
from typing import Any, Generic, Protocol, TypeVar

import fx_linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fx_core.errors import SetAttributeFrozenModuleError

KEY, X = jax.random.key(0), jnp.ones((2, 4))
T = TypeVar("T")
init = nn.initializers

LAYERS = [
    nn.Dense(3),
    nn.DenseGeneral(3),
    nn.Einsum((3, 4), "ab,bc->ac"),
    nn.Conv(3, (3, 3)),
    nn.ConvLocal(3, (3,)),
    nn.ConvTranspose(3, (3,)),
    nn.Embed(3, 4),
    nn.BatchNorm(use_running_average=True),
    nn.LayerNorm(),
    nn.GroupNorm(),
    nn.LSTMCell(3),
    nn.OptimizedLSTMCell(3),
    nn.GRUCell(3),
    nn.MGUCell(3),
    nn.SimpleCell(3),
    nn.ConvLSTMCell(3, (3,)),
    nn.RNN(nn.GRUCell(3)),
    nn.Bidirectional(nn.RNN(nn.LSTMCell(3)), nn.RNN(nn.GRUCell(3))),
    nn.MultiHeadDotProductAttention(2),
    nn.Dropout(0.5),
    nn.PReLU(),
    nn.WeightNorm(nn.Dense(3)),
    nn.SpectralNorm(nn.Dense(3)),
    nn.Sequential([nn.Dense(3), nn.relu, nn.silu, jnp.tanh, functools.partial(nn.leaky_relu, negative_slope=0.2)]),
    nn.Dense(3, kernel_init=init.orthogonal(2.0), bias_init=init.constant(3)),
    nn.Dense(3, kernel_init=init.variance_scaling(2.0, "fan_out", "uniform"), bias_init=init.normal(0.1)),
    nn.Dense(3, kernel_init=nn.with_partitioning(init.xavier_uniform(), ("a", None))),
    nn.Dense(3, kernel_init=nn.with_logical_partitioning(init.truncated_normal(), ("a", None))),
]


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: type(layer).__name__)
def test_settings(layer):
    again = pickle.loads(pickle.dumps(layer))
    if not isinstance(layer, nn.Sequential):  # partial functions are never equal
        assert again == layer
    assert repr(again) == repr(layer) or "functools" in repr(layer)
    assert copy.deepcopy(layer) == layer or isinstance(layer, nn.Sequential)


def test_initializers():
    """What is made alike is equal and draws alike, here and after a way through another process."""
    made = init.lecun_normal()
    assert made == init.lecun_normal() != init.lecun_uniform()
    assert hash(made) == hash(init.lecun_normal())
    again = pickle.loads(pickle.dumps(made))
    assert again == made
    assert (again(KEY, (3, 4)) == made(KEY, (3, 4))).all()
    with_names = pickle.loads(pickle.dumps(nn.with_partitioning(made, ("a", "b"))))
    assert with_names(KEY, (3, 4)).names == ("a", "b")
    assert init.constant(jnp.arange(3.0))(KEY, (2, 3)).tolist() == [[0, 1, 2]] * 2  # no hash, all the same
    assert repr(init.normal(0.5)) == "normal(0.5, None)"


def test_what_runs_after_pickling():
    layer = LAYERS[23]
    again = pickle.loads(pickle.dumps(layer))
    variables = layer.init(KEY, X)
    assert (again.apply(variables, X) == layer.apply(variables, X)).all()
    assert again.layers[1] is nn.relu


class Part(nn.Module, Generic[T]):
    size: T

    @nn.compact
    def __call__(self, x):
        return nn.Dense(self.size)(x)


class InSetup(nn.Module):
    def setup(self):
        self.part = Part[int](3)

    def __call__(self, x):
        return self.part(x)


class InCompact(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.jit(lambda module, x: module(x))(Part[int](3, name="part"), x)


class WithField(nn.Module, Generic[T]):
    part: Part[T]

    def __call__(self, x):
        return self.part(x)


@pytest.mark.parametrize("model", [InSetup(), InCompact(), WithField[int](Part[int](3))])
def test_generic_modules(model):
    assert model.init(KEY, X)["params"]["part"]["Dense_0"]["kernel"].shape == (4, 3)
    assert pickle.loads(pickle.dumps(model)) == model


def test_a_subscripted_module_is_as_any_other():
    layer = Part[int](3)
    assert layer == Part(3)
    assert hash(layer) == hash(Part(3))
    assert repr(layer) == repr(Part(3))
    assert layer.clone(size=4) == Part(4)
    assert pickle.loads(pickle.dumps(layer)) == layer
    bound = layer.bind(layer.init(KEY, X))
    with pytest.raises(SetAttributeFrozenModuleError):
        bound.size = 4


class Base(nn.Module, kw_only=True):
    width: int = 3
    act: Callable[[jax.Array], jax.Array] = nn.relu


class Derived(Base):
    depth: int
    scale: float = dataclasses.field(default=1.0, kw_only=True)

    @nn.compact
    def __call__(self, x):
        for _ in range(self.depth):
            x = self.act(nn.Dense(self.width)(x)) * self.scale
        return x


class Scores(Protocol):
    weight: float

    def score(self, x: Any) -> Any: ...


class Doubles:
    def double(self, x):
        return 2 * x


class Mixed(nn.Module, Doubles, Scores):
    weight: float = 3.0

    @nn.compact
    def __call__(self, x):
        return self.double(self.score(nn.Dense(2)(x)))

    def score(self, x):
        return self.weight * x


@pytest.mark.parametrize("model", [Derived(2, width=5, scale=0.5), Mixed(weight=2.0)])
def test_fields_of_bases_and_mixins(model):
    for other in (pickle.loads(pickle.dumps(model)), copy.copy(model), copy.deepcopy(model), model.clone()):
        assert other == model
        assert repr(other) == repr(model)
    changed = model.clone(name="other")
    assert changed.name == "other"
    y, variables = model.init_with_output(KEY, X)
    assert (model.clone().apply(variables, X) == y).all()


def test_keyword_only_fields_stay_so():
    with pytest.raises(TypeError, match="positional"):
        Derived(2, 5)
    assert Derived(2).width == 3
    assert Mixed().weight == 3.0


class Step(nn.Module):
    """A body of a scan."""

    @nn.compact
    def __call__(self, carry, x):
        return nn.Dense(4)(carry), x


class Holder(nn.Module):
    """Holds a module, or a class to make one of."""

    inner: Any

    @nn.compact
    def __call__(self, x):
        return (self.inner if isinstance(self.inner, nn.Module) else self.inner(4))(x)


def keep(tree):
    return tree


AXES = {"variable_axes": {"params": 0}, "split_rngs": {"params": True}}
TRANSFORMED = {
    "remat": lambda: nn.remat(nn.Dense, static_argnums=(), policy=jax.checkpoint_policies.dots_saveable)(4),
    "jit": lambda: nn.jit(nn.Dense)(4),
    "both": lambda: nn.remat(nn.jit(nn.Dense))(4),
    "vmap": lambda: nn.vmap(nn.Dense, in_axes=0, **AXES)(4),
    "scan": lambda: nn.scan(Step, length=2, in_axes=nn.broadcast, **AXES)(),
    "remat_scan": lambda: nn.remat_scan(nn.Dense, (2,))(4),
    "map_variables": lambda: nn.map_variables(nn.Dense, "params", trans_out_fn=keep, init=True)(4),
    "fold_rngs": lambda: nn.fold_rngs(nn.Dense)(4),
    "part": lambda: nn.remat(functools.partial(nn.Dense, 4))(use_bias=False),
    "held": lambda: Holder(nn.remat(nn.Dense)(4)),
    "held_class": lambda: Holder(nn.jit(nn.Dense)),
    "listed": lambda: nn.Sequential([nn.remat(nn.Dense)(4), nn.relu, nn.jit(nn.Dense)(4)]),
    "cell": lambda: nn.RNN(nn.remat(nn.GRUCell)(4)),
}


def use(model):
    args = (X[0], X[0]) if isinstance(model, Step) else (X[None],) if isinstance(model, nn.RNN) else (X,)
    variables = model.init(KEY, *args)
    return variables, model.apply(variables, *args)


@pytest.mark.parametrize("case", TRANSFORMED)
def test_modules_of_transformed_classes(case):
    """Neither the class nor its name is in the module that Python would look in."""
    model = TRANSFORMED[case]()
    TRANSFORMED[case]()  # another class, made in the same way
    expected = use(model)
    for copied in (pickle.loads(pickle.dumps(model)), copy.deepcopy(model), copy.copy(model), model.clone()):
        assert type(copied) is type(model)
        assert copied == model
    for same in jax.tree.map(lambda a, b: bool((a == b).all()), expected, use(pickle.loads(pickle.dumps(model)))):
        assert all(jax.tree.leaves(same))


ELSEWHERE = """
import pickle, sys
import jax, jax.numpy as jnp
model, again, expected = pickle.load(open(sys.argv[1], "rb"))
assert type(model).__name__ == "CheckpointJitDense", type(model)
assert model == again
variables = model.init(jax.random.key(0), jnp.ones((2, 4)))
assert (model.apply(variables, jnp.ones((2, 4))) == expected).all()
"""


@pytest.mark.slow
def test_modules_of_transformed_classes_in_another_process(tmp_path):
    model = TRANSFORMED["both"]()
    file = tmp_path / "model.pkl"
    file.write_bytes(pickle.dumps((model, model.clone(), np.asarray(use(model)[1]))))
    subprocess.run([sys.executable, "-c", ELSEWHERE, str(file)], check=True)


def test_fields_of_the_base_come_last():
    class Base(nn.Module):
        width: int

    class Wider(Base):
        depth: int = 2

    assert [field.name for field in dataclasses.fields(Wider)] == ["width", "depth", "parent", "name"]
    assert dataclasses.replace(Wider(3), depth=4) == Wider(3, 4)


def test_marks_of_absent_defaults_stay_the_same_object():
    """Pickles by value of classes of a script would turn fields without a default into fields with an odd one."""
    assert pickle.loads(pickle.dumps(dataclasses.MISSING)) is dataclasses.MISSING
    assert copy.deepcopy(dataclasses.MISSING) is dataclasses.MISSING
