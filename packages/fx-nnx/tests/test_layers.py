import fx_nnx as nnx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from fx_core.errors.ops import ArgumentError
from fx_nnx.errors import ArgumentTypeError, NnxError, ShapeMismatchError


def rngs():
    return nnx.Rngs(0)


@pytest.mark.parametrize(
    ("make", "shape", "expected"),
    [
        (lambda: nnx.Linear(3, 2, rngs=rngs()), (4, 3), (4, 2)),
        (lambda: nnx.LinearGeneral((3, 4), (2, 5), axis=(1, 2), rngs=rngs()), (6, 3, 4), (6, 2, 5)),
        (lambda: nnx.LinearGeneral(4, 5, batch_axis={0: 2}, rngs=rngs()), (2, 3, 4), (2, 3, 5)),
        (lambda: nnx.Einsum("ab,bc->ac", (3, 2), (2,), rngs=rngs()), (4, 3), (4, 2)),
        (lambda: nnx.Conv(3, 4, 3, strides=2, rngs=rngs()), (2, 8, 3), (2, 4, 4)),
        (lambda: nnx.Conv(4, 4, (3, 3), feature_group_count=4, rngs=rngs()), (5, 5, 4), (5, 5, 4)),
        (lambda: nnx.ConvTranspose(3, 4, (2, 2), strides=2, rngs=rngs()), (1, 4, 4, 3), (1, 8, 8, 4)),
        (lambda: nnx.BatchNorm(3, rngs=rngs()), (4, 3), (4, 3)),
        (lambda: nnx.LayerNorm(3, rngs=rngs()), (4, 3), (4, 3)),
        (lambda: nnx.RMSNorm(3, rngs=rngs()), (4, 3), (4, 3)),
        (lambda: nnx.GroupNorm(4, 2, rngs=rngs()), (2, 5, 4), (2, 5, 4)),
        (lambda: nnx.InstanceNorm(3, rngs=rngs()), (2, 5, 3), (2, 5, 3)),
        (lambda: nnx.Dropout(0.5, rngs=rngs()), (2, 5), (2, 5)),
        (lambda: nnx.PReLU(), (2, 5), (2, 5)),
    ],
)
def test_layers_survive_split_and_merge(make, shape, expected):
    layer, x = make(), jnp.linspace(-1, 1, int(np.prod(shape))).reshape(shape)
    other = nnx.clone(layer)
    y = layer(x)
    assert y.shape == expected
    np.testing.assert_array_equal(y, other(x))
    hash(nnx.graphdef(layer))


def test_linear_computes_what_it_says():
    layer = nnx.Linear(3, 2, kernel_metadata={"tag": "k"}, bias_init=nnx.initializers.ones, rngs=rngs())
    x = jnp.arange(6.0).reshape(2, 3)
    np.testing.assert_allclose(layer(x), x @ layer.kernel + 1, rtol=1e-6)
    assert layer.kernel.tag == "k"
    assert nnx.Linear(3, 2, dtype=jnp.bfloat16, rngs=rngs())(x).dtype == jnp.bfloat16


def test_conv_mask():
    mask = jnp.zeros((3, 1, 1))
    layer = nnx.Conv(1, 1, 3, mask=mask, rngs=rngs())
    assert jnp.all(layer(jnp.ones((4, 1))) == 0)
    assert "mask" in nnx.state(layer)


def test_embed():
    layer = nnx.Embed(4, 3, rngs=rngs())
    np.testing.assert_array_equal(layer(jnp.array([1, 3])), layer.embedding[jnp.array([1, 3])])
    assert layer.attend(jnp.ones((2, 3))).shape == (2, 4)


def test_batch_norm_modes():
    layer = nnx.BatchNorm(2, momentum=0.5, rngs=rngs())
    x = jnp.array([[0.0, 2.0], [4.0, 2.0]])
    layer(x)
    np.testing.assert_allclose(layer.mean[...], [1, 1])
    layer.eval()
    before = layer.mean[...]
    layer(x)
    assert layer.mean[...] is before
    layer.set_view(use_running_average=False)
    assert not layer.use_running_average
    with pytest.raises(NnxError, match="BatchNorm: neither the layer nor the call says 'use_running_average'"):
        nnx.BatchNorm(2, use_running_average=None, rngs=rngs())(x)


def test_dropout_sources_of_keys():
    x = jnp.ones(64)
    key = jax.random.key(0)
    layer = nnx.Dropout(0.5)
    with pytest.raises(NnxError, match="no RNG stream"):
        layer(x)
    y = layer(x, rngs=key)
    assert set(np.unique(y)) == {0.0, 2.0}
    stream = nnx.RngStream(0, tag="dropout")
    np.testing.assert_array_equal(layer(x, rngs=stream), layer(x, rngs=nnx.Rngs(0)))
    with pytest.raises(TypeError, match="got: int"):
        nnx.Dropout(0.5, rngs=0)
    with pytest.raises(ArgumentError):
        nnx.Dropout(1.5)
    assert layer(x, deterministic=True) is x
    layer.set_view(deterministic=True)
    assert layer(x) is x


def test_bad_layers_say_so_when_they_are_made():
    with pytest.raises(ArgumentError):
        nnx.Conv(1, 1, (3, 3), strides=(1, 2, 3), rngs=rngs())
    with pytest.raises(ArgumentError):
        nnx.Einsum("ab->a", (1,), rngs=rngs())
    with pytest.raises(ArgumentError, match="missing"):
        nnx.Einsum(None, (1, 1), rngs=rngs())(jnp.ones((1, 1)))


def test_optimizer_trains_and_is_equal_to_plain_optax():
    model = nnx.Sequential(nnx.Linear(2, 4, rngs=rngs()), nnx.relu, nnx.Linear(4, 1, rngs=rngs()))
    tx = optax.adam(1e-2)
    optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)
    graphdef = nnx.graphdef(model)
    plain = nnx.to_pure_dict(nnx.state(nnx.clone(model)))
    opt_state = tx.init(plain)
    x, y = jnp.ones((4, 2)), jnp.ones((4, 1))

    def loss(params):
        return ((nnx.merge(graphdef, params)(x) - y) ** 2).mean()

    first = loss(nnx.state(model))
    for _ in range(3):
        optimizer.update(model, jax.grad(loss)(nnx.state(nnx.clone(model))))
        updates, opt_state = tx.update(jax.grad(loss)(plain), opt_state, plain)
        plain = optax.apply_updates(plain, updates)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), nnx.to_pure_dict(nnx.state(model)), plain)
    assert loss(nnx.state(model)) < first
    assert optimizer.step[...] == 3
    kinds = nnx.state(optimizer, nnx.OptVariable)
    assert len(kinds.flat_state()) == 8
    record = nnx.graphdef(optimizer)
    optimizer.update(model, jax.grad(loss)(nnx.state(nnx.clone(model))))
    assert nnx.graphdef(optimizer) is record  # a step changes no structure
    with pytest.raises(NnxError, match="do not match the parameters"):
        optimizer.update(model, {"a": 1.0})


def test_model_and_optimizer():
    model = nnx.Linear(2, 1, rngs=rngs())
    both = nnx.ModelAndOptimizer(model, optax.sgd(0.1))
    before = model.bias[...]
    both.update(jax.tree.map(jnp.ones_like, nnx.state(model)))
    np.testing.assert_allclose(model.bias[...], before - 0.1)
    assert both(jnp.ones((1, 2))).shape == (1, 1)


@pytest.mark.parametrize(
    ("make", "shape", "expected"),
    [
        (lambda: nnx.Linear(3, 2, rngs=rngs()), (4, 5), 3),
        (lambda: nnx.Conv(3, 2, (3, 3), rngs=rngs()), (1, 4, 4, 5), 3),
        (lambda: nnx.ConvTranspose(3, 2, (3, 3), rngs=rngs()), (1, 4, 4, 5), 3),
        (lambda: nnx.LayerNorm(3, rngs=rngs()), (4, 5), 3),
        (lambda: nnx.RMSNorm(3, rngs=rngs()), (4, 5), 3),
        (lambda: nnx.GroupNorm(4, 2, rngs=rngs()), (4, 6), 4),
        (lambda: nnx.InstanceNorm(3, rngs=rngs()), (4, 2, 5), 3),
        (lambda: nnx.BatchNorm(3, rngs=rngs()), (4, 5), 3),
    ],
)
def test_wrong_number_of_features(make, shape, expected):
    layer = make()
    text = f"{type(layer).__name__}: the input does not have the features[\\s\\S]*{expected} features in the last axis"
    with pytest.raises(ShapeMismatchError, match=text) as caught:
        layer(jnp.ones(shape))
    assert caught.value.got == f"shape {shape}"


def test_wrong_features_along_another_axis_and_in_queries():
    with pytest.raises(ShapeMismatchError, match="3 features in axis 1"):
        nnx.BatchNorm(3, axis=1, rngs=rngs())(jnp.ones((2, 4, 3)))
    with pytest.raises(ShapeMismatchError, match="Embed: the query does not have"):
        nnx.Embed(4, 3, rngs=rngs()).attend(jnp.ones((2, 4)))
    assert nnx.LayerNorm(3, use_bias=False, use_scale=False, rngs=rngs())(jnp.ones((2, 4))).shape == (2, 4)


@pytest.mark.parametrize("given", [0, None])
def test_parameters_need_random_streams(given):
    with pytest.raises(ArgumentTypeError, match=r"expected: rngs=nnx.Rngs\(seed\)\n  got: (int|NoneType)"):
        nnx.Linear(3, 2, rngs=given)


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16, jnp.float32])
def test_a_rectifier_has_the_dtype_of_its_input(dtype):
    x = jnp.array([-2.0, 4.0], dtype)
    assert nnx.PReLU()(x).dtype == dtype
    assert nnx.PReLU(dtype=jnp.float32)(x).dtype == jnp.float32
    np.testing.assert_allclose(nnx.PReLU(0.5)(jnp.array([-2, 4])), [-1.0, 4.0])


def test_weights_are_normalized_in_the_dtype_that_they_have():
    linear = nnx.Linear(4, 3, use_bias=False, dtype=jnp.float16, rngs=nnx.Rngs(0))
    layer = nnx.WeightNorm(linear, dtype=jnp.float16, rngs=nnx.Rngs(0))
    exact = linear.kernel[...] / jnp.linalg.norm(linear.kernel[...], axis=0, keepdims=True)
    out = layer(jnp.eye(4, dtype=jnp.float16))
    assert out.dtype == jnp.float16
    np.testing.assert_allclose(out, exact.astype(jnp.float16), rtol=1e-3)


def test_lengths_take_a_key_only_where_they_are_random():
    for init, drawn in ((nnx.initializers.ones, 2), (nnx.initializers.normal(), 3)):
        rngs = nnx.Rngs(0)
        nnx.WeightNorm(nnx.Linear(4, 3, rngs=rngs), scale_init=init, rngs=rngs)
        assert rngs.params.count[...] == drawn


def test_lengths_along_axes_that_a_weight_lacks_are_refused():
    linear = nnx.Linear(4, 3, rngs=nnx.Rngs(0))
    with pytest.raises(ShapeMismatchError, match="feature_axes does not fit an array of 2 dimensions"):
        nnx.WeightNorm(linear, feature_axes=2, rngs=nnx.Rngs(0))


def test_a_bias_with_one_dimension_may_be_given_by_its_size():
    layer = nnx.Einsum("ab,bc->ac", (3, 4), 4, rngs=nnx.Rngs(0))
    assert layer.bias.shape == (4,)
    assert layer(jnp.ones((2, 3))).shape == (2, 4)


@pytest.mark.parametrize(
    ("make", "names"),
    [
        (
            lambda **inits: nnx.LinearGeneral((2, 3), (4, 5), axis=(-2, -1), rngs=nnx.Rngs(0), **inits),
            ["kernel", "bias"],
        ),
        (
            lambda **inits: nnx.LinearGeneral(3, (4, 5), batch_axis={0: 2}, rngs=nnx.Rngs(0), **inits),
            ["kernel", "bias"],
        ),
        (lambda **inits: nnx.MultiHeadAttention(2, 4, rngs=nnx.Rngs(0), **inits).query, ["kernel", "bias"]),
        (lambda **inits: nnx.MultiHeadAttention(2, 4, rngs=nnx.Rngs(0), **inits).out, ["kernel", "bias"]),
    ],
    ids=["several axes", "batch axes", "queries", "results"],
)
def test_initializers_of_several_axes_may_give_metadata(make, names):
    inits = {"kernel_init": nnx.initializers.lecun_normal(), "bias_init": nnx.initializers.normal()}
    plain, told = make(**inits), make(**{k: nnx.with_metadata(f, of=k) for k, f in inits.items()})
    for name in names:
        value, expected = getattr(told, name), getattr(plain, name)
        assert value.of == f"{name}_init"
        np.testing.assert_array_equal(value[...], expected[...])
