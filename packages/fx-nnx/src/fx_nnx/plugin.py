"""What fx-nnx brings, through the same door as everyone's plugins."""

from fx_core.plugins import LayerEntry, ModelEntry, hookimpl

fx_api_version = "1.0"

_LAYERS = {
    "BatchNorm": "Normalizes over the batch, with running statistics",
    "Bidirectional": "Reads sequences in both directions",
    "Conv": "Convolution over any number of dimensions",
    "ConvTranspose": "Transposed convolution",
    "Dropout": "Sets random elements to zero",
    "Einsum": "Linear map by an einsum equation",
    "Embed": "Vectors by integer",
    "GRUCell": "Gated recurrent unit",
    "GroupNorm": "Normalizes over groups of features",
    "InstanceNorm": "Normalizes each example and feature over space",
    "LSTMCell": "Long short-term memory, gate by gate",
    "LayerNorm": "Normalizes over features",
    "Linear": "Linear map over the last axis",
    "LinearGeneral": "Linear map over any axes",
    "LoRA": "Adds a low-rank change to a layer",
    "LoRALinear": "Linear map with a low-rank change",
    "MultiHeadAttention": "Attention of several heads, with a cache for decoding",
    "OptimizedLSTMCell": "Long short-term memory with two matrix products",
    "PReLU": "ReLU with a learned negative slope",
    "RMSNorm": "Divides by the root of the mean square over features",
    "RNN": "Runs a cell over sequences",
    "RoPE": "Rotary positions",
    "Sequential": "Calls one layer after the other",
    "SimpleCell": "Plain recurrent cell",
    "SpectralNorm": "Divides the weights of a layer by their largest singular value",
    "WeightNorm": "Gives the weights of a layer learned lengths",
}


@hookimpl
def fx_layers() -> list[LayerEntry]:
    """Returns the layers of fx-nnx."""
    return [LayerEntry(name=n, target=f"fx_nnx:{n}", face="nnx", summary=text) for n, text in _LAYERS.items()]


@hookimpl
def fx_models() -> list[ModelEntry]:
    """Modules of fx-nnx."""
    return [
        ModelEntry(
            name="nnx",
            target="fx_nnx.exporting:as_function",
            inference="fx_nnx.inference:for_inference",
            resize="fx_nnx.inference:resize",
            summary="An NNX module, which holds its variables",
            type="fx_nnx.modules.module:Module",
        ),
        ModelEntry(
            name="nnx_train_state",
            target="fx_nnx.exporting:of_train_state",
            summary="The model of an NNX training state",
            type="fx_nnx.training.train_state:TrainState",
        ),
    ]
