"""GPT of 12 blocks and 124 million parameters, as GPT-2 has them: the logits after a prompt."""

from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp

HEADS, WIDTH, BLOCKS, LENGTH, VOCABULARY, PROMPT = 12, 768, 12, 1024, 50257, 64


def gpt(nn: ModuleType) -> tuple[Any, jax.Array]:
    """Twelve blocks between an embedding and its transpose, and a prompt."""

    class Block(nn.Module):
        @nn.compact
        def __call__(self, x, mask):
            x = x + nn.MultiHeadDotProductAttention(num_heads=HEADS)(nn.LayerNorm()(x), mask=mask)
            y = nn.gelu(nn.Dense(4 * WIDTH)(nn.LayerNorm()(x)))
            return x + nn.Dense(WIDTH)(y)

    class GPT(nn.Module):
        @nn.compact
        def __call__(self, tokens):
            embed = nn.Embed(VOCABULARY, WIDTH)
            positions = self.param("positions", nn.initializers.normal(0.02), (LENGTH, WIDTH))
            x = embed(tokens) + positions[None, : tokens.shape[1]]
            mask = nn.make_causal_mask(tokens)
            for _ in range(BLOCKS):
                x = Block()(x, mask)
            return embed.attend(nn.LayerNorm()(x)[:, -1])

    return GPT(), jnp.ones((1, PROMPT), jnp.int32)


def gpt_by_hand(params, tokens):
    table = params["Embed_0"]["embedding"]
    x = table[tokens] + params["positions"][None, : tokens.shape[1]]
    for index in range(BLOCKS):
        block = params[f"Block_{index}"]
        x = x + _attention(block["MultiHeadDotProductAttention_0"], _layer_norm(block["LayerNorm_0"], x))
        x = x + _dense(block["Dense_1"], jax.nn.gelu(_dense(block["Dense_0"], _layer_norm(block["LayerNorm_1"], x))))
    return _layer_norm(params["LayerNorm_0"], x)[:, -1] @ table.T


def _layer_norm(params, x):
    mean = jnp.mean(x, -1, keepdims=True)
    var = jnp.maximum(0.0, jnp.mean(x * x, -1, keepdims=True) - mean * mean)
    scale, bias = (params[name].reshape((1, 1, -1)) for name in ("scale", "bias"))
    return (x - mean) * (jax.lax.rsqrt(var + 1e-6) * scale) + bias


def _dense(params, x):
    return x @ params["kernel"] + params["bias"].reshape((1, 1, -1))


def _attention(params, x):
    def heads(name):
        return jnp.einsum("blm,mhd->blhd", x, params[name]["kernel"]) + params[name]["bias"][None, None]

    query, key, value = heads("query"), heads("key"), heads("value")
    scores = jnp.einsum("bqhd,bkhd->bhqk", query / (WIDTH // HEADS) ** 0.5, key)
    seen = jnp.tril(jnp.ones(scores.shape[2:], bool))[None, None]
    mixed = jnp.einsum("bhqk,bkhd->bqhd", jax.nn.softmax(jnp.where(seen, scores, jnp.finfo(scores.dtype).min)), value)
    return jnp.einsum("blhd,hdm->blm", mixed, params["out"]["kernel"]) + params["out"]["bias"][None, None]
