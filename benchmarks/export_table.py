"""Every network that tests export, in every format, face and dtype: error, bytes, seconds, speed against jitted JAX.

python -m benchmarks.export_table                          # all, as a Markdown table; takes a quarter of an hour
python -m benchmarks.export_table --formats onnx --models MLP,GPT --faces nnx
"""

import argparse
import importlib
import itertools
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fx_export
import jax
import jax.numpy as jnp
import numpy as np
from fx_export.models import as_function

from benchmarks.measure import interleaved

NETWORKS = Path(__file__).parent.parent / "tests-integration/export"
FORMATS, FACES, DTYPES = ("stablehlo", "onnx", "savedmodel", "litert"), ("linen", "nnx"), ("float32", "bfloat16")
SIZES = {"batch": 2, "length": 5}
OPTIONS: dict[str, dict[str, Any]] = {"litert": {"sizes": SIZES}}


def example(text: str) -> Any:
    """An array of ones of the sizes at which networks are timed."""
    (spec,) = fx_export.inputs.described_inputs([text])
    return np.ones([SIZES.get(str(size), size) for size in spec.shape], spec.dtype)


def row(networks: Any, format: str, name: str, face: str, dtype: str) -> str:
    """Export one, and time it."""
    model, variables = networks.network(face, name, getattr(jnp, dtype))
    texts = networks.NETWORKS[name]
    with tempfile.TemporaryDirectory() as scratch:
        started = time.perf_counter()
        options = {"format": format, **OPTIONS.get(format, {})}
        path = fx_export.export(Path(scratch) / "net", model, variables, texts, verify=False, **options)
        seconds = time.perf_counter() - started
        path = fx_export.export(path, model, variables, texts, overwrite=True, **options)
        loaded = fx_export.load(path)
        size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
        fn, weights = as_function(model, variables, {})
        jitted, inputs = jax.jit(fn), [example(text) for text in texts]
        ratio = interleaved(
            name,
            lambda: jax.block_until_ready(loaded(*inputs)),
            lambda: jax.block_until_ready(jitted(weights, *inputs)),
        ).ratio
    error = loaded.verification["max_relative_error"]
    return f"| {name} | {format} | {face} | {dtype} | {error:.1g} | {size / 1000:.0f} | {seconds:.1f} | {ratio:.1f} |"


def rows(chosen: argparse.Namespace) -> Iterator[str]:
    """Lines of the table."""
    yield "| network | format | face | dtype | largest relative error | kB | export, s | time of a call / jitted JAX |"
    yield "|---|---|---|---|---|---|---|---|"
    sys.path.insert(0, str(NETWORKS))
    networks = importlib.import_module("networks")
    models = chosen.models.split(",") if chosen.models else list(networks.NETWORKS)
    kinds = itertools.product(models, chosen.formats.split(","), chosen.faces.split(","), chosen.dtypes.split(","))
    for name, format, face, dtype in kinds:
        yield row(networks, format, name, face, dtype)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", help="all by default")
    for name, default in {"formats": FORMATS, "faces": FACES, "dtypes": DTYPES}.items():
        parser.add_argument(f"--{name}", default=",".join(default), help="by default %(default)s")
    for line in rows(parser.parse_args()):
        print(line, flush=True)


if __name__ == "__main__":
    main()
