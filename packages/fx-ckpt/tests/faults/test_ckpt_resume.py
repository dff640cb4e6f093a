"""N steps are k steps, a save, a new process, a restore, and N - k steps: to the bit, with data and randomness."""

import json
import subprocess
import sys
import textwrap

import pytest

pytestmark = pytest.mark.slow

PROGRAM = textwrap.dedent("""
    import hashlib, json, sys
    import jax, jax.numpy as jnp, numpy as np
    import fx_ckpt

    directory, backend, first, last = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])

    class Batches:
        '''Shuffles anew in each epoch; its state is where it is and the state of its generator.'''
        def __init__(self):
            self.generator, self.order = np.random.default_rng(3), []
        def __next__(self):
            if not self.order:
                self.order = self.generator.permutation(40).tolist()
            taken, self.order = self.order[:8], self.order[8:]
            return np.sin(np.outer(taken, np.arange(1.0, 5))).astype(np.float32)
        def get_state(self):
            return {"order": list(self.order), "generator": json.dumps(self.generator.bit_generator.state)}
        def set_state(self, state):
            self.order = list(state["order"])
            self.generator.bit_generator.state = json.loads(state["generator"])

    def loss(params, batch, key):
        kept = jax.random.bernoulli(key, 0.8, (8, 16)) / 0.8
        hidden = jnp.tanh(batch @ params["w"].astype(jnp.float32) + params["b"]) * kept
        return jnp.mean((hidden @ params["out"] - batch.sum(1, keepdims=True)) ** 2)

    @jax.jit
    def step(state, batch):
        key, now = jax.random.split(state["key"])
        value, grads = jax.value_and_grad(loss)(state["params"], batch, now)
        moment = jax.tree.map(lambda m, g: 0.9 * m + g.astype(m.dtype), state["moment"], grads)
        params = jax.tree.map(lambda p, m: (p - 0.05 * m).astype(p.dtype), state["params"], moment)
        return {"params": params, "moment": moment, "key": key, "step": state["step"] + 1}, value

    def init():
        keys = jax.random.split(jax.random.key(1), 3)
        params = {"w": jax.random.normal(keys[0], (4, 16), jnp.bfloat16), "b": jnp.zeros(16),
                  "out": jax.random.normal(keys[1], (16, 1))}
        moment = jax.tree.map(lambda p: jnp.zeros(p.shape, jnp.float32), params)
        return {"params": params, "moment": moment, "key": keys[2], "step": jnp.int32(0)}

    batches, state, losses = Batches(), init(), []
    with fx_ckpt.CheckpointManager(directory, backend, keep=2) as manager:
        if first:
            state = manager.restore(first, target=state, iterators={"train": batches})
        for number in range(first + 1, last + 1):
            state, value = step(state, next(batches))
            losses.append(np.asarray(value).tobytes().hex())
            manager.save(number, state, iterators={"train": batches})
    leaves = jax.tree.leaves({**state, "key": jax.random.key_data(state["key"])})
    digest = hashlib.sha256(b"".join(np.asarray(x).tobytes() for x in leaves)).hexdigest()
    print(json.dumps({"losses": losses, "state": digest}))
""")


def run(*arguments):
    program = [sys.executable, "-c", PROGRAM, *map(str, arguments)]
    done = subprocess.run(program, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    return run(tmp_path_factory.mktemp("straight"), "msgpack", 0, 13)


@pytest.mark.parametrize("backend", ["msgpack", "safetensors", "orbax"])
def test_resuming_is_bitwise(tmp_path, backend, straight):
    begun = run(tmp_path, backend, 0, 6)
    resumed = run(tmp_path, backend, 6, 13)
    assert begun["losses"] + resumed["losses"] == straight["losses"]
    assert resumed["state"] == straight["state"]
    assert len(set(straight["losses"])) == 13
