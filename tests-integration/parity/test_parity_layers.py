"""Every layer and its options against Flax: same seed, same parameters to the bit, same outputs."""

import flax.linen as flax_nn
import fx_linen as fx_nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

normal = jax.nn.initializers.normal(1.0)
BF16, F16 = jnp.bfloat16, jnp.float16


def draw(shape, seed=0, dtype=np.float32):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), dtype)


def case(layer, shape, *args, call=None, dtype=np.float32, **options):
    text = ",".join([*map(str, args), *(f"{k}={getattr(v, '__name__', v)}" for k, v in options.items())])
    return pytest.param(layer, shape, args, options, call or {}, dtype, id=f"{layer}({text[:70]})-{shape}")


DENSE = [
    *[case("Dense", shape, 3) for shape in [(4,), (2, 4), (2, 3, 4)]],
    case("Dense", (2, 4), 3, use_bias=False),
    case("Dense", (2, 4), 3, dtype=BF16),
    case("Dense", (2, 4), 3, param_dtype=BF16),
    case("Dense", (2, 4), 3, dtype=F16, param_dtype=BF16),
    case("Dense", (2, 4), 3, precision="highest"),
    case("Dense", (2, 4), 3, kernel_init=jax.nn.initializers.he_uniform(), bias_init=normal),
    case("Dense", (2, 4), 3, dot_general=jax.lax.dot_general),
    case("Dense", (2, 4), 3, dot_general_cls=lambda: jax.lax.dot_general),
    case("DenseGeneral", (2, 4), 3),
    case("DenseGeneral", (2, 3, 4), (5, 2)),
    case("DenseGeneral", (2, 3, 4), (5, 2), axis=(1, 2)),
    case("DenseGeneral", (2, 3, 4), 5, axis=(-1, 1), bias_init=normal),
    case("DenseGeneral", (2, 3, 4, 5), (3, 2), axis=(1, 3), batch_dims=(0,), bias_init=normal),
    case("DenseGeneral", (2, 3, 4, 5), 2, axis=-1, batch_dims=(0, 1), bias_init=normal),
    case("DenseGeneral", (2, 3, 4), 5, axis=0, use_bias=False),
    case("DenseGeneral", (2, 3, 4), 5, dtype=BF16),
    case("DenseGeneral", (2, 3, 4), 5, param_dtype=F16, precision="high"),
    case("Einsum", (2, 3, 4), (4, 5), "abc,cd->abd", bias_init=normal),
    case("Einsum", (2, 3, 4), (4, 5, 6), "abc,cde->abed", bias_init=normal),
    case("Einsum", (2, 3, 4), (3, 4, 5), "abc,bcd->abd", bias_init=normal),
    case("Einsum", (2, 3, 4), (4, 5), "...c,cd->...d", bias_init=normal),
    case("Einsum", (2, 3, 4), (7, 4, 5), "abc,...cd->...abd", bias_init=normal),
    case("Einsum", (2, 3, 4), (4, 5), "ab c, cd -> db", use_bias=False),
    case("Einsum", (2, 4), (4, 5), call={"einsum_str": "ab,bc->ca"}, bias_init=normal),
    case("Einsum", (2, 4), (4, 5), "ab,bc->ac", dtype=BF16, param_dtype=F16),
    case("Einsum", (2, 4), (4, 5), "ab,bc->ac", preferred_element_type=jnp.float32, precision="highest"),
]

CONV = [
    *[case("Conv", shape, 4, (), bias_init=normal) for shape in [(3,), (2, 3), (2, 5, 3)]],
    *[case("ConvTranspose", shape, 4, (), padding=p) for shape in [(3,), (2, 3)] for p in ["SAME", "CIRCULAR", 1]],
    *[case("Conv", (2, 8, 9, 3), 4, (3, 3), padding=p) for p in ["SAME", "VALID", "CIRCULAR", "REFLECT", 1, 2]],
    *[case("Conv", (2, 8, 9, 3), 4, (3, 2), padding=p) for p in ["CIRCULAR", "REFLECT", ((1, 0), (0, 2)), (1, 2)]],
    *[case("Conv", (2, 9, 3), 4, (k,), padding="CAUSAL", kernel_dilation=d) for k, d in [(1, 1), (3, 1), (3, 2)]],
    *[case("Conv", (2, 9, 8, 3), 4, (3, 3), strides=s, padding=p) for s in [2, (2, 1)] for p in ["SAME", "VALID"]],
    *[case("Conv", (2, 9, 3), 4, (4,), padding=p, kernel_dilation=2) for p in ["SAME", "CIRCULAR", "REFLECT"]],
    *[case("Conv", (2, 9, 3), 4, (3,), strides=2, padding=p) for p in ["CAUSAL", "CIRCULAR", "SAME_LOWER"]],
    *[case("Conv", (2, 6, 4), 8, (3,), feature_group_count=g, bias_init=normal) for g in [2, 4]],
    *[case("Conv", shape, 4, (3,)) for shape in [(6, 3), (2, 2, 6, 3), (2, 1, 3, 6, 3)]],
    case("Conv", (6, 6, 3), 4, (3, 3)),
    case("Conv", (2, 4, 5, 4, 2), 3, (2, 3, 2)),
    case("Conv", (2, 4, 5, 4, 2), 3, (2, 3, 2), strides=(1, 2, 1), padding="CIRCULAR"),
    case("Conv", (2, 6, 3), 4, 3),
    case("Conv", (2, 6, 3), 4, (3,), input_dilation=2, padding=1),
    case(
        "Conv",
        (2, 6, 6, 3),
        4,
        (3, 3),
        input_dilation=(2, 1),
        kernel_dilation=(1, 2),
        strides=None,
        padding=[2, (0, 1)],
    ),
    case("Conv", (2, 6, 3), 4, (3,), mask=draw((3, 3, 4), 9)),
    case("Conv", (2, 6, 3), 4, (3,), use_bias=False, precision="highest"),
    case("Conv", (2, 6, 3), 4, (3,), dtype=BF16),
    case("Conv", (2, 6, 3), 4, (3,), param_dtype=BF16),
    case("Conv", (2, 6, 3), 4, (3,), conv_general_dilated=jax.lax.conv_general_dilated),
    case("Conv", (2, 6, 3), 4, (3,), conv_general_dilated_cls=lambda: jax.lax.conv_general_dilated),
    *[
        case("ConvLocal", (2, 6, 3), 4, (3,), padding=p, bias_init=normal)
        for p in ["SAME", "VALID", "CIRCULAR", "CAUSAL"]
    ],
    *[case("ConvLocal", shape, 4, (3,)) for shape in [(6, 3), (2, 2, 6, 3)]],
    case("ConvLocal", (2, 5, 6, 2), 3, (3, 2), strides=(2, 1), padding="VALID"),
    case("ConvLocal", (2, 7, 2), 3, (3,), kernel_dilation=2, use_bias=False),
    case("ConvLocal", (2, 7, 2), 3, (3,), input_dilation=2, padding=[(1, 2)]),
    case("ConvLocal", (2, 4, 2), 3, (3,), mask=draw((4, 6, 3), 8)),
    case("ConvLocal", (2, 4, 2), 3, (3,), dtype=BF16),
    *[
        case("ConvTranspose", (2, 5, 3), 4, (k,), strides=s, padding=p, transpose_kernel=t)
        for k, s in [(3, (1,)), (3, (2,)), (4, (2,)), (2, (3,)), (5, None)]
        for p in ["SAME", "VALID", "CIRCULAR"]
        for t in [False, True]
    ],
    *[
        case(
            "ConvTranspose",
            (2, 4, 5, 3),
            2,
            (3, 4),
            strides=(2, 3),
            padding="CIRCULAR",
            kernel_dilation=d,
            transpose_kernel=t,
        )
        for d in [None, (2, 1)]
        for t in [False, True]
    ],
    *[case("ConvTranspose", (2, 5, 3), 4, (3,), padding=p) for p in [1, ((2, 1),), (2,)]],
    *[case("ConvTranspose", shape, 4, (3,), strides=(2,), bias_init=normal) for shape in [(5, 3), (2, 2, 5, 3)]],
    case("ConvTranspose", (2, 5, 3), 4, 3),
    case("ConvTranspose", (2, 5, 3), 4, (3,), mask=draw((3, 3, 4), 7), use_bias=False),
    case("ConvTranspose", (2, 5, 3), 4, (3,), dtype=BF16, param_dtype=F16),
    case("ConvTranspose", (2, 5, 3), 4, (3,), preferred_element_type=jnp.float32, precision="highest"),
]

MASK = np.random.default_rng(3).random((2, 4, 5, 6)) > 0.3
RANDOM = {"scale_init": normal, "bias_init": normal}
TRAIN = {"use_running_average": False}
COMMON = [
    {},
    {"use_fast_variance": False},
    {"dtype": BF16},
    # The one-pass variance of an example is more exact than that of Flax, which shows where little is exact.
    {"dtype": BF16, "force_float32_reductions": False, "use_fast_variance": False},
    {"param_dtype": BF16},
    {"use_scale": False},
    {"epsilon": 0.1, **RANDOM},
]
NORM = [
    *[case(n, (2, 4, 5, 6), **o) for n in ["LayerNorm", "InstanceNorm"] for o in COMMON],
    *[case("BatchNorm", (2, 4, 5, 6), **o, **TRAIN) for o in COMMON],
    *[case("GroupNorm", (2, 4, 5, 6), 3, **o) for o in COMMON],
    *[case("RMSNorm", (2, 4, 5, 6), **{k: v for k, v in o.items() if k != "bias_init"}) for o in COMMON],
    *[case(n, (2, 4, 5, 6), use_bias=False, scale_init=normal) for n in ["LayerNorm", "InstanceNorm"]],
    *[case(n, (2, 4, 5, 6), call={"mask": MASK}) for n in ["LayerNorm", "InstanceNorm", "RMSNorm"]],
    *[case(n, (2, 4, 5, 6), call={"mask": MASK}, use_fast_variance=False) for n in ["LayerNorm", "InstanceNorm"]],
    case("BatchNorm", (2, 4, 5, 6), call={"mask": MASK}, **TRAIN),
    case("GroupNorm", (2, 4, 5, 6), 2, call={"mask": MASK}),
    *[case("GroupNorm", (6,), 3, call=c, **RANDOM) for c in [{}, {"mask": np.arange(6) > 1}]],
    *[case(n, (2, 4, 5, 6), dtype_in=t) for n in ["LayerNorm", "InstanceNorm", "RMSNorm"] for t in [BF16, F16]],
    *[case("BatchNorm", (2, 4, 5, 6), axis=a, **RANDOM, **TRAIN) for a in [1, 0, (1, -1), (-1, 1, 2)]],
    case("BatchNorm", (2, 4, 6), use_running_average=True),
    case("BatchNorm", (2, 4, 6), call=TRAIN, momentum=0.5),
    case("BatchNorm", (6,), **TRAIN),
    *[
        case("LayerNorm", (2, 4, 5, 6), reduction_axes=r, feature_axes=f, **RANDOM)
        for r in [-1, (1, 2, 3), (0, -1), (-1, 1)]
        for f in [-1, 1, (-1, 1)]
    ],
    *[case("RMSNorm", (2, 4, 5, 6), reduction_axes=r, feature_axes=f) for r in [1, (1, -1)] for f in [-1, (1, 2)]],
    *[case("GroupNorm", (2, 4, 5, 6), num_groups=None, group_size=s, **RANDOM) for s in [1, 2, 6]],
    *[case("GroupNorm", (2, 4, 5, 6), 2, reduction_axes=r, **RANDOM) for r in [(-1,), (1, -1), (0, 1, 2, 3)]],
    case("GroupNorm", (2, 64), use_fast_variance=False),
    *[case("InstanceNorm", (2, 4, 5, 6), feature_axes=f, **RANDOM) for f in [1, (1, -1), (-1, 2)]],
]

MASKED = [("RMSNorm", {}), ("GroupNorm", {"num_groups": 2}), ("BatchNorm", TRAIN), ("LayerNorm", {})]
LOCAL_MASKS = [("VALID", (4, 5, 18, 4)), ("CIRCULAR", (6, 6, 18, 4))]
OTHER = [
    case("PReLU", (2, 5)),
    case("PReLU", (2, 5), negative_slope_init=0.3, param_dtype=BF16),
    case("PReLU", (2, 5), dtype_in=BF16),
]

VECTOR = {
    "Dense": ((2, 4), (3,)),
    "DenseGeneral": ((2, 3, 4), ((5, 2), (1, 2))),
    "Einsum": ((2, 4), ((4, 5), "ab,bc->ac")),
    "Conv": ((2, 6, 3), (4, (3,))),
    "ConvLocal": ((2, 6, 3), (4, (3,))),
    "ConvTranspose": ((2, 6, 3), (4, (3,))),
}


def in_float32(*arrays, dtype=None, inexact=True):
    """A rule of promotion of one's own."""
    return [x if x is None else jnp.asarray(x, jnp.float32) for x in arrays]


MORE = [
    *[case(n, s, *a, dtype_in=t) for n, (s, a) in VECTOR.items() for t in [BF16, F16, np.int32]],
    *[case(n, s, *a, dtype_in=BF16, promote_dtype=in_float32) for n, (s, a) in VECTOR.items()],
    *[case(n, s, *a, kernel_init=normal, bias_init=normal, param_dtype=F16) for n, (s, a) in VECTOR.items()],
    *[case("Conv", (2, 5, 6, 3), 4, (3, 2), padding=p, mask=draw((3, 2, 3, 4), 6)) for p in ["CIRCULAR", "REFLECT"]],
    *[case("Conv", (9, 3), 4, (3,), padding=p) for p in ["CIRCULAR", "REFLECT", "CAUSAL"]],
    case("Conv", (2, 7, 4), 8, (3,), feature_group_count=2, padding="CAUSAL", kernel_dilation=2, strides=2),
    *[case("ConvLocal", (2, 7, 3), 4, (3,), padding=p) for p in ["REFLECT", 1, ((2, 0),)]],
    *[case("ConvLocal", (2, 6, 6, 3), 4, (3, 2), padding=p, mask=draw(s, 5)) for p, s in LOCAL_MASKS],
    case("ConvLocal", (2, 7, 3), 4, (3,), padding="CAUSAL", kernel_dilation=2, precision="highest"),
    *[case("ConvTranspose", (2, 5, 3), 4, (3,), padding=p, kernel_dilation=2) for p in ["SAME", "VALID"]],
    *[
        case("ConvTranspose", (2, 4, 5, 3), 2, (3, 4), padding=p, mask=draw((3, 4, 3, 2), 4))
        for p in ["SAME", "CIRCULAR"]
    ],
    case("ConvTranspose", (4, 5, 3), 2, (3, 4), strides=(2, 3), padding="CIRCULAR"),
    *[case(n, (6,)) for n in ["LayerNorm", "RMSNorm"]],
    *[case(n, (5, 6), **o) for n in ["GroupNorm"] for o in [{"num_groups": 2}, {"num_groups": 2, "dtype_in": BF16}]],
    *[case(n, (2, 4, 5, 6), call={"mask": MASK}, use_fast_variance=False, **o) for n, o in MASKED],
    # Flax has no GroupNorm with a mask that has to be broadcast.
    *[case(n, (2, 4, 5, 6), call={"mask": MASK[..., :1]}, **o) for n, o in MASKED if n != "GroupNorm"],
    case("BatchNorm", (2, 4, 5, 6), dtype_in=BF16, **TRAIN),
    case("BatchNorm", (2, 4, 5, 6), call={"mask": MASK}, axis=1, momentum=0.7, **TRAIN),
    case("GroupNorm", (2, 4, 5, 6), 3, dtype_in=F16),
]


def split(options, dtype):
    """``dtype_in`` is the dtype of the input, everything else belongs to the layer."""
    return {k: v for k, v in options.items() if k != "dtype_in"}, options.get("dtype_in", dtype)


def tolerance(tree):
    low = any(leaf.dtype in (BF16, F16) for leaf in jax.tree.leaves(tree))
    return {"rtol": 2e-2, "atol": 2e-2} if low else {"rtol": 1e-6, "atol": 1e-6}


def same_bits(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for (path, left), right in zip(jax.tree.leaves_with_path(a), jax.tree.leaves(b)):
        assert left.dtype == right.dtype, path
        np.testing.assert_array_equal(np.asarray(left), np.asarray(right), err_msg=jax.tree_util.keystr(path))


def close(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for left, right in zip(jax.tree.leaves(a), jax.tree.leaves(b)):
        assert (left.shape, left.dtype) == (right.shape, right.dtype)
        scale = max(1.0, float(np.abs(np.asarray(right, np.float32)).max(initial=0.0)))
        left, right = np.asarray(left, np.float32) / scale, np.asarray(right, np.float32) / scale
        np.testing.assert_allclose(left, right, **tolerance([a, b]))


@pytest.mark.parametrize(("layer", "shape", "args", "options", "call", "dtype"), [*DENSE, *CONV, *NORM, *OTHER, *MORE])
def test_layer(layer, shape, args, options, call, dtype):
    options, dtype = split(options, dtype)
    x = (draw(shape, 1) * 3).astype(dtype) if dtype == np.int32 else draw(shape, 1, dtype)
    ours, theirs = getattr(fx_nn, layer)(*args, **options), getattr(flax_nn, layer)(*args, **options)
    key = jax.random.key(42)
    variables, reference = ours.init(key, x, **call), theirs.init(key, x, **call)
    same_bits(variables, reference)
    got = ours.apply(variables, x, **call, mutable=["batch_stats"])
    expected = theirs.apply(reference, x, **call, mutable=["batch_stats"])
    close(got, expected)


@pytest.mark.parametrize("options", [{}, {"param_dtype": BF16}, {"dtype": BF16}, {"embedding_init": normal}])
@pytest.mark.parametrize("size", [1, 5])
@pytest.mark.parametrize("shape", [(1,), (3,), (2, 3)])
def test_embed(options, size, shape):
    ids = jnp.asarray(np.random.default_rng(0).integers(0, 7, shape))
    ours, theirs = fx_nn.Embed(size, 4, **options), flax_nn.Embed(size, 4, **options)
    variables, reference = ours.init(jax.random.key(1), ids), theirs.init(jax.random.key(1), ids)
    same_bits(variables, reference)
    close(ours.apply(variables, ids), theirs.apply(reference, ids))
    query = draw((*shape, 4), 2)
    close(ours.apply(variables, query, method="attend"), theirs.apply(reference, query, method=theirs.attend))


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.5, 1.0])
@pytest.mark.parametrize("dims", [(), (0,), (-1,), (0, 2)])
@pytest.mark.parametrize("deterministic", [False, True])
def test_dropout(rate, dims, deterministic):
    x, key = draw((3, 4, 5)), jax.random.key(3)
    for rngs in ({"dropout": key}, {"params": key}):
        got = fx_nn.Dropout(rate, dims).apply({}, x, deterministic=deterministic, rngs=rngs)
        same_bits(got, flax_nn.Dropout(rate, dims).apply({}, x, deterministic=deterministic, rngs=rngs))
    given = fx_nn.Dropout(rate, dims, deterministic).apply({}, x, rng=key)
    same_bits(given, flax_nn.Dropout(rate, dims, deterministic).apply({}, x, rng=key))


def test_dropout_from_another_stream():
    x, rngs = draw((8,)), {"noise": jax.random.key(5)}
    ours, theirs = (nn.Dropout(0.5, deterministic=False, rng_collection="noise") for nn in (fx_nn, flax_nn))
    same_bits(ours.apply({}, x, rngs=rngs), theirs.apply({}, x, rngs=rngs))


@pytest.mark.parametrize("layer", ["BatchNorm", "LayerNorm", "RMSNorm", "GroupNorm", "InstanceNorm"])
@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("masked", [True, False])
def test_norms_over_a_mapped_axis(layer, fast, masked):
    # Every device counts as many values: else Flax gives the mean of their means, and we that of all values.
    x, mask = draw((3, 2, 4, 6)), np.random.default_rng(5).random((2, 4, 6)) > 0.3
    mask = jnp.broadcast_to(mask, x.shape)
    options = {"axis_name": "b", "use_fast_variance": fast}
    options |= {"num_groups": 2} if layer == "GroupNorm" else TRAIN if layer == "BatchNorm" else {}
    ours, theirs = getattr(fx_nn, layer)(**options), getattr(flax_nn, layer)(**options)
    variables = theirs.clone(axis_name=None).init(jax.random.key(0), x[0])

    def run(module):
        def one(x, mask):
            return module.apply(variables, x, mask=mask if masked else None, mutable=["batch_stats"])

        return jax.vmap(one, axis_name="b")(x, mask)

    close(run(ours), run(theirs))


@pytest.mark.parametrize("dtype", [BF16, jnp.float32])
def test_embed_with_a_promotion_of_its_own(dtype):
    ids, key = jnp.array([0, 3]), jax.random.key(1)
    options = {"promote_dtype": in_float32, "param_dtype": dtype}
    ours, theirs = fx_nn.Embed(4, 3, **options), flax_nn.Embed(4, 3, **options)
    variables = ours.init(key, ids)
    same_bits(variables, theirs.init(key, ids))
    close(ours.apply(variables, ids), theirs.apply(variables, ids))


def test_sequential_passes_tuples_and_dicts_on():
    def layers(nn):
        first = lambda x: (x, 2 * x)  # noqa: E731
        return nn.Sequential([nn.Dense(3), first, lambda a, b: {"u": a, "v": b}, lambda v, u: v - u, nn.Dense(2)])

    x, key = draw((2, 4)), jax.random.key(2)
    variables = layers(fx_nn).init(key, x)
    same_bits(variables, layers(flax_nn).init(key, x))
    close(layers(fx_nn).apply(variables, x), layers(flax_nn).apply(variables, x))


def nets(nn):
    cnn = [
        nn.Conv(4, (3, 3)),
        nn.BatchNorm(use_running_average=False),
        nn.relu,
        lambda x: nn.max_pool(x, (2, 2), (2, 2)),
    ]
    head = [lambda x: x.reshape((x.shape[0], -1)), nn.LayerNorm(), nn.Dense(3), nn.log_softmax]
    return nn.Sequential([*cnn, nn.Sequential(head)])


def test_a_network_of_them():
    x = draw((2, 4, 4, 1))
    ours, theirs = nets(fx_nn), nets(flax_nn)
    variables, reference = ours.init(jax.random.key(7), x), theirs.init(jax.random.key(7), x)
    same_bits(variables, reference)
    close(ours.apply(variables, x, mutable=["batch_stats"]), theirs.apply(reference, x, mutable=["batch_stats"]))


@pytest.mark.parametrize("num_dims", [1, 2, 3])
def test_batch_apply(num_dims):
    def f(x, y, k=2):
        return {"a": x * k, "b": x.sum(axis=tuple(range(1, x.ndim)))}, y * 2

    x, y = draw((2, 3, 4, 5)), draw((2, 3, 4), 1)
    close(fx_nn.BatchApply(f, num_dims)(x, y, k=3), flax_nn.BatchApply(f, num_dims)(x, y, k=3))
