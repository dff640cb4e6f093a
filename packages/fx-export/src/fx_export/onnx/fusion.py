"""Layers that ONNX has an operator for, recognized among the small operators that they are made of."""

from fx_export.onnx.builder import Builder


def fuse_patterns(build: Builder) -> None:
    """Replace what one operator computes by it."""
    del build
