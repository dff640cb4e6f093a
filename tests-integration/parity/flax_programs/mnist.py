"""Images, a convolutional network in Linen, a train state, checkpoints as bytes."""

import flax
import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from flax import serialization
from flax.core import freeze, unfreeze
from flax.training import common_utils, train_state


class CNN(nn.Module):
    classes: int = 3

    @nn.compact
    def __call__(self, x: "jax.Array", train: bool) -> jax.Array:
        x = nn.relu(nn.Conv(4, (3, 3), kernel_init=nn.initializers.he_normal())(x))
        x = nn.avg_pool(x, (2, 2), strides=(2, 2)).reshape(x.shape[0], -1)
        x = nn.Dropout(0.2, deterministic=not train)(x)
        return nn.Dense(self.classes, name="head")(x)


def create(key: jax.Array) -> "train_state.TrainState":
    model = CNN()
    params = jax.jit(model.init, static_argnums=2)(key, jnp.ones((1, 6, 6, 1)), False)["params"]
    return train_state.TrainState.create(apply_fn=model.apply, params=freeze(params), tx=optax.sgd(0.1, 0.9))


@jax.jit
def step(state, images, labels, key):
    def loss_fn(params):
        logits = state.apply_fn({"params": params}, images, train=True, rngs={"dropout": key})
        return -(common_utils.onehot(labels, 3) * nn.log_softmax(logits)).mean()

    loss, grads = jax.value_and_grad(loss_fn)(state.params)
    return state.apply_gradients(grads=grads), loss


def main():
    images, labels = jax.random.normal(jax.random.key(1), (8, 6, 6, 1)), jnp.arange(8) % 3
    state, losses = create(jax.random.key(0)), []
    for number in range(3):
        state, loss = step(state, images, labels, jax.random.fold_in(jax.random.key(2), number))
        losses.append(loss)
    saved = serialization.to_bytes(state)
    again = flax.serialization.from_bytes(create(jax.random.key(3)), saved)
    flat = flax.traverse_util.flatten_dict(unfreeze(again.params), sep="/")
    assert isinstance(state.params, flax.core.FrozenDict)
    return {"losses": losses, "params": {name: flat[name] for name in sorted(flat)}, "step": again.step}
