"""ONNX: a translation of what JAX traces into ONNX's operators."""
