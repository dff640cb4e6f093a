"""Flax BERT and GPT-2 of transformers, tiny and random: a step of training each, and what they then compute."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
from transformers import BertConfig, FlaxBertForSequenceClassification, FlaxGPT2LMHeadModel, GPT2Config

RESULTS: dict[str, np.ndarray] = {}


def train(name, model, loss, tokens):
    optimizer = optax.adamw(1e-3)
    params, state = model.params, optimizer.init(model.params)

    @jax.jit
    def step(params, state):
        value, grads = jax.value_and_grad(lambda p: loss(model, p, tokens))(params)
        updates, state = optimizer.update(grads, state, params)
        return optax.apply_updates(params, updates), state, value

    for index in range(3):
        params, state, value = step(params, state)
        RESULTS[f"{name}/loss/{index}"] = np.asarray(value)
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        RESULTS[f"{name}/params/{jax.tree_util.keystr(path)}"] = np.asarray(leaf)
    return params


def bert_loss(model, params, tokens):
    logits = model(tokens, params=params, dropout_rng=jax.random.key(1), train=True).logits
    return optax.softmax_cross_entropy_with_integer_labels(logits, jnp.array([0, 1])).mean()


def gpt2_loss(model, params, tokens):
    logits = model(tokens, params=params, dropout_rng=jax.random.key(2), train=True).logits
    return optax.softmax_cross_entropy_with_integer_labels(logits[:, :-1], tokens[:, 1:]).mean()


tokens = jnp.arange(16).reshape(2, 8) % 13
sizes = {"vocab_size": 32, "max_position_embeddings": 16}
bert = FlaxBertForSequenceClassification(
    BertConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=24, num_labels=2, **sizes),
    input_shape=(1, 8),
    seed=0,
)
train("bert", bert, bert_loss, tokens)

gpt2 = FlaxGPT2LMHeadModel(GPT2Config(vocab_size=32, n_positions=16, n_embd=16, n_layer=1, n_head=2), seed=0)
params = train("gpt2", gpt2, gpt2_loss, tokens)
generated = gpt2.generate(tokens, params=params, max_length=10, do_sample=False, pad_token_id=0, eos_token_id=31)
RESULTS["gpt2/generated"] = np.asarray(generated.sequences)
np.savez(sys.argv[1], **RESULTS)
