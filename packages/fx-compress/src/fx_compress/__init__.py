"""Smaller and faster networks for inference: quantization by rules, pruning, reports.

>>> import fx_compress, jax.numpy as jnp
>>> variables = {"params": {"Dense_0": {"kernel": jnp.linspace(-1, 1, 64).reshape(16, 4)}}}
>>> small = fx_compress.quantize(variables, {"*/kernel": fx_compress.int4(group=8)})
>>> small["params"]["Dense_0"]["kernel"].nbytes
64
"""

from fx_compress._version import __version__
from fx_compress.array import QuantizedArray
from fx_compress.calibration import calibrate
from fx_compress.channels import Channels, Removal, RemovalReport, remove_channels
from fx_compress.errors import CalibrationError, CompressError, MaskError, RuleError, SchemeError, StructureError
from fx_compress.fake import fake_quantize, quantization_aware
from fx_compress.inference import Change, InferenceReport, for_inference
from fx_compress.observers import observers
from fx_compress.observing import observe, ranges, with_observers
from fx_compress.parameters import Parameter
from fx_compress.prune import (
    Magnitude,
    NofM,
    apply_masks,
    make_masks,
    prune_during_training,
    sparsity_schedule,
)
from fx_compress.quantize import dequantize, quantize
from fx_compress.report import Report, compare
from fx_compress.rules import Rule
from fx_compress.schemes import Scheme, fp8, int4, int8, nf4

__all__ = [
    "CalibrationError",
    "Change",
    "Channels",
    "CompressError",
    "InferenceReport",
    "Magnitude",
    "MaskError",
    "NofM",
    "Parameter",
    "QuantizedArray",
    "Removal",
    "RemovalReport",
    "Report",
    "Rule",
    "RuleError",
    "Scheme",
    "SchemeError",
    "StructureError",
    "__version__",
    "apply_masks",
    "calibrate",
    "compare",
    "dequantize",
    "fake_quantize",
    "for_inference",
    "fp8",
    "int4",
    "int8",
    "make_masks",
    "nf4",
    "observe",
    "observers",
    "prune_during_training",
    "quantization_aware",
    "quantize",
    "ranges",
    "remove_channels",
    "sparsity_schedule",
    "with_observers",
]
