"""Whole programs as users write them, with Flax NNX and with fx_nnx: only the import differs."""

import flax.nnx
import fx_nnx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest


def autoencoder(nnx):
    """Streams in modules, sown values taken out again, a jitted step."""

    class Encoder(nnx.Module):
        def __init__(self, rngs):
            self.hidden, self.mean, self.spread = (nnx.Linear(i, o, rngs=rngs) for i, o in ((4, 6), (6, 2), (6, 2)))
            self.rngs = rngs

        def __call__(self, x):
            h = nnx.relu(self.hidden(x))
            mean, spread = self.mean(h), self.spread(h)
            self.kl = nnx.Intermediate(jnp.mean(mean**2 + jnp.exp(spread) - spread - 1))
            return mean + jnp.exp(spread / 2) * jax.random.normal(self.rngs.noise(), mean.shape)

    rngs = nnx.Rngs(0, noise=1)
    model = nnx.Sequential(Encoder(rngs), nnx.Linear(2, 4, rngs=rngs))
    optimizer = nnx.Optimizer(model, optax.adam(1e-2), wrt=nnx.Param)

    @nnx.jit
    def step(model, optimizer, x):
        def loss(model):
            error = ((model(x) - x) ** 2).mean()
            return error + 0.1 * nnx.pop(model, nnx.Intermediate)["layers"][0]["kl"][...]

        value, grads = nnx.value_and_grad(loss)(model)
        optimizer.update(model, grads)
        return value

    x = jnp.linspace(0, 1, 12).reshape(3, 4)
    return [step(model, optimizer, x) for _ in range(2)], nnx.state(model), nnx.state(optimizer)


def decoder(nnx):
    """A decoder with tied embedding that writes token by token with a cache what it says of the whole text."""

    class Block(nnx.Module):
        def __init__(self, rngs):
            self.attention = nnx.MultiHeadAttention(2, 8, decode=False, rngs=rngs)
            self.norm, self.out = nnx.LayerNorm(8, rngs=rngs), nnx.Linear(8, 8, rngs=rngs)

        def __call__(self, x, mask):
            x = x + self.attention(self.norm(x), mask=mask)
            return x + nnx.gelu(self.out(x))

    class Decoder(nnx.Module):
        def __init__(self, rngs):
            self.embed = nnx.Embed(11, 8, rngs=rngs)
            self.blocks = nnx.List([Block(rngs) for _ in range(2)])

        def __call__(self, tokens, mask=None):
            x = self.embed(tokens)
            for block in self.blocks:
                x = block(x, mask)
            return self.embed.attend(x)

    model, tokens = Decoder(nnx.Rngs(0)), jnp.arange(4)[None]
    whole = model(tokens, nnx.make_causal_mask(tokens))
    for block in model.blocks:
        block.attention.init_cache((1, 4, 8))
    model.set_attributes(decode=True)
    one = nnx.jit(lambda model, token: model(token))
    steps = jnp.concatenate([one(model, tokens[:, i : i + 1]) for i in range(4)], 1)
    np.testing.assert_allclose(whole, steps, atol=1e-4)
    return whole, steps, nnx.state(model, nnx.Cache)


def adapters(nnx):
    """A frozen backbone, adapters and one path trained by two optimizers."""
    rngs = nnx.Rngs(0)

    class Model(nnx.Module):
        def __init__(self):
            self.backbone = nnx.Sequential(nnx.Linear(3, 4, rngs=rngs), nnx.relu)
            self.head = nnx.LoRA(4, 2, 2, base_module=nnx.Linear(4, 2, rngs=rngs), rngs=rngs)
            self.last = nnx.LoRALinear(2, 2, lora_rank=1, rngs=rngs)

        def __call__(self, x):
            return self.last(self.head(self.backbone(x)))

    model, head = Model(), nnx.All(nnx.Param, nnx.PathContains("head"))
    first = nnx.Optimizer(model, optax.adam(1e-2), wrt=nnx.LoRAParam)
    second = nnx.Optimizer(model, optax.sgd(1e-1), wrt=head)

    @nnx.jit
    def step(model, first, second, x):
        for optimizer, wrt in ((first, nnx.LoRAParam), (second, head)):
            grads = nnx.grad(lambda m: (m(x) ** 2).sum(), argnums=nnx.DiffState(0, wrt))(model)
            optimizer.update(model, grads)

    for _ in range(2):
        step(model, first, second, jnp.ones((1, 3)))
    return nnx.state(model), nnx.state(first), nnx.state(second)


def references(nnx):
    """Tied weights, a cycle, and changes of structure inside compiled functions and loops."""

    class Model(nnx.Module):
        def __init__(self, rngs):
            self.a, self.b = nnx.Linear(3, 3, rngs=rngs), nnx.Linear(3, 3, rngs=rngs)
            self.b.kernel, self.me = self.a.kernel, self
            self.count, self.history = nnx.Variable(jnp.array(0)), nnx.List([])

        def __call__(self, x):
            self.count[...] += 1
            return self.me.b(self.a(x))

    model, x = Model(nnx.Rngs(0)), jnp.ones((1, 3))

    @nnx.jit
    def change(model, x):
        model.history.append(nnx.Variable(model(x).sum()))
        model.note = "changed"
        return model.a

    assert change(model, x) is model.a
    assert (model.note, len(model.history), model.b.kernel is model.a.kernel) == ("changed", 1, True)
    again = nnx.clone(model)
    assert again.me is again
    assert again.b.kernel is again.a.kernel
    branch = nnx.cond(True, lambda m, x: m(x), lambda m, x: m.a(x), model, x)
    total = nnx.fori_loop(0, 3, lambda i, c: (c[0], c[1] + c[0](x)), (model, jnp.zeros((1, 3))))[1]
    last = nnx.while_loop(lambda c: c[0].count[...] < 9, lambda c: (c[0], c[0](c[1])), (model, x))[1]
    return branch, total, last, nnx.state(model)


def numbers(tree):
    pairs = jax.tree_util.tree_leaves_with_path(tree)
    keys = [jax.random.key_data(v) if jnp.issubdtype(v.dtype, jax.dtypes.prng_key) else v for _, v in pairs]
    return [jax.tree_util.keystr(path) for path, _ in pairs], keys


@pytest.mark.parametrize("program", [autoencoder, decoder, adapters, references], ids=lambda program: program.__name__)
def test_programs(program):
    (paths, theirs), (our_paths, ours) = numbers(program(flax.nnx)), numbers(program(fx_nnx))
    assert our_paths == paths
    for path, expected, got in zip(paths, theirs, ours):
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5, err_msg=path)
