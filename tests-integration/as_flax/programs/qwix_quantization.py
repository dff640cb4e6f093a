"""qwix: quantization after training and quantized training of networks of Linen and NNX."""

import sys

import flax.linen as nn
import jax
import numpy as np
import qwix
from flax import nnx


class Linen(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(4, use_bias=False)(nn.relu(nn.Dense(16)(x)))


class Objects(nnx.Module):
    def __init__(self, rngs):
        self.first, self.second = nnx.Linear(8, 16, rngs=rngs), nnx.Linear(16, 4, rngs=rngs)

    def __call__(self, x):
        return self.second(nnx.relu(self.first(x)))


x = jax.random.normal(jax.random.key(1), (4, 8))
rules = [qwix.QuantizationRule(module_path=".*", weight_qtype="int8", act_qtype="int8")]
results = {}

linen = Linen()
variables = linen.init(jax.random.key(0), x)
quantized = qwix.quantize_model(linen, qwix.PtqProvider(rules))
abstract = jax.eval_shape(quantized.init, jax.random.key(0), x)["params"]
small = qwix.quantize_params(variables["params"], abstract)
results["linen/ptq"] = np.asarray(quantized.apply({"params": small}, x))
training = qwix.quantize_model(linen, qwix.QtProvider(rules))
grads = jax.grad(lambda p: (training.apply({"params": p}, x) ** 2).sum())(variables["params"])
for path, leaf in jax.tree_util.tree_leaves_with_path(grads):
    results[f"linen/grads/{jax.tree_util.keystr(path)}"] = np.asarray(leaf)

objects = Objects(nnx.Rngs(0))
quantized = qwix.quantize_model(objects, qwix.PtqProvider(rules), x)
results["nnx/ptq"] = np.asarray(quantized(x))
lora = qwix.apply_lora_to_model(objects, qwix.LoraProvider(module_path=".*", rank=2, alpha=2.0), x, rngs=nnx.Rngs(3))
results["nnx/lora"] = np.asarray(lora(x))
results["nnx/lora/leaves"] = np.asarray(len(jax.tree.leaves(nnx.state(lora, nnx.LoRAParam))))
np.savez(sys.argv[1], **results)
