"""Tunix: supervised fine-tuning of LoRA weights, which qwix puts into a small decoder, and of all weights."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import qwix
from flax import nnx
from tunix.sft import peft_trainer


class Decoder(nnx.Module):
    def __init__(self, rngs):
        self.embed = nnx.Embed(11, 8, rngs=rngs)
        self.mix, self.head = nnx.Linear(8, 8, rngs=rngs), nnx.Linear(8, 11, rngs=rngs)

    def __call__(self, tokens, positions, cache, attention_mask):
        x = self.embed(tokens) + positions[..., None] * 0.01
        weights = attention_mask / attention_mask.sum(-1, keepdims=True)
        return self.head(x + nnx.gelu(self.mix(weights @ x))), cache


def inputs(x):
    length = x.input_tokens.shape[-1]
    return {
        "input_tokens": x.input_tokens,
        "input_mask": x.input_mask,
        "positions": jnp.broadcast_to(jnp.arange(length), x.input_tokens.shape),
        "attention_mask": jnp.broadcast_to(jnp.tril(jnp.ones((length, length))), (*x.input_tokens.shape, length)),
    }


def batch(seed):
    tokens = jax.random.randint(jax.random.key(seed), (4, 6), 0, 11)
    return peft_trainer.TrainingInput(input_tokens=np.asarray(tokens), input_mask=np.ones((4, 6), np.float32))


def trained(model):
    config = peft_trainer.TrainingConfig(eval_every_n_steps=2, max_steps=4, gradient_accumulation_steps=1)
    trainer = peft_trainer.PeftTrainer(model, optax.adam(1e-2), config).with_gen_model_input_fn(inputs)
    mesh = jax.make_mesh((1,), ("fsdp",), axis_types=(jax.sharding.AxisType.Auto,))
    with mesh:
        trainer.train([batch(seed) for seed in range(4)], [batch(9)])
    return model, trainer


results = {}
for name in ("all", "lora"):
    model = Decoder(nnx.Rngs(0))
    if name == "lora":
        example = {key: value for key, value in inputs(batch(0)).items() if key != "input_mask"}
        example["tokens"], example["cache"] = example.pop("input_tokens"), None
        provider = qwix.LoraProvider(module_path=".*mix|.*head", rank=2, alpha=2.0)
        model = qwix.apply_lora_to_model(model, provider, **example, rngs=nnx.Rngs(1))
    model, trainer = trained(model)
    results[f"{name}/steps"] = np.asarray(trainer.train_steps)
    for path, leaf in jax.tree.leaves_with_path(nnx.state(model, nnx.Param).to_pure_dict()):
        results[f"{name}{jax.tree_util.keystr(path)}"] = np.asarray(leaf)
    for path, leaf in jax.tree.leaves_with_path(nnx.state(model, nnx.LoRAParam).to_pure_dict()):
        results[f"{name}/lora{jax.tree_util.keystr(path)}"] = np.asarray(leaf)
assert any(leaf.any() for key, leaf in results.items() if key.endswith("lora_b']")), "nothing was trained"
np.savez(sys.argv[1], **results)
