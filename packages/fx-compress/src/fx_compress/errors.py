"""The errors of fx-compress, one class per kind that a caller would catch."""

from typing import Any

from fx_core.errors import FxError


class CompressError(FxError):
    """Base class of the errors of fx-compress.

    Right::

        try:
            smaller = fx_compress.quantize(variables, rules)
        except fx_compress.CompressError as error:
            print(error)
    """


class RuleError(CompressError, ValueError):
    """A rule chooses nothing, or something that cannot be compressed.

    Wrong::

        fx_compress.quantize(variables, {"encoder/*/weight": fx_compress.int8()})  # parameters are called kernel

    Right::

        fx_compress.quantize(variables, {"encoder/*/kernel": fx_compress.int8()})
    """


class SchemeError(CompressError, ValueError):
    """A scheme does not fit its options, or the array that it is used on.

    Wrong: groups of 48 in a kernel of 64 inputs, or an asymmetric scheme for integer activations.

    Wrong::

        fx_compress.int8(group=48).quantize(jnp.ones((64, 8)))

    Right::

        fx_compress.int8(group=32).quantize(jnp.ones((64, 8)))
    """

    def __init__(self, what: str, *, path: str | None = None, expected: Any = None, got: Any = None, fix: str = ""):
        super().__init__(what, path=path, expected=expected, got=got, fix=fix or None)


class CalibrationError(CompressError, ValueError):
    """A scheme needs statistics of inputs, and there are none, or not of this parameter.

    Right::

        statistics = fx_compress.calibrate(model.apply, variables, batches, rules)
        quantized = fx_compress.quantize(variables, rules, calibration=statistics)
    """


class MaskError(CompressError, ValueError):
    """Masks or a sparsity that do not fit the parameters.

    Wrong::

        fx_compress.make_masks(variables, fx_compress.Magnitude(sparsity=90))

    Right::

        fx_compress.make_masks(variables, fx_compress.Magnitude(sparsity=0.9))
    """


class StructureError(CompressError, ValueError):
    """Features cannot be removed: something that cannot lose them takes them, too.

    Wrong: the output features of the last layer, or those that a ``LayerNorm`` takes the mean of.

    Right::

        rules = {"params/Dense_0/kernel": fx_compress.Channels(0.5)}  # a hidden layer, whose features another one takes
        smaller, report = fx_compress.remove_channels(variables, rules, x, module=model)
    """
