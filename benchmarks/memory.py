"""Peak of a process's memory in making and stepping a network of 64 MB of parameters; Linux only."""

from collections.abc import Iterator

from benchmarks.measure import Ratio, wanted
from benchmarks.programs import rows

# The peak is that of the whole process: what JAX alone takes is in both sides.
PROGRAM = """
import importlib, sys
import jax, jax.numpy as jnp
side, what = sys.argv[1:]
x = jnp.ones((4, 1024))
LAYERS = 16
def loss_of(params, x):
    for p in params:
        x = jnp.tanh(x @ p["kernel"] + p["bias"])
    return jnp.mean(x)
if side == "raw":
    make = lambda key: [{"kernel": jax.random.normal(k, (1024, 1024)), "bias": jnp.zeros(1024)}
                        for k in jax.random.split(key, LAYERS)]
    tree = jax.jit(make)(jax.random.key(0))
    loss = loss_of
else:
    library = importlib.import_module(side)
    if side.endswith("linen"):
        class Net(library.Module):
            @library.compact
            def __call__(self, x):
                for _ in range(LAYERS):
                    x = jnp.tanh(library.Dense(1024)(x))
                return jnp.mean(x)
        tree = Net().init(jax.random.key(0), x)
        loss = lambda tree, x: Net().apply(tree, x)
    else:
        rngs = library.Rngs(0)
        net = library.List([library.Linear(1024, 1024, rngs=rngs) for _ in range(LAYERS)])
        graphdef, tree = library.split(net)
        def loss(tree, x):
            for layer in library.merge(graphdef, tree):
                x = jnp.tanh(layer(x))
            return jnp.mean(x)
jax.block_until_ready(jax.tree.leaves(tree))
if what == "step":
    update = lambda tree, x: jax.tree.map(lambda p, g: p - 0.1 * g, tree, jax.grad(loss)(tree, x))
    step = jax.jit(update, donate_argnums=0)
    jax.block_until_ready(step(tree, x))
# Not `ru_maxrss`, which begins with the peak of the process that started this one.
with open("/proc/self/status") as status:
    print(next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 1e3)
"""


def cases(libraries: tuple[str, ...] = ("fx_linen", "fx_nnx")) -> Iterator[Ratio]:
    for what in ("init", "step"):
        case = f"peak of a process, {what}"
        if wanted(case):
            programs = {side: (PROGRAM, side, what) for side in (*libraries, "raw")}
            yield from rows(case, programs, rounds=1, unit="MB")
