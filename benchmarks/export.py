"""How fast ONNX Runtime computes an exported network, against jitted JAX."""

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fx_export
import fx_linen
import jax
import numpy as np
import onnxruntime

from benchmarks import networks
from benchmarks.measure import Ratio, interleaved

NETWORKS: dict[str, Callable[..., Any]] = {
    "ResNet-50": networks.resnet,
    "transformer of 12 blocks": networks.transformer,
}


def cases() -> Iterator[Ratio]:
    for name, build in NETWORKS.items():
        model, x = build(fx_linen)
        x = np.asarray(x)
        variables = model.init(jax.random.key(0), x)
        with tempfile.TemporaryDirectory() as scratch:
            path = fx_export.export(Path(scratch) / "net", model, variables, [x], format="onnx", verify=False)
            file = str(path / "data/model.onnx")
            session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
        jitted = jax.jit(model.apply)
        np.testing.assert_allclose(session.run(None, {"input": x})[0], jitted(variables, x), rtol=1e-2, atol=1e-3)

        def ours(session: Any = session, x: Any = x) -> object:
            return session.run(None, {"input": x})

        def raw(jitted: Any = jitted, variables: Any = variables, x: Any = x) -> object:
            return jitted(variables, x).block_until_ready()

        yield interleaved(f"run in ONNX Runtime, {name}", ours, raw, rounds=15, aim=1.5)
