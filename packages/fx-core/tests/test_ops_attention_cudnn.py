"""The attention that is cuDNN's when compiled for CUDA: on CPU its rules run on the plain mathematics."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fx_core.ops import attention
from fx_core.ops.attention import cudnn
from jax import export

LENGTH, DEPTH = 64, 8


@pytest.fixture(autouse=True)
def _a_gpu(monkeypatch):
    monkeypatch.setattr(cudnn, "cudnn_capability", lambda: (9, 0))
    monkeypatch.setattr(cudnn, "_SHORTEST", LENGTH)
    # Tracing JAX's call to cuDNN asks for the version, without a need for the library.
    monkeypatch.setattr("jax._src.cudnn.fused_attention_stablehlo.check_cudnn_version", lambda: 91000)


def operands(dtype=jnp.bfloat16, batch=2, heads=4, kv_heads=2):
    keys = jax.random.split(jax.random.key(0), 3)
    shapes = [(batch, LENGTH, count, DEPTH) for count in (heads, kv_heads, kv_heads)]
    return tuple(jax.random.normal(key, shape).astype(dtype) for key, shape in zip(keys, shapes))


def some_mask(shape=(2, 1, LENGTH, LENGTH)):
    mask = np.random.default_rng(3).random(shape) > 0.3
    mask[..., 5, :] = False  # sees nothing
    return jnp.asarray(mask)


OPTIONS = {
    "nothing": {},
    "causal": {"is_causal": True},
    "a mask": {"mask": some_mask()},
    "a mask of keys": {"mask": some_mask()[:, :, :1]},
    "a causal mask": {"mask": some_mask((LENGTH, LENGTH)), "is_causal": True},
    "a bias": {"bias": jnp.linspace(-2, 2, 4 * LENGTH * LENGTH).astype(jnp.bfloat16).reshape(1, 4, LENGTH, LENGTH)},
}


def chosen(*arrays, **options):
    return attention.dot_product_attention(*arrays, **options)


def plain(*arrays, **options):
    """In float32, with weights in an array."""
    dtype = arrays[0].dtype
    result = attention.dot_product_attention(
        *(x.astype(jnp.float32) for x in arrays), **options, sow=lambda weights: None
    )
    return result.astype(dtype)


def loss(way, *arrays, **options):
    scale = jnp.linspace(0.5, 1.5, DEPTH).reshape(1, 1, 1, -1)
    return jnp.sum(way(*arrays, **options).astype(jnp.float32) ** 2 * scale)


def gradients(way, **options):
    return jax.grad(functools.partial(loss, way, **options), argnums=(0, 1, 2))


def assert_close(got, want, tolerance=0.04):
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        assert a.dtype == b.dtype
        a, b = (np.asarray(x, np.float32) for x in (a, b))
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance * max(1, np.abs(b).max() / 4))


def stands_for_kernels(fn, *args):
    return str(jax.make_jaxpr(fn)(*args)).count("fx_attention")


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_values_and_derivatives_are_those_of_the_plain_way(options):
    arrays = operands()
    assert stands_for_kernels(functools.partial(chosen, **options), *arrays) == 1

    def everything(way):
        fn = functools.partial(way, **options)
        return jax.jit(lambda *xs: (fn(*xs), jax.jvp(fn, xs, xs[::1])[1], gradients(way, **options)(*xs)))(*arrays)

    assert_close(everything(chosen), everything(plain))


def test_float16_with_a_mask():
    arrays, mask = operands(jnp.float16), some_mask()
    assert stands_for_kernels(functools.partial(chosen, mask=mask), *arrays)
    assert_close(chosen(*arrays, mask=mask), plain(*arrays, mask=mask), 0.01)


def test_gradients_of_a_bias():
    arrays = operands()
    bias = OPTIONS["a bias"]["bias"]

    def run(way):
        return jax.grad(lambda bias: loss(way, *arrays, bias=bias, mask=some_mask()))(bias)

    assert_close(run(chosen), run(plain))


@pytest.mark.parametrize("axes", [(0, 0, 0), (0, None, None), (None, 0, 2), (1, 0, 0)], ids=str)
def test_more_batch_dimensions(axes):
    arrays = [
        x if axis is None else jnp.moveaxis(jnp.stack([x, 2 * x, -x]), 0, axis) for x, axis in zip(operands(), axes)
    ]
    mask = some_mask((1, 1, LENGTH, LENGTH))

    def run(way):
        fn = functools.partial(way, mask=mask)
        return jax.jit(jax.vmap(lambda *xs: (fn(*xs), gradients(way, mask=mask)(*xs)), in_axes=axes))(*arrays)

    assert_close(run(chosen), run(plain))


def test_a_bias_for_the_whole_batch_has_a_gradient_per_example():
    arrays = operands()
    bias = OPTIONS["a bias"]["bias"]

    def run(way):
        grad = jax.grad(lambda bias, query: loss(way, query, *arrays[1:], bias=bias))
        return jax.vmap(grad, in_axes=(None, 0))(bias, jnp.stack([arrays[0], -arrays[0]]))

    assert_close(run(chosen), run(plain), 0.06)


def test_second_derivatives():
    arrays = operands(batch=1, kv_heads=4)

    def run(way):
        grad = gradients(way)

        def size(*xs):
            return sum(jnp.sum(x.astype(jnp.float32) ** 2) for x in grad(*xs)) * 1e-2

        return jax.jit(lambda *xs: (jax.jvp(grad, xs, xs)[1], jax.grad(size, argnums=(0, 1, 2))(*xs)))(*arrays)

    assert_close(run(chosen), run(plain), 0.08)


def test_rematerialized_and_in_a_loop():
    query, key, value = operands(kv_heads=4)

    def run(way):
        body = jax.checkpoint(lambda x, _: (way(x, key, value), None))
        return jax.grad(lambda x: jnp.sum(jax.lax.scan(body, x, None, length=2)[0].astype(jnp.float32) ** 2))(query)

    assert_close(run(chosen), run(plain))


def test_the_transpose_of_a_gradient():
    arrays = operands()
    _, pull = jax.vjp(chosen, *arrays)
    _, push = jax.linearize(chosen, *arrays)
    (back,) = jax.linear_transpose(pull, arrays[0])(arrays)
    assert_close(back, push(*arrays), 0.001)


def test_one_forward_and_one_backward_kernel():
    program = str(jax.make_jaxpr(jax.value_and_grad(functools.partial(loss, chosen)))(*operands()))
    assert [program.count(f"= {name}[") for name in ("fx_attention", "fx_attention_pullback")] == [1, 1]


def test_what_the_backward_kernel_gets():
    saved = cudnn._saved(operands(), True)
    assert saved.stats == (((2, 4, LENGTH), np.float32),)
    assert {0, 1, 2, "out", "stat"} <= {source for source in saved.sources if not isinstance(source, tuple)}


def test_exported_programs_do_not_depend_on_cudnn():
    arrays = operands()
    program = export.export(jax.jit(chosen), platforms=("cpu", "cuda"))(*arrays)
    assert "__cudnn" not in program.mlir_module()
    assert_close(program.call(*arrays), plain(*arrays))


@pytest.mark.parametrize("options", ["nothing", "a mask", "a bias"])
def test_what_is_compiled_for_cuda_calls_cudnn(options):
    def lowered(fn):
        traced = jax.jit(functools.partial(fn, **OPTIONS[options])).trace(*operands())
        return traced.lower(lowering_platforms=("cuda",)).as_text()

    forward, both = lowered(chosen), lowered(lambda *xs, **options: jax.value_and_grad(loss, 1)(chosen, *xs, **options))
    assert [text.count("@__cudnn$fmha") for text in (forward, both)] == [1, 2]
    assert "@__cudnn" not in lowered(plain)


def test_what_suits(monkeypatch):
    def of(shape=(2, 64, 4, 128), dtype=jnp.bfloat16, keys=None, bias=None):
        query = jax.ShapeDtypeStruct(shape, dtype)
        key = query if keys is None else jax.ShapeDtypeStruct((*shape[:-3], keys, *shape[-2:]), dtype)
        return cudnn.suits(query, key, key, bias)

    assert of()
    assert of(dtype=jnp.float16)
    assert of(bias=jnp.ones((), jnp.bfloat16))
    assert of(shape=(2, 64, 4, 256))
    assert not of(dtype=jnp.float32)
    assert not of(shape=(2, 1, 4, 128), keys=64)  # decoding
    assert not of(shape=(2, 65, 4, 128))
    assert not of(keys=65)
    assert not of(shape=(2, 64, 4, 100))
    assert not of(bias=jnp.ones(()))  # would be rounded
    mesh = jax.sharding.AbstractMesh((2,), ("data",))
    with jax.sharding.use_abstract_mesh(mesh):
        assert not of()
    monkeypatch.setattr(cudnn, "cudnn_capability", lambda: (8, 0))
    assert of()
    assert not of(shape=(2, 64, 4, 256))
    monkeypatch.setattr(cudnn, "cudnn_capability", lambda: (7, 5))
    assert not of()
    monkeypatch.setattr(cudnn, "cudnn_capability", lambda: None)
    assert not of()


def test_not_inside_of_shard_map():
    mesh = jax.make_mesh((1,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    spec = jax.sharding.PartitionSpec("data")
    inside = jax.shard_map(chosen, mesh=mesh, in_specs=spec, out_specs=spec)
    arrays = operands()
    assert stands_for_kernels(inside, *arrays) == 0
    assert_close(jax.jit(inside)(*arrays), plain(*arrays))


def test_free_sizes_of_an_export_are_left_to_xla():
    array = jax.ShapeDtypeStruct(jax.export.symbolic_shape("batch, length, 2, 8"), jnp.bfloat16)
    assert not cudnn.suits(array, array, array, None)
