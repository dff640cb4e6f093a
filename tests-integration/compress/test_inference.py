"""Inference views of both faces: what is removed, what is folded and merged, what is left and why."""

import fx_compress
import fx_linen as nn
import fx_nnx as nnx
import fx_train
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from fx_compress.inference import difference_of

IMAGE, VECTOR = jax.random.normal(jax.random.key(0), (2, 4, 4, 3)), jax.random.normal(jax.random.key(1), (3, 6))


def shaken(tree, seed=5):
    """The tree with random numbers in place of zeros and ones, so that wrong statistics show."""
    leaves, treedef = jax.tree.flatten(tree)
    keys = jax.random.split(jax.random.key(seed), len(leaves))
    make = [jax.random.uniform(k, x.shape, x.dtype, 0.5, 1.5) if x.ndim else x for k, x in zip(keys, leaves)]
    return treedef.unflatten([x if x.ndim > 1 else new for x, new in zip(leaves, make)])


def close(got, want):
    np.testing.assert_allclose(got, want, rtol=2e-4, atol=2e-4 * float(jnp.abs(want).max()))


class Net(nnx.Module):
    def __init__(self, rngs):
        self.conv = nnx.Conv(3, 4, (3, 3), use_bias=False, rngs=rngs)
        self.zzz = nnx.BatchNorm(4, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)
        self.head = nnx.Linear(4, 5, rngs=rngs)
        self.norm = nnx.BatchNorm(5, rngs=rngs, use_scale=False)

    def __call__(self, x):
        hidden = jax.nn.relu(self.zzz(self.conv(x))).mean((1, 2))
        self.sow(nnx.Intermediate, "hidden", hidden)
        return self.norm(self.head(self.dropout(hidden)))


def in_evaluation(model):
    model.eval()
    return model


def test_nnx_modules_are_stripped_and_norms_folded():
    model = Net(nnx.Rngs(0))
    nnx.update(model, shaken(nnx.state(model, nnx.Any(nnx.Param, nnx.BatchStat))))
    model(IMAGE)
    want = in_evaluation(nnx.clone(model))(IMAGE)
    view, report = fx_compress.for_inference(model, IMAGE)
    close(view(IMAGE), want)
    close(nnx.jit(lambda m, x: m(x))(view, IMAGE[:1]), want[:1])
    assert type(view) is Net
    assert view.dropout.rngs is None
    assert model.dropout.rngs is not None
    assert not model.dropout.deterministic
    assert float(jnp.abs(view.zzz.mean.get_value()).max()) == 0
    did = {change.path: change for change in report.changes if "folded" in change.what}
    assert did["zzz"].what == "folded into conv/kernel"
    assert did["norm"].what == "folded into head/kernel"
    # The shift goes to the bias of the layer where it has one.
    assert float(jnp.abs(view.norm.bias.get_value()).max()) == 0
    assert float(jnp.abs(view.zzz.bias.get_value()).max()) > 0
    assert "removed RNG streams" in str(report)
    assert "hidden: removed Intermediate" in str(report)
    assert report.difference < 1e-5


class Block(nn.Module):
    use_bias: bool = False
    after: str = ""

    @nn.compact
    def __call__(self, x, train=True):
        y = nn.Conv(4, (3, 3), use_bias=self.use_bias, name="b")(x)
        if self.after == "relu":
            y = jax.nn.relu(y)
        shortcut = y
        z = nn.BatchNorm(use_running_average=not train, name="a")(y)
        if self.after == "shortcut":
            z = z + shortcut
        z = nn.Dropout(0.5, deterministic=not train)(z)
        return nn.Dense(4)(z) if self.after != "output" else (z, y)


def linen(**options):
    block = Block(**options)
    return block, shaken(block.init(jax.random.key(0), IMAGE, train=False))


@pytest.mark.parametrize("use_bias", [False, True])
def test_linen_modules_are_folded_by_what_they_compute(use_bias):
    block, variables = linen(use_bias=use_bias)
    (module, folded), report = fx_compress.for_inference((block, variables), IMAGE, train=False)
    assert module is block
    close(
        jax.jit(lambda v, x: block.apply(v, x, train=False))(folded, IMAGE), block.apply(variables, IMAGE, train=False)
    )
    assert [(c.path, c.what) for c in report.changes] == [("a", "folded into params/b/kernel")]
    assert not np.allclose(folded["params"]["b"]["kernel"], variables["params"]["b"]["kernel"])
    assert jax.tree.structure(folded) == jax.tree.structure(variables)


@pytest.mark.parametrize(
    ("after", "why"),
    [
        ("relu", "there is max between it and a linear layer"),
        ("shortcut", "what conv_general_dilated gives before it is used 2 times"),
        ("output", "what conv_general_dilated gives before it is used 2 times"),
    ],
)
def test_norms_stay_where_folding_would_change_results(after, why):
    block, variables = linen(after=after)
    (_, folded), report = fx_compress.for_inference((block, variables), IMAGE, train=False)
    jax.tree.map(np.testing.assert_array_equal, folded, variables)
    (change,) = report.changes
    assert not change.done
    assert change.what == f"not folded: {why}"


def refusals():
    def dense(v, x):
        return x @ v["params"]["d"]["kernel"]

    def norm(v, x, batch=False, shift=0.0):
        mean, var = (
            (x.mean(0, keepdims=True), x.var(0, keepdims=True))
            if batch
            else (v["batch_stats"]["n"]["mean"], v["batch_stats"]["n"]["var"])
        )
        return (x - mean) / jnp.sqrt(var + 1e-5) * v["params"]["n"]["scale"] + shift

    def looped(v, x):
        return jax.lax.scan(lambda h, _: (norm(v, dense(v, h)), None), x, None, length=2)[0]

    return {
        "it is inside of a scan": looped,
        "is used more than once": lambda v, x: norm(v, dense(v, dense(v, x))),
        "its running statistics are not used": lambda v, x: norm(v, dense(v, x), batch=True),
        "it normalizes an input": lambda v, x: dense(v, norm(v, x)),
        "its input is the add of two values": lambda v, x: norm(v, dense(v, x) + x),
        "neither the layer": lambda v, x: norm(v, dense(v, x)),
        "its parts are used elsewhere": lambda v, x: (norm(v, dense(v, x)), v["batch_stats"]["n"]["mean"] * x),
        "as a result": lambda v, x: (norm(v, dense(v, x)), v["batch_stats"]["n"]["mean"]),
        "something else comes in by add": lambda v, x: norm(v, dense(v, x), shift=x) * v["params"]["n"]["scale"],
        "differently": lambda v, x: norm(v, dense(v, x) * jnp.arange(1.0, 4.0)[:, None]),
        "without a kernel": lambda v, x: norm(v, x @ x.T @ x) + dense(v, x),
    }


@pytest.mark.parametrize("why", refusals())
def test_functions_whose_norms_cannot_be_folded(why):
    keys = jax.random.split(jax.random.key(3), 4)
    variables = {
        "params": {
            "d": {"kernel": jax.random.normal(keys[0], (6, 6))},
            "n": {"scale": jax.random.normal(keys[1], (1, 6))},
        },
        "batch_stats": {
            "n": {"mean": jax.random.normal(keys[2], (1, 6)), "var": jnp.exp(jax.random.normal(keys[3], (1, 6)))}
        },
    }
    made, report = fx_compress.for_inference(variables, VECTOR, function=refusals()[why])
    (change,) = report.changes
    assert why in change.what
    assert not change.done
    assert made["params"]["d"]["kernel"] is variables["params"]["d"]["kernel"]


def test_a_norm_after_heads_and_transposes_is_folded():
    class Heads(nn.Module):
        @nn.compact
        def __call__(self, x):
            y = nn.DenseGeneral((2, 3), name="heads")(x)
            y = y.transpose((1, 0, 2)).reshape(2, -1, 3)
            y = nn.BatchNorm(use_running_average=True, axis=0)(y)
            return nn.BatchNorm(use_running_average=True)(y)

    variables = shaken(Heads().init(jax.random.key(0), VECTOR))
    (_, folded), report = fx_compress.for_inference((Heads(), variables), VECTOR)
    assert all(change.done for change in report.changes)
    assert len(report.changes) == 2
    close(Heads().apply(folded, VECTOR), Heads().apply(variables, VECTOR))


def test_a_bias_that_the_network_also_gives_as_a_result_takes_nothing():
    block, variables = linen(use_bias=True)

    def network(v, x):
        return block.apply(v, x, train=False), (v["params"]["b"]["bias"] ** 2).sum()

    folded, report = fx_compress.for_inference(variables, IMAGE, function=network)
    jax.tree.map(np.testing.assert_array_equal, folded, variables)
    assert "as a result" in report.changes[-1].what


def test_results_are_compared_number_by_number():
    kernel, x = {"kernel": jnp.eye(2)}, jnp.ones((1, 2))
    masked = lambda v, x: (x, jnp.where(jnp.arange(2) > 0, -jnp.inf, x @ v["kernel"]))  # noqa: E731
    assert fx_compress.for_inference(kernel, x, function=masked)[1].difference == 0
    want = (np.ones(2), np.array([1.0, np.nan]))
    assert difference_of(want, want) == 0
    with pytest.raises(fx_compress.CompressError, match="computes something else"):
        difference_of((np.ones(2), np.ones(2)), want)


def test_training_states_lose_what_only_training_needs():
    class State(fx_train.TrainState):
        batch_stats: dict

    block, variables = linen()
    state = State.create(
        apply_fn=lambda v, x: block.apply(v, x, train=False),
        params=variables["params"],
        tx=optax.adam(0.1),
        batch_stats=variables["batch_stats"],
    )
    view, report = fx_compress.for_inference(state, IMAGE, cast=jnp.bfloat16)
    assert isinstance(view, State)
    assert view.opt_state is None
    assert view.tx is None
    assert {"opt_state", "tx", "batch_stats/a", "a"} & {c.path for c in report.changes if c.done} >= {"opt_state", "a"}
    assert all(leaf.dtype == jnp.bfloat16 for leaf in jax.tree.leaves(view.params))


def test_nnx_states_lose_streams():
    model = Net(nnx.Rngs(0))
    view, report = fx_compress.for_inference(nnx.state(model))
    assert isinstance(view, nnx.State)
    assert "dropout" not in view or not view["dropout"].get("rngs")
    assert any("rngs" in change.path for change in report.changes)


def test_modules_in_fields_are_set_to_evaluation():
    net = nn.Sequential([nn.Dense(4), nn.Dropout(0.5, deterministic=False)])
    variables = net.init({"params": jax.random.key(0), "dropout": jax.random.key(1)}, VECTOR)
    (module, same), _ = fx_compress.for_inference((net, {**variables, "intermediates": {}}), VECTOR)
    assert module.layers[1].deterministic
    assert list(same) == ["params"]
    np.testing.assert_array_equal(module.apply(same, VECTOR), VECTOR @ variables["params"]["layers_0"]["kernel"])


def test_views_that_cannot_be_made_say_why():
    block, variables = linen()
    with pytest.raises(fx_compress.CompressError, match=r"(?s)in evaluation mode.*train=False"):
        fx_compress.for_inference((block, variables), IMAGE)
    with pytest.raises(fx_compress.CompressError, match=r"(?s)need a function.*function=lambda"):
        fx_compress.for_inference(variables, IMAGE)
    with pytest.raises(fx_compress.CompressError, match="Only modules take keyword arguments"):
        fx_compress.for_inference(variables, train=False)


def test_norms_after_convolutions_with_transposed_kernels_are_folded():
    class Net(nnx.Module):
        def __init__(self, rngs):
            self.up = nnx.ConvTranspose(3, 5, (3, 3), strides=2, transpose_kernel=True, rngs=rngs)
            self.norm = nnx.BatchNorm(5, rngs=rngs)

        def __call__(self, x):
            return self.norm(self.up(x))

    model, x = Net(nnx.Rngs(0)), jax.random.normal(jax.random.key(0), (2, 4, 4, 3))
    keys = iter(jax.random.split(jax.random.key(1), 9))
    nnx.update(model, jax.tree.map(lambda v: v + jax.random.uniform(next(keys), v.shape), nnx.state(model)))
    view, report = fx_compress.for_inference(model, x)
    assert "norm: folded into up/kernel" in str(report)
    want = nnx.view(model, use_running_average=True)(2 * x)
    np.testing.assert_allclose(view(2 * x), want, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32])
def test_parameters_of_16_bits_are_folded_where_results_are_of_float32(dtype):
    """Rounding of the folded kernel was taken for another network."""

    class Mixed(nnx.Module):
        def __init__(self, rngs):
            self.linear = nnx.Linear(6, 8, param_dtype=dtype, rngs=rngs)
            self.norm = nnx.BatchNorm(8, rngs=rngs)

        def __call__(self, x):
            return self.norm(self.linear(x))

    model = Mixed(nnx.Rngs(0))
    nnx.update(model, shaken(nnx.state(model)))
    model.eval()
    view, report = fx_compress.for_inference(model, VECTOR)
    assert model(VECTOR).dtype == jnp.float32
    assert "folded into linear" in str(report)
    assert 0 < report.difference < (0.02 if dtype == jnp.bfloat16 else 1e-5)
    assert view.linear.kernel.dtype == dtype
