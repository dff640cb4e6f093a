"""A recurrent actor and critic, run over a trajectory by scan, with generalized advantages."""

import functools

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import optax
from flax.linen.initializers import constant, orthogonal
from flax.training.train_state import TrainState


class ScannedRNN(nn.Module):
    @functools.partial(
        nn.scan, variable_broadcast="params", in_axes=0, out_axes=0, split_rngs={"params": False, "dropout": True}
    )
    @nn.compact
    def __call__(self, carry, x):
        inputs, resets = x
        carry = jnp.where(resets[:, None], jnp.zeros_like(carry), carry)
        return nn.GRUCell(features=carry.shape[1])(carry, inputs)


class ActorCritic(nn.Module):
    actions: int

    @nn.compact
    def __call__(self, hidden, obs, resets):
        x = nn.tanh(nn.Dense(6, kernel_init=orthogonal(2**0.5), bias_init=constant(0.0))(obs))
        hidden, x = ScannedRNN()(hidden, (x, resets))
        logits = nn.Dense(self.actions, kernel_init=orthogonal(0.01))(x)
        return hidden, logits, nn.Dense(1, kernel_init=orthogonal(1.0))(x)[..., 0]


@flax.struct.dataclass
class Rollout:
    obs: jax.Array
    resets: jax.Array
    rewards: jax.Array

    def advantages(self, values: "jax.Array", decay: float = 0.9):
        def back(running, now):
            reward, value, following = now
            running = reward + decay * following - value + decay * 0.95 * running
            return running, running

        following = jnp.concatenate([values[1:], values[-1:]])
        return jax.lax.scan(back, jnp.zeros(values.shape[1]), (self.rewards, values, following), reverse=True)[1]


def main():
    keys = jax.random.split(jax.random.key(0), 4)
    rollout = Rollout(
        obs=jax.random.normal(keys[0], (5, 2, 3)),
        resets=jax.random.bernoulli(keys[1], 0.3, (5, 2)),
        rewards=jax.random.normal(keys[2], (5, 2)),
    )
    model, hidden = ActorCritic(actions=3), jnp.zeros((2, 6))
    params = jax.jit(model.init)(keys[3], hidden, rollout.obs, rollout.resets)
    tx = optax.chain(optax.clip_by_global_norm(0.5), optax.adam(1e-2))
    state = TrainState.create(apply_fn=model.apply, params=params, tx=tx)

    @jax.jit
    def update(state, rollout):
        def loss_fn(params):
            _, logits, values = state.apply_fn(params, hidden, rollout.obs, rollout.resets)
            advantages = rollout.advantages(values)
            return -(nn.log_softmax(logits)[..., 0] * advantages).mean() + 0.5 * (advantages**2).mean()

        loss, grads = jax.value_and_grad(loss_fn)(state.params)
        return state.apply_gradients(grads=grads), loss

    losses = []
    for _ in range(3):
        state, loss = update(state, rollout.replace(rewards=rollout.rewards * 0.5))
        losses.append(loss)
    return {"losses": losses, "params": state.params}
