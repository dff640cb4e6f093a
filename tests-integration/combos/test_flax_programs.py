"""A program written for Flax, with everything installed."""

import subprocess
import sys

PROGRAM = """
import flax
import flax.linen as nn
import jax, jax.numpy as jnp, optax
from flax import nnx
from flax.nnx import bridge, statelib
from flax.training import checkpoints, train_state

model = nn.Dense(1)
params = model.init(jax.random.key(0), jnp.ones((1, 2)))["params"]
state = train_state.TrainState.create(apply_fn=model.apply, params=params, tx=optax.sgd(0.1))
grads = jax.grad(lambda p: model.apply({"params": p}, jnp.ones((1, 2))).sum())(params)
state = state.apply_gradients(grads=grads)
assert int(state.step) == 1
assert isinstance(nnx.state(nnx.Linear(2, 3, rngs=nnx.Rngs(0))), statelib.State)
inside = bridge.ToNNX(nn.Dense(3), rngs=nnx.Rngs(0))
inside.lazy_init(jnp.ones((1, 2)))
assert flax.serialization.from_bytes(params, flax.serialization.to_bytes(params)).keys() == params.keys()
import sys

shared = nnx.Param(jnp.ones(2), hijax=True)
table = nnx.graphlib.RefMap()
graphdef, state = nnx.graphlib.flatten({"a": shared, "b": shared}, ref_index=table)
assert shared in table
made = nnx.graphlib.unflatten(graphdef, state)
assert made["a"] is made["b"]
assert isinstance(shared, nnx.variablelib.HijaxVariable)

from flax.linen.linear import canonicalize_padding
from flax.nnx.module import first_from
from flax.nnx.nn import linear, normalization

assert linear.canonicalize_padding is canonicalize_padding
assert normalization.first_from is first_from

# Types of annotations are there, and what other libraries ask of a value.
from typing import Any, Optional

from flax.core import lift
from flax.linen.recurrent import Carry, Output
from flax.nnx.variablelib import GetValueHook

assert (Carry, Output, lift.Optional, lift.jnp) == (Any, Any, Optional, jnp)
assert GetValueHook.__args__[-1] is Any
assert not isinstance(3, nn.summary._ArrayRepresentation)
print(sorted(name for name in sys.modules if name.startswith("flax.") and "fx" not in repr(sys.modules[name])))
"""


def test_a_program_of_many_parts_runs(tmp_path):
    file = tmp_path / "program.py"
    file.write_text(PROGRAM)
    done = subprocess.run([sys.executable, "-m", "fx_flax", str(file)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "[]\n"
