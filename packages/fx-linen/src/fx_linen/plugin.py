"""What fx-linen brings, through the same door as everyone's plugins."""

from fx_core.plugins import LayerEntry, ModelEntry, hookimpl

fx_api_version = "1.0"

_LAYERS = {
    "BatchNorm": "Normalizes over the batch, with running statistics",
    "Bidirectional": "Two recurrent layers, one of them over reversed sequences",
    "Conv": "Convolution over any number of dimensions",
    "ConvLSTMCell": "One step of a convolutional LSTM",
    "ConvLocal": "Convolution with a kernel of its own at every place",
    "ConvTranspose": "Transposed convolution",
    "Dense": "Linear map over the last axis",
    "DenseGeneral": "Linear map over any axes",
    "Dropout": "Sets random elements to zero",
    "Einsum": "Linear map by an einsum equation",
    "Embed": "Vectors by integer",
    "Fp8DirectDotGeneralOp": "Matrix product in fp8 with scales of the recent past, quantized directly",
    "Fp8DotGeneral": "Matrix product in fp8 with scales of the recent past",
    "Fp8DotGeneralOp": "Matrix product in fp8 with scales of the recent past",
    "Fp8Einsum": "Einsum in fp8 with scales of the recent past",
    "GRUCell": "One step of a gated recurrent unit",
    "GroupNorm": "Normalizes over groups of features",
    "InstanceNorm": "Normalizes each example and feature over space",
    "LSTMCell": "One step of an LSTM",
    "LayerNorm": "Normalizes over features",
    "LoRA": "Adds a low-rank change to a layer",
    "MGUCell": "One step of a minimal gated unit",
    "MultiHeadAttention": "Attention with several heads",
    "MultiHeadDotProductAttention": "Attention with several heads",
    "NANOOFp8DotGeneralOp": "Matrix product in the fp8 of AMD hardware",
    "OptimizedLSTMCell": "One step of an LSTM, with fused products",
    "PReLU": "ReLU with a learned negative slope",
    "RMSNorm": "Divides by the root of the mean square over features",
    "RNN": "A cell over the steps of sequences",
    "SelfAttention": "Attention of a sequence to itself",
    "Sequential": "Calls one layer after the other",
    "SimpleCell": "One step of an Elman network",
    "SpectralNorm": "Divides the kernels of a layer by their largest singular value",
    "WeightNorm": "Splits the kernels of a layer into direction and length",
}


@hookimpl
def fx_layers() -> list[LayerEntry]:
    """Returns the layers of fx-linen."""
    return [LayerEntry(name=n, target=f"fx_linen:{n}", face="linen", summary=text) for n, text in _LAYERS.items()]


@hookimpl
def fx_models() -> list[ModelEntry]:
    """Modules of fx-linen."""
    return [
        ModelEntry(
            name="linen",
            target="fx_linen.exporting:as_function",
            inference="fx_linen.inference:for_inference",
            summary="A Linen module, with its variables",
            type="fx_linen.module._module:Module",
        )
    ]
