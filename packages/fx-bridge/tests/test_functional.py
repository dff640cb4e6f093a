import fx_bridge as bridge
import fx_nnx as nnx
import jax.numpy as jnp
import numpy as np
import pytest
from fx_bridge.errors import UninitializedError

X = jnp.ones((3, 2))


def test_init_and_apply():
    model = bridge.functional(nnx.BatchNorm)(2, momentum=0.9)
    state = model.init(rngs=nnx.Rngs(0))
    params, rest = nnx.split_state(state, nnx.Param, ...)
    out, (_, after) = model.apply(params, rest)(X)
    assert out.shape == X.shape
    np.testing.assert_allclose(after.mean[...], 0.1 * jnp.ones(2), rtol=1e-6)


def test_a_class_without_rngs():
    class Plain(nnx.Module):
        def __init__(self):
            self.w = nnx.Param(jnp.ones(2))

        def scaled(self, by):
            return self.w * by

    model = bridge.functional(Plain)()
    out, _ = model.apply(model.init()).scaled(2.0)
    np.testing.assert_array_equal(out, [2, 2])


def test_apply_before_init():
    with pytest.raises(UninitializedError, match=r"Functional\(Linear\) has no variables yet(.|\n)*init\(rngs="):
        bridge.functional(nnx.Linear)(2, 3).apply({})
