"""clu's metrics, parameter overview and checkpoint, around a training loop of Linen."""

import sys
import tempfile

import flax
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from clu import checkpoint, metrics, parameter_overview
from flax.training import train_state


class Net(nn.Module):
    @nn.compact
    def __call__(self, x, train: bool):
        x = nn.relu(nn.Dense(16)(x))
        x = nn.Dropout(0.1, deterministic=not train)(x)
        return nn.Dense(3)(x)


@flax.struct.dataclass
class Metrics(metrics.Collection):
    accuracy: metrics.Accuracy
    loss: metrics.Average.from_output("loss")


model = Net()
x, labels = jax.random.normal(jax.random.key(1), (24, 5)), jnp.arange(24) % 3
params = model.init(jax.random.key(0), x, train=False)["params"]
state = train_state.TrainState.create(apply_fn=model.apply, params=params, tx=optax.adam(1e-2))


@jax.jit
def step(state, x, labels, key):
    def loss_of(params):
        logits = state.apply_fn({"params": params}, x, train=True, rngs={"dropout": key})
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean(), logits

    (loss, logits), grads = jax.value_and_grad(loss_of, has_aux=True)(state.params)
    update = Metrics.single_from_model_output(logits=logits, labels=labels, loss=loss)
    return state.apply_gradients(grads=grads), update


collected = Metrics.empty()
for index in range(5):
    state, update = step(state, x, labels, jax.random.fold_in(jax.random.key(2), index))
    collected = collected.merge(update)
results = {f"metrics/{name}": np.asarray(value) for name, value in collected.compute().items()}
results["overview"] = np.asarray(parameter_overview.get_parameter_overview(params, include_stats=False))

with tempfile.TemporaryDirectory() as directory:
    kept = checkpoint.Checkpoint(directory)
    kept.save(state)
    empty = jax.tree_util.tree_map(jnp.zeros_like, state)
    restored = checkpoint.Checkpoint(directory).restore(empty)
assert int(restored.step) == 5
for path, leaf in jax.tree_util.tree_leaves_with_path(restored):
    results[f"restored/{jax.tree_util.keystr(path)}"] = np.asarray(leaf)
np.savez(sys.argv[1], **results)
