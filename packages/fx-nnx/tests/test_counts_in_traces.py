import fx_nnx as nnx
import jax
import jax.numpy as jnp
import numpy as np
import pytest


def test_streams_made_in_a_trace_give_the_same_keys_and_counts():
    def draw():
        rngs = nnx.Rngs(0, dropout=1)
        keys = [rngs.params(), rngs.params(), rngs.dropout()]
        forked = rngs.fork()
        keys += [forked.params(), nnx.Linear(2, 2, rngs=rngs).kernel[...]]
        return keys, nnx.state([rngs, forked]), jnp.stack([rngs.default.count[...], forked.dropout.count[...]])

    here, traced = jax.tree.leaves(draw()), jax.tree.leaves(jax.jit(draw)())
    assert [x.dtype for x in here] == [x.dtype for x in traced]
    for x, y in zip(here, traced, strict=True):
        if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
            x, y = jax.random.key_data(x), jax.random.key_data(y)
        np.testing.assert_allclose(x, y, rtol=1e-6)


def test_counts_in_a_trace_are_read_and_written_as_arrays():
    @jax.jit
    def change(number):
        counts = [nnx.Rngs(0).default.count for _ in range(5)]
        first = [counts[0][...], counts[0].value, counts[0].get_raw_value(), counts[0] + 1, *jax.tree.leaves(counts[0])]
        assert all(isinstance(value, jax.Array) and value.dtype == jnp.uint32 for value in first)
        before = counts[1].value
        counts[1].value += 3
        counts[2][...] = 4
        counts[3][...] = number
        counts[4].set_value(number.astype(jnp.uint32))
        return before, [count[...] for count in counts]

    before, counts = change(jnp.array(5))
    assert int(before) == 0
    assert [int(count) for count in counts] == [0, 3, 4, 5, 5]
    assert {count.dtype for count in counts} == {jnp.dtype(jnp.uint32)}


@pytest.mark.parametrize("transform", ["jit", "grad", "remat", "cond", "scan", "vmap", "fori_loop"])
def test_streams_made_in_a_trace_go_through_transforms_inside(transform):
    def step(rngs, x):
        return (x + jax.random.uniform(rngs.params())).sum()

    def body(rngs, x):
        if transform == "grad":
            return nnx.value_and_grad(lambda x, rngs: step(rngs, x))(x, rngs)[0]
        if transform == "cond":
            return nnx.cond(x > 0, step, lambda rngs, x: x, rngs, x)
        if transform == "scan":
            with nnx.split_rngs(rngs, splits=3):
                mapped = nnx.scan(lambda x, rngs: step(rngs, x), in_axes=(nnx.Carry, 0), out_axes=nnx.Carry)
                return mapped(x, rngs)
        if transform == "vmap":
            with nnx.split_rngs(rngs, splits=3):
                return nnx.vmap(step, in_axes=(0, None))(rngs, x).sum()
        if transform == "fori_loop":
            return nnx.fori_loop(0, 3, lambda _, state: (state[0], step(*state)), (rngs, x))[1]
        return getattr(nnx, transform)(step)(rngs, x)

    def run():
        rngs = nnx.Rngs(0)
        rngs.params()
        out = body(rngs, jnp.ones(())), jax.random.uniform(rngs.params())
        return *out, rngs.default.count[...]

    here, traced = run(), jax.jit(run)()
    np.testing.assert_allclose(here, traced, rtol=1e-6)
    assert traced[-1].dtype == jnp.uint32


def test_modules_made_in_a_jitted_function_come_out_with_arrays_as_counts():
    model = nnx.jit(lambda: nnx.Dropout(0.5, rngs=nnx.Rngs(0)))()
    other = nnx.Dropout(0.5, rngs=nnx.Rngs(0))
    x = jnp.ones(16)
    assert isinstance(model.rngs.count.get_raw_value(), jax.Array)
    assert all((model(x) == other(x)).all() for _ in range(2))
    assert int(model.rngs.count[...]) == int(other.rngs.count[...])
