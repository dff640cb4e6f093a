"""The first answer of a new process: from a checkpoint, and from a bundle.

Rows of whole processes count from the start of Python, in CPU seconds. Rows "from load on" begin where JAX is imported:
there a bundle is loaded and called, and in place of it the library imported, the model built, its arrays restored, and
`jax.jit` of it called; in CPU seconds, and in those of the clock, as two threads read and hash a bundle.

By hand, arrays are read from a file of NumPy, and go through the function that is written by hand. Where programs were
compiled before, they are in JAX's cache; a bundle has a folder of its own for them. "Bundle, mapped" is the fastest
start: executables from that folder, and weights in the pages of the file.

    python -m benchmarks export_start:resnet,gpt --peers    # takes some minutes, and is measured only when asked for
"""

import statistics
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import fx_ckpt
import fx_export
import fx_linen
import jax
import numpy as np

from benchmarks import gpt_network, networks
from benchmarks.measure import QUICK, Ratio, fewer, spread, wanted
from benchmarks.programs import figures

NETWORKS = {
    "mlp": "MLP of 100 layers",
    "transformer": "transformer of 12 blocks",
    "resnet": "ResNet-50",
    "gpt": "GPT of 12 blocks",
}
MODULES = {name: gpt_network if name == "gpt" else networks for name in NETWORKS}
DEFAULT = ("mlp",) if QUICK else ("mlp", "transformer")
ANSWER = """
import json, sys, time, numpy as np, jax
path, module, name, kept = sys.argv[1:]
x = np.load(path + "/x.npy")
started = time.process_time(), time.perf_counter()
{}
whole = time.process_time()
print(json.dumps([whole, whole - started[0], time.perf_counter() - started[1]]))
"""
BUNDLE = """
import fx_export
jax.block_until_ready(fx_export.load(path + "/net", compiled=path + "/compiled" if kept else None)(x))
"""
MAPPED = BUNDLE.replace(" else None)", " else None, mmap=True)")
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
PROGRAMS = {
    "fx, bundle": BUNDLE,
    "fx, bundle, mapped": MAPPED,
    "fx, checkpoint": CHECKPOINT,
    "flax, checkpoint": FLAX,
    "raw": BY_HAND,
}


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


def measured(scratch: str, name: str, kept: str, libraries: Sequence[str]) -> dict[str, list[list[float]]]:
    """For each side the figures of its processes: CPU seconds of all, and CPU and other seconds from load on."""
    sides = [side for side in PROGRAMS if side.partition(",")[0] in (*libraries, "raw")]
    # Whoever wants the fastest start keeps executables, too.
    sides = [side for side in sides if kept or "mapped" not in side]
    settings = {"JAX_ENABLE_COMPILATION_CACHE": "false"}
    if kept:
        settings = {
            "JAX_COMPILATION_CACHE_DIR": scratch + "/cache",
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        }
    taken: dict[str, list[list[float]]] = {side: [] for side in sides}
    # The first process of each warms the disk, and keeps what it compiles.
    for number in range(fewer(4) + 1):
        for side in sides:
            program = ANSWER.replace("{}", PROGRAMS[side])
            found = figures(program, scratch, MODULES[name].__name__, name, kept, **settings)
            taken[side] += [found] if number else []
    return taken


def row(case: str, taken: Sequence[float], other: Sequence[float], aim: float | None = None, side: str = "fx") -> Ratio:
    """A row of medians."""
    return Ratio(case, statistics.median(taken), statistics.median(other), aim, library=side, spread=spread(taken))


def compared(title: str, taken: dict[str, dict[str, list[list[float]]]]) -> Iterator[Ratio]:
    """A bundle against the model that is built again from its checkpoint."""
    pairs = [
        ("", "", ""),
        ("", "kept", "kept"),
        ("", "kept", ""),
        (", mapped", "kept", "kept"),
        (", mapped", "kept", ""),
    ]
    for mapped, ours, theirs in pairs:
        how = "compiled before" if ours else "compiled anew"
        over = "the model built again" + (", compiled anew" if ours and not theirs else "")
        for which, of in enumerate(("", ", from load on, CPU time", ", from load on")):
            case = f"first answer, {title}, bundle{mapped}, {how}{of}, over {over}"
            one, other = taken[ours][f"fx, bundle{mapped}"], taken[theirs]["fx, checkpoint"]
            # What a bundle is for: from `load` to the answer with the executables that it keeps, over building anew.
            aim = 0.5 if ours and not theirs and of == ", from load on" else None
            yield row(case, [each[which] for each in one], [each[which] for each in other], aim)


def cases(libraries: tuple[str, ...] = ("fx",), only: Sequence[str] = DEFAULT) -> Iterator[Ratio]:
    for name in only:
        title = NETWORKS[name]
        kinds = {"": f"first answer, {title}, compiled anew", "kept": f"first answer, {title}, compiled before"}
        kinds = {kept: case for kept, case in kinds.items() if wanted(case)}
        if not kinds:
            continue
        with tempfile.TemporaryDirectory() as scratch:
            prepare(Path(scratch), name, flax="flax" in libraries)
            taken = {kept: measured(scratch, name, kept, libraries) for kept in kinds}
            for kept, case in kinds.items():
                whole = {side: [each[0] for each in found] for side, found in taken[kept].items()}
                yield from (row(case, whole[side], whole["raw"], side=side) for side in whole if side != "raw")
            if len(kinds) == 2:
                yield from compared(title, taken)
