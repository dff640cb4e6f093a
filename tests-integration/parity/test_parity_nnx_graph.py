"""Graphs, states, streams and sharding of fx_nnx against those of Flax: the same program, the same outcome."""

import flax.nnx as flax_nnx
import fx_nnx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

# Flax announces what it will rename.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
BOTH = (flax_nnx, fx_nnx)


def model_of(nnx):
    class Model(nnx.Module):
        def __init__(self):
            self.w = nnx.Param(jnp.ones((2, 2)), tag="w")
            self.tied = self.w
            self.stats = nnx.BatchStat(jnp.zeros(2))
            self.layers = nnx.List([nnx.Linear(2, 2, rngs=nnx.Rngs(0)), nnx.Dropout(0.5, rngs=nnx.Rngs(1))])
            self.rngs = nnx.Rngs(0, noise=2)
            self.size = 3

    return Model()


def plain(x):
    return jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x


def values(nnx, model):
    flat = nnx.to_flat_state(nnx.state(model))
    return {path: np.asarray(plain(leaf.get_value())).tolist() for path, leaf in flat}


FILTERS = {
    "type": lambda n: n.Param,
    "base type": lambda n: n.RngState,
    "tag": lambda n: "noise",
    "path": lambda n: n.PathContains("layers"),
    "inexact path": lambda n: n.PathContains("kern", exact=False),
    "any": lambda n: n.Any(n.BatchStat, n.PathContains("bias")),
    "all": lambda n: n.All(n.Param, n.PathContains("layers")),
    "not": lambda n: n.Not(n.RngState),
    "list": lambda n: [n.BatchStat, "w"],
    "everything": lambda n: ...,
    "nothing": lambda n: None,
    "function": lambda n: lambda path, x: len(path) == 1,
}


@pytest.mark.parametrize("name", FILTERS)
def test_filters(name):
    found = [[path for path, _ in n.to_flat_state(n.state(model_of(n), FILTERS[name](n)))] for n in BOTH]
    assert found[0] == found[1]
    rest = [[path for path, _ in n.split(model_of(n), FILTERS[name](n), ...)[2].flat_state()] for n in BOTH]
    assert rest[0] == rest[1]


PROGRAMS = {
    "clone": lambda n, m: n.clone(m),
    "merge": lambda n, m: n.merge(*n.split(m)),
    "merge parts": lambda n, m: n.merge(*n.split(m, n.Param, ...)),
    "unpack": lambda n, m: n.merge(n.unpack(m)),
    "flatten": lambda n, m: n.unflatten(*n.flatten(m)),
    "map": lambda n, m: n.map(lambda p, v: v.replace(v + 1) if isinstance(v, n.Param) else v, m),
    "recursive map": lambda n, m: n.recursive_map(lambda p, x: x, m),
    "with attributes": lambda n, m: n.with_attributes(m, rate=0.1),
    "with rngs": lambda n, m: n.with_rngs(m, split={"noise": 2}, fork="default", graph_updates=False),
    "with rngs broadcast": lambda n, m: n.with_rngs(m, broadcast=2, graph_updates=False),
    "split rngs": lambda n, m: (n.split_rngs(m, splits=2), m)[1],
    "split some rngs": lambda n, m: (n.split_rngs(m, splits=(2, 2), only="noise"), m)[1],
    "squeezed": lambda n, m: (n.split_rngs(m, splits=1, squeeze=True), m)[1],
    "restored": lambda n, m: (n.restore_rngs(n.split_rngs(m, splits=2)), m)[1],
    "fork rngs": lambda n, m: (n.fork_rngs(m), m)[1],
    "fork and split": lambda n, m: (n.fork_rngs(m, split={"noise": 3}), m)[1],
    "reseed": lambda n, m: (n.reseed(m, default=5, noise=6), m)[1],
    "update": lambda n, m: (
        n.update(
            m, n.state(n.map(lambda p, v: v.replace(v.get_value() * 0) if isinstance(v, n.Param) else v, m), n.Param)
        ),
        m,
    )[1],
    "pop": lambda n, m: (n.pop(m, n.BatchStat), m)[1],
    "pure dict": lambda n, m: (n.update(m, n.to_pure_dict(n.state(m, n.BatchStat))), m)[1],
    "references": lambda n, m: n.with_vars(m, ref=False),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_programs(name):
    models = [model_of(n) for n in BOTH]
    made = [PROGRAMS[name](n, model) for n, model in zip(BOTH, models)]
    assert values(flax_nnx, made[0]) == values(fx_nnx, made[1])
    assert values(flax_nnx, models[0]) == values(fx_nnx, models[1])
    assert all(model.tied is model.w for model in made)


@pytest.mark.parametrize("options", [{"split": 2}, {"split": {"noise": 2}}, {"split": {"noise": 2, ...: 3}}])
def test_streams_fork(options):
    found = [values(n, n.Rngs(0, noise=1).fork(**options)) for n in BOTH]
    assert found[0] == found[1]


@pytest.mark.parametrize("how", ["split", "broadcast"])
@pytest.mark.parametrize("k", [2, (2, 3), {"noise": 2}])
def test_streams_split(how, k):
    rngs = [n.Rngs(0, noise=1) for n in BOTH]
    found = [values(n, getattr(r, how)(k)) for n, r in zip(BOTH, rngs)]
    assert found[0] == found[1]
    assert values(flax_nnx, rngs[0]) == values(fx_nnx, rngs[1])


def test_duplicates_iteration_and_int_paths():
    for function in (
        lambda n, m: n.find_duplicates(m),
        lambda n, m: [path for path, _ in n.iter_modules(m)],
        lambda n, m: n.restore_int_paths({"a": {"0": 1, "b": 2}}),
        lambda n, m: sorted(n.to_pure_dict(n.state(m))),
        lambda n, m: m.w.get_metadata(),
    ):
        theirs, ours = (function(n, model_of(n)) for n in BOTH)
        assert theirs == ours


def test_partition_specs():
    specs = []
    for n in BOTH:
        with n.use_eager_sharding(False):
            init = n.with_partitioning(n.initializers.ones, ("embed", "mlp"))
            layer = n.Linear(2, 4, kernel_init=init, rngs=n.Rngs(0))
        with n.logical_axis_rules((("embed", None), ("mlp", "model"))):
            spec = n.get_partition_spec(n.state(layer))
        specs.append((spec.kernel.get_value(), spec.bias.get_value(), layer.kernel.get_metadata()))
    assert specs[0] == specs[1]
