"""Residual blocks with batch statistics, a train state of its own, synchronized statistics and parts of modules."""

from functools import partial
from typing import Any, Callable

import jax
import jax.numpy as jnp
import optax
from flax import jax_utils, linen as nn, struct
from flax.training import dynamic_scale as dynamic_scale_lib, train_state
from flax.training.early_stopping import EarlyStopping

ModuleDef = Any


class Block(nn.Module):
    filters: int
    conv: ModuleDef
    norm: ModuleDef
    act: Callable = nn.relu

    @nn.compact
    def __call__(self, x):
        y = self.act(self.norm()(self.conv(self.filters, (3, 3))(x)))
        y = self.norm(scale_init=nn.initializers.zeros_init())(self.conv(self.filters, (3, 3))(y))
        if x.shape != y.shape:
            x = self.norm(name="norm_proj")(self.conv(self.filters, (1, 1), name="conv_proj")(x))
        return self.act(x + y)


class ResNet(nn.Module):
    @nn.compact
    def __call__(self, x, train: bool = True):
        conv = partial(nn.Conv, use_bias=False, padding="SAME")
        norm = partial(nn.BatchNorm, use_running_average=not train, momentum=0.9, axis_name="batch" if train else None)
        for filters in (4,):
            x = Block(filters, conv=conv, norm=norm)(x)
        return nn.Dense(2)(jnp.mean(x, axis=(1, 2)))


class TrainState(train_state.TrainState):
    batch_stats: Any
    scale: dynamic_scale_lib.DynamicScale = None


@struct.dataclass
class Metrics:
    loss: jax.Array
    note: str = struct.field(pytree_node=False, default="train")


def train_step(state, x, y):
    def loss_fn(params):
        variables = {"params": params, "batch_stats": state.batch_stats}
        logits, new = state.apply_fn(variables, x, mutable=["batch_stats"])
        return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean(), new["batch_stats"]

    scale, _, (loss, stats), grads = state.scale.value_and_grad(loss_fn, has_aux=True, axis_name="batch")(state.params)
    return state.apply_gradients(grads=grads, batch_stats=stats, scale=scale), Metrics(loss)


def main():
    model = ResNet()
    variables = jax.jit(partial(model.init, train=False))(jax.random.key(0), jnp.ones((1, 4, 4, 3)))
    state = TrainState.create(
        apply_fn=model.apply,
        params=variables["params"],
        batch_stats=variables["batch_stats"],
        tx=optax.sgd(1e-2),
        scale=dynamic_scale_lib.DynamicScale(),
    )
    state, stop, losses = jax_utils.replicate(state, jax.local_devices()[:1]), EarlyStopping(patience=2), []
    x, y = jax.random.normal(jax.random.key(1), (1, 4, 4, 4, 3)), jnp.array([[0, 1, 0, 1]])
    step = jax.pmap(train_step, axis_name="batch", devices=jax.local_devices()[:1])
    for _ in range(2):
        state, metrics = step(state, x, y)
        losses.append(metrics.loss[0])
        stop = stop.update(float(losses[-1]))
    state = jax_utils.unreplicate(state)
    out = jax.jit(partial(model.apply, train=False))({"params": state.params, "batch_stats": state.batch_stats}, x[0])
    return {"losses": losses, "out": out, "stats": state.batch_stats, "stop": int(stop.should_stop)}
