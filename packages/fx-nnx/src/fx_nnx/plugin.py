"""What fx-nnx brings, through the same door as everyone's plugins."""

from fx_core.plugins import LayerEntry, hookimpl

fx_api_version = "1.0"

_LAYERS = {
    "BatchNorm": "Normalises over the batch, with running statistics",
    "Conv": "Convolution over any number of dimensions",
    "ConvTranspose": "Transposed convolution",
    "Dropout": "Sets random elements to zero",
    "Einsum": "Linear map by an einsum equation",
    "Embed": "Vectors by integer",
    "GroupNorm": "Normalises over groups of features",
    "InstanceNorm": "Normalises each example and feature over space",
    "LayerNorm": "Normalises over features",
    "Linear": "Linear map over the last axis",
    "LinearGeneral": "Linear map over any axes",
    "PReLU": "ReLU with a learned negative slope",
    "RMSNorm": "Divides by the root of the mean square over features",
    "Sequential": "Calls one layer after the other",
}


@hookimpl
def fx_layers() -> list[LayerEntry]:
    """The layers of fx-nnx."""
    return [LayerEntry(name=n, target=f"fx_nnx:{n}", face="nnx", summary=text) for n, text in _LAYERS.items()]
