"""A network in NNX with batch statistics and dropout, its optimizer and metrics, states and filters."""

from __future__ import annotations

import typing as tp

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from flax.nnx import filterlib, graph, rnglib, traversals
from flax.nnx import statelib as sl
from flax.nnx.nn import initializers

if tp.TYPE_CHECKING:
    from flax.nnx.variablelib import Variable


HE = initializers.he_normal()


class Net(nnx.Module):
    blocks: nnx.Data[list[nnx.Linear]]

    def __init__(self, features: int, *, rngs: nnx.Rngs, kernel_init: nnx.Initializer = HE):
        self.blocks = nnx.List([nnx.Linear(3, features, kernel_init=kernel_init, rngs=rngs)])
        self.norm = nnx.BatchNorm(features, rngs=rngs)
        self.drop = nnx.Dropout(0.25, rngs=rngs)
        self.out = nnx.nn.linear.Linear(features, 2, rngs=rngs)
        self.calls = nnx.Variable(jnp.array(0))

    def __call__(self, x):
        self.calls.value += 1
        for block in self.blocks:
            x = nnx.relu(block(x))
        return self.out(self.drop(self.norm(x)))


@nnx.jit
def step(model: Net, optimizer: nnx.optimizer.Optimizer, metrics: nnx.MultiMetric, x, y):
    def loss_fn(model):
        logits = model(x)
        return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean(), logits

    (loss, logits), grads = nnx.value_and_grad(loss_fn, has_aux=True)(model)
    optimizer.update(model, grads)
    metrics.update(loss=loss, logits=logits, labels=y)


def weights(state: sl.State) -> dict[str, "Variable | nnx.VariableState"]:
    flat = nnx.traversals.flatten_mapping(state.to_pure_dict())
    assert flat == traversals.flatten_mapping(state.to_pure_dict())
    return {str(path): value for path, value in flat.items()}


def main():
    model = Net(4, rngs=nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, optax.adam(1e-2), wrt=nnx.Param)
    metrics = nnx.MultiMetric(loss=nnx.metrics.Average("loss"), accuracy=nnx.metrics.Accuracy())
    x, y = jax.random.normal(jax.random.key(1), (6, 3)), jnp.arange(6) % 2
    for _ in range(3):
        step(model, optimizer, metrics, x, y)
    graphdef, params, keys, rest = graph.split(model, nnx.Param, rnglib.RngState, ...)
    assert isinstance(graphdef, nnx.graphlib.GraphDef)
    assert isinstance(rest, nnx.statelib.State)
    assert filterlib.to_predicate(nnx.Param)((), model.out.kernel)
    assert {type(key) for key in jax.tree.leaves(keys, is_leaf=lambda x: isinstance(x, nnx.variablelib.Variable))} == {
        nnx.RngCount,
        nnx.rnglib.RngKey,
    }
    again = nnx.merge(graphdef, params, keys, rest)
    again.eval()
    return {"metrics": metrics.compute(), "params": weights(params), "out": again(x), "calls": again.calls.value}
