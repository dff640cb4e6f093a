"""A small language model in NNX and the bridge: attention with a cache, decoding step by step."""

import importlib

import jax
import jax.numpy as jnp


class Block:
    def __new__(cls, *args, **kwargs):
        from flax import nnx

        class Inner(nnx.Module):
            def __init__(self, width: int, *, rngs: "nnx.Rngs"):
                self.norm = nnx.LayerNorm(width, rngs=rngs)
                self.attention = nnx.MultiHeadAttention(2, width, decode=False, rngs=rngs)
                self.mlp = nnx.Sequential(nnx.Linear(width, 8, rngs=rngs), nnx.gelu, nnx.Linear(8, width, rngs=rngs))

            def __call__(self, x, decode: bool = False):
                mask = None if decode else nnx.make_causal_mask(x[..., 0])
                x = x + self.attention(self.norm(x), mask=mask, decode=decode)
                return x + self.mlp(x)

        return Inner(*args, **kwargs)


def model_of(width: int = 4, vocabulary: int = 7):
    import flax.nnx

    class GPT(flax.nnx.Module):
        def __init__(self, rngs: "flax.nnx.Rngs"):
            self.embed = flax.nnx.Embed(vocabulary, width, rngs=rngs)
            self.block = Block(width, rngs=rngs)

        def __call__(self, tokens: "jax.Array", decode: bool = False) -> jax.Array:
            return self.embed.attend(self.block(self.embed(tokens), decode))

    return GPT(flax.nnx.Rngs(params=0))


def decode(model, prompt, length: int):
    from flax import nnx
    from flax.nnx.nn.attention import MultiHeadAttention

    for _, node in nnx.iter_graph(model):
        if isinstance(node, MultiHeadAttention):
            node.init_cache((1, length, 4))

    @nnx.jit
    def step(model, token):
        return model(token[None, None], decode=True)[0, 0]

    tokens, scores = list(prompt), []
    for position in range(length - 1):
        logits = step(model, jnp.asarray(tokens[position]))
        scores.append(logits)
        if position + 1 >= len(tokens):
            tokens.append(int(logits.argmax()))
    return tokens, jnp.stack(scores), nnx.state(model, nnx.Cache).to_pure_dict()


def wrapped(tokens):
    linen = importlib.import_module("flax.linen")
    from flax.nnx import bridge

    model = bridge.ToNNX(linen.Embed(7, 4), rngs=importlib.import_module("flax.nnx").Rngs(1)).lazy_init(tokens)
    return model(tokens)


def main():
    model = model_of()
    tokens, scores, cache = decode(model, [1, 2, 3], 6)
    whole = model(jnp.array([tokens[:5]]))[0]
    return {"tokens": tokens, "scores": scores, "whole": whole, "cache": cache, "wrapped": wrapped(jnp.array([1, 2]))}
