"""CPU seconds from the start of a new process to the first answer: from a checkpoint, and from a bundle.

By hand, arrays are read from a file of NumPy, and go through the function that is written by hand. Where programs were
compiled before, they are in JAX's cache; a bundle has a folder of its own for them.

    python -m benchmarks export_start:resnet,gpt --peers    # takes some minutes, and is measured only when asked for
"""

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import fx_ckpt
import fx_export
import fx_linen
import jax
import numpy as np

from benchmarks import gpt_network, networks
from benchmarks.measure import QUICK, Ratio, wanted
from benchmarks.programs import figures, rows

NETWORKS = {
    "mlp": "MLP of 100 layers",
    "transformer": "transformer of 12 blocks",
    "resnet": "ResNet-50",
    "gpt": "GPT of 12 blocks",
}
MODULES = {name: gpt_network if name == "gpt" else networks for name in NETWORKS}
DEFAULT = ("mlp",) if QUICK else ("mlp", "transformer")
ANSWER = """
import sys, time, numpy as np, jax
path, module, name, kept = sys.argv[1:]
x = np.load(path + "/x.npy")
{}
print(time.process_time())
"""
BUNDLE = """
import fx_export
jax.block_until_ready(fx_export.load(path + "/net", compiled=path + "/compiled" if kept else None)(x))
"""
CHECKPOINT = """
import fx_ckpt, fx_linen
from importlib import import_module
model, _ = getattr(import_module(module), name)(fx_linen)
jax.block_until_ready(jax.jit(model.apply)(fx_ckpt.restore(path + "/checkpoint"), x))
"""
FLAX = """
import flax.linen, flax.serialization
from importlib import import_module
model, _ = getattr(import_module(module), name)(flax.linen)
variables = flax.serialization.msgpack_restore(open(path + "/flax.msgpack", "rb").read())
jax.block_until_ready(jax.jit(model.apply)(variables, x))
"""
BY_HAND = """
from importlib import import_module
tree = {}
for key, value in np.load(path + "/arrays.npz").items():
    *outer, last = key.split("/")
    at = tree
    for part in outer:
        at = at.setdefault(part, {})
    at[last] = value
variables = tree if "batch_stats" in tree else tree["params"]
jax.block_until_ready(jax.jit(getattr(import_module(module), name + "_by_hand"))(variables, x))
"""
PROGRAMS = {"fx, bundle": BUNDLE, "fx, checkpoint": CHECKPOINT, "flax, checkpoint": FLAX, "raw": BY_HAND}


def prepare(path: Path, name: str, flax: bool) -> None:
    """Write the network in all ways."""
    model, x = getattr(MODULES[name], name)(fx_linen)
    variables = jax.jit(model.init)(jax.random.key(0), x)
    np.save(path / "x.npy", np.asarray(x))
    fx_export.export(path / "net", model, variables, [np.asarray(x)], verify=False)
    fx_ckpt.save(path / "checkpoint", variables)
    flat, _ = jax.tree_util.tree_flatten_with_path(variables)
    np.savez(path / "arrays.npz", **{"/".join(key.key for key in keys): leaf for keys, leaf in flat})
    if flax:
        import flax.serialization

        (path / "flax.msgpack").write_bytes(flax.serialization.msgpack_serialize(jax.device_get(variables)))


def compared(title: str, seconds: dict[tuple[str, str], float]) -> Iterator[Ratio]:
    """A bundle against the model that is built again from its checkpoint."""
    for ours, theirs in (("", ""), ("kept", "kept"), ("kept", "")):
        how = "compiled before" if ours else "compiled anew"
        over = "the model built again" + (", compiled anew" if ours and not theirs else "")
        case = f"first answer, {title}, bundle, {how}, over {over}"
        yield Ratio(case, seconds["fx, bundle", ours], seconds["fx, checkpoint", theirs], 0.5)


def cases(libraries: tuple[str, ...] = ("fx",), only: Sequence[str] = DEFAULT) -> Iterator[Ratio]:
    for name in only:
        title = NETWORKS[name]
        kinds = {"": f"first answer, {title}, compiled anew", "kept": f"first answer, {title}, compiled before"}
        kinds = {kept: case for kept, case in kinds.items() if wanted(case)}
        if not kinds:
            continue
        with tempfile.TemporaryDirectory() as scratch:
            prepare(Path(scratch), name, flax="flax" in libraries)
            sides = [side for side in PROGRAMS if side.partition(",")[0] in (*libraries, "raw")]
            seconds: dict[tuple[str, str], float] = {}
            for kept, case in kinds.items():
                programs = {
                    side: (ANSWER.replace("{}", PROGRAMS[side]), scratch, MODULES[name].__name__, name, kept)
                    for side in sides
                }
                settings = {"JAX_ENABLE_COMPILATION_CACHE": "false"}
                if kept:
                    settings = {
                        "JAX_COMPILATION_CACHE_DIR": scratch + "/cache",
                        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
                    }
                if kept:
                    for program, *arguments in programs.values():
                        figures(program, *arguments, **settings)
                found = rows(case, programs, rounds=2, environment=settings)
                seconds |= {(row.library, kept): row.ours for row in found}
                yield from found
            if len(kinds) == 2:
                yield from compared(title, seconds)
