"""Serves a SavedModel, an ONNX model or a ``.tflite`` file without JAX and fx: what they would import is refused.

python served.py onnx FILE INPUTS.npz OUTPUTS.npz
python served.py savedmodel DIRECTORY INPUTS.npz OUTPUTS.npz
python served.py litert FILE INPUTS.npz OUTPUTS.npz
"""

import sys

import numpy as np

REFUSED = ("jax", "jaxlib", "fx_")


class Blocker:
    """Refuses to import what a server does not have."""

    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("jax", "jaxlib") or name.startswith("fx_"):
            raise ModuleNotFoundError(f"{name} is not there", name=name)


def main(format, path, inputs, outputs):
    sys.meta_path.insert(0, Blocker())
    feeds = dict(np.load(inputs))
    if format == "savedmodel":
        import tensorflow as tf

        model = tf.saved_model.load(path)
        results = model.signatures["serving_default"](**{name: tf.constant(x) for name, x in feeds.items()})
        results = {name: value.numpy() for name, value in results.items()}
    elif format == "onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        results = dict(zip([output.name for output in session.get_outputs()], session.run(None, feeds), strict=True))
    else:
        from ai_edge_litert.interpreter import Interpreter

        results = Interpreter(model_path=path).get_signature_runner("serving_default")(**feeds)
    np.savez(outputs, **results)
    loaded = sorted(name for name in sys.modules if name.startswith(REFUSED))
    assert not loaded, loaded


if __name__ == "__main__":
    main(*sys.argv[1:])
