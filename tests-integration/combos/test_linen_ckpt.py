"""fx-linen with fx-ckpt: variables survive a save and a restore to the bit, with and without a target."""

import fx_ckpt
import fx_linen as nn
import jax
import jax.numpy as jnp
import numpy as np


def test_variables_round_trip_through_msgpack(tmp_path):
    model = nn.Dense(3, param_dtype=jnp.bfloat16)
    variables = model.init(jax.random.key(0), jnp.ones((1, 2)))
    manager = fx_ckpt.CheckpointManager(tmp_path, backend="msgpack", keep=2)
    for step in (1, 2, 3):
        manager.save(step, variables)
    assert list(manager.all_steps()) == [2, 3]
    for restored in (manager.restore(target=variables), manager.restore()):
        assert jax.tree.structure(restored) == jax.tree.structure(variables)
        for one, other in zip(jax.tree.leaves(restored), jax.tree.leaves(variables)):
            assert one.dtype == other.dtype
            np.testing.assert_array_equal(one, other)
