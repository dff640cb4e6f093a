"""ott-jax: dual potentials of convex networks, and flow matching with object modules and a moving average."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from ott.neural.methods import flow_matching, neuraldual
from ott.neural.networks import icnn, potentials
from ott.neural.networks.velocity_field import ema, mlp, unet

results = {}


def keep(name, tree):
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        results[f"{name}{jax.tree_util.keystr(path)}"] = np.asarray(leaf)


def batches(seed, shift):
    rng = np.random.default_rng(seed)
    while True:
        yield (rng.normal(size=(16, 2)) + shift).astype(np.float32)


for name, f, g, parallel in (
    ("icnn", icnn.ICNN(2, dim_hidden=[8, 8]), icnn.ICNN(2, dim_hidden=[8, 8]), True),
    ("mlp", potentials.PotentialMLP(dim_hidden=[8, 8]), potentials.PotentialMLP([8, 8], is_potential=False), True),
):
    solver = neuraldual.W2NeuralDual(
        2,
        f,
        g,
        num_train_iters=6,
        num_inner_iters=2 if name == "icnn" else 1,
        valid_freq=3,
        log_freq=2,
        logging=True,
        rng=jax.random.key(1),
        parallel_updates=parallel,
        back_and_forth=None if parallel else False,
        pos_weights=name == "mlp",
    )
    dual, logs = solver(batches(0, 0.0), batches(1, 2.0), batches(2, 0.0), batches(3, 2.0))
    keep(name, {"f": solver.state_f.params, "g": solver.state_g.params, "logs": logs["valid_logs"]})
    keep(f"{name}-transport", dual.transport(jnp.ones((3, 2)) * 0.3, forward=True))

model = mlp.MLP(2, hidden_dims=[16, 16], cond_dim=1, dropout_rate=0.2, rngs=nnx.Rngs(0))
average = ema.EMA(model, decay=0.9)
optimizer = nnx.Optimizer(model, optax.adamw(1e-2), wrt=nnx.Param)
rngs = nnx.Rngs(3)


@nnx.jit
def step(model, optimizer, average, rngs, batch):
    return flow_matching.flow_matching_step(model, optimizer, batch, model_callback_fn=average, rngs=rngs)


for number in range(4):
    keys = jax.random.split(jax.random.key(number), 4)
    x0, x1 = jax.random.normal(keys[0], (8, 2)), jax.random.normal(keys[1], (8, 2)) + 1
    batch = flow_matching.interpolate_samples(keys[2], x0, x1, jax.random.normal(keys[3], (8, 1)))
    keep(f"flow-{number}", step(model, optimizer, average, rngs, batch))
keep("flow-model", nnx.to_pure_dict(nnx.state(model, nnx.Param)))
keep("flow-average", nnx.to_pure_dict(nnx.state(average, nnx.Param)))
model.eval()
solved = flow_matching.evaluate_velocity_field(model, jnp.ones(2), jnp.ones(1))
keep("flow-end", solved.ys)
keep("curvature", flow_matching.curvature(model, jnp.ones(2), jnp.ones(1), ts=4))

net = unet.UNet(
    shape=(8, 8, 3),
    model_channels=32,
    num_res_blocks=1,
    attention_resolutions=(2,),
    channel_mult=(1, 2),
    num_heads=2,
    num_classes=3,
    dropout=0.1,
    rngs=nnx.Rngs(0),
)
x, t = jax.random.normal(jax.random.key(5), (2, 8, 8, 3)), jnp.array([0.1, 0.7])
loss, grads = nnx.value_and_grad(lambda net: ((net(t, x, jnp.array([0, 2]), rngs=nnx.Rngs(7)) - x) ** 2).mean())(net)
keep("unet-loss", loss)
keep("unet-grads", nnx.to_pure_dict(grads))
net.eval()
keep("unet", nnx.jit(lambda net: net(t, x, jnp.array([0, 2])))(net))
np.savez(sys.argv[1], **{name.replace("/", ":"): value for name, value in results.items()})
