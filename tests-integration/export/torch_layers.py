"""The layers of both faces that do what modules of PyTorch do, on inputs in PyTorch's order of axes."""

import fx_linen as nn
import fx_nnx as nnx
import jax.numpy as jnp


def last(x):
    """PyTorch's order of axes to ours: features last."""
    return jnp.moveaxis(jnp.asarray(x), 1, -1)


def first(x):
    return jnp.moveaxis(x, -1, 1)


LINEN = {
    "Linear": lambda: nn.Dense(4),
    "LinearWithoutBias": lambda: nn.Dense(4, use_bias=False),
    "Conv1d": lambda: nn.Conv(4, (3,), padding="VALID"),
    "Conv2d": lambda: nn.Conv(6, (3, 2), (2, 1), kernel_dilation=(1, 2), feature_group_count=2, padding="VALID"),
    "Conv3d": lambda: nn.Conv(3, (2, 3, 1), padding="VALID"),
    "ConvTranspose1d": lambda: nn.ConvTranspose(3, (4,), (2,), padding="VALID"),
    "ConvTranspose2d": lambda: nn.ConvTranspose(2, (3, 2), (2, 2), padding="VALID", transpose_kernel=True),
    "ConvTranspose3d": lambda: nn.ConvTranspose(2, (2, 3, 2), (1, 2, 2), padding="VALID"),
    "BatchNorm2d": lambda: nn.BatchNorm(use_running_average=True),
    "LayerNorm": lambda: nn.LayerNorm(epsilon=1e-5),
    "GroupNorm": lambda: nn.GroupNorm(2, epsilon=1e-5),
    "InstanceNorm2d": lambda: nn.InstanceNorm(epsilon=1e-5),
    "RMSNorm": lambda: nn.RMSNorm(),
    "Embedding": lambda: nn.Embed(7, 3),
    "PReLU": lambda: nn.PReLU(),
    "MultiheadAttention": lambda: nn.MultiHeadDotProductAttention(2, qkv_features=6, out_features=6),
    "MultiheadAttentionOfSeveral": lambda: nn.MultiHeadDotProductAttention(2, qkv_features=6, out_features=6),
    "LSTM": lambda: nn.RNN(nn.LSTMCell(4)),
    "GRU": lambda: nn.RNN(nn.GRUCell(4)),
    "RNN": lambda: nn.RNN(nn.SimpleCell(4)),
    "BidirectionalLSTM": lambda: nn.Bidirectional(nn.RNN(nn.OptimizedLSTMCell(4)), nn.RNN(nn.OptimizedLSTMCell(4))),
}

NNX = {
    "Linear": lambda r: nnx.Linear(3, 4, rngs=r),
    "LinearWithoutBias": lambda r: nnx.Linear(3, 4, use_bias=False, rngs=r),
    "Conv1d": lambda r: nnx.Conv(2, 4, (3,), padding="VALID", rngs=r),
    "Conv2d": lambda r: nnx.Conv(
        4, 6, (3, 2), (2, 1), kernel_dilation=(1, 2), feature_group_count=2, padding="VALID", rngs=r
    ),
    "Conv3d": lambda r: nnx.Conv(2, 3, (2, 3, 1), padding="VALID", rngs=r),
    "ConvTranspose1d": lambda r: nnx.ConvTranspose(3, 3, (4,), (2,), padding="VALID", rngs=r),
    "ConvTranspose2d": lambda r: nnx.ConvTranspose(3, 2, (3, 2), (2, 2), padding="VALID", rngs=r),
    "ConvTranspose3d": lambda r: nnx.ConvTranspose(
        2, 2, (2, 3, 2), (1, 2, 2), padding="VALID", transpose_kernel=True, rngs=r
    ),
    "BatchNorm2d": lambda r: nnx.BatchNorm(3, use_running_average=True, rngs=r),
    "LayerNorm": lambda r: nnx.LayerNorm(5, epsilon=1e-5, rngs=r),
    "GroupNorm": lambda r: nnx.GroupNorm(4, 2, epsilon=1e-5, rngs=r),
    "InstanceNorm2d": lambda r: nnx.InstanceNorm(3, epsilon=1e-5, rngs=r),
    "RMSNorm": lambda r: nnx.RMSNorm(5, rngs=r),
    "Embedding": lambda r: nnx.Embed(7, 3, rngs=r),
    "PReLU": lambda r: nnx.PReLU(),
    "MultiheadAttention": lambda r: nnx.MultiHeadAttention(2, 6, decode=False, rngs=r),
    "MultiheadAttentionOfSeveral": lambda r: nnx.MultiHeadAttention(2, 6, 6, 6, in_kv_features=5, decode=False, rngs=r),
    "LSTM": lambda r: nnx.RNN(nnx.LSTMCell(3, 4, rngs=r)),
    "GRU": lambda r: nnx.RNN(nnx.GRUCell(3, 4, rngs=r)),
    "RNN": lambda r: nnx.RNN(nnx.SimpleCell(3, 4, rngs=r)),
    "BidirectionalLSTM": lambda r: nnx.Bidirectional(
        nnx.RNN(nnx.LSTMCell(3, 4, rngs=r)), nnx.RNN(nnx.LSTMCell(3, 4, rngs=r))
    ),
}

KINDS = {"ConvTranspose2d": "conv_transpose_of"}
"""What a Linen layer is, that is not told by what it does in PyTorch."""


def features_second(name):
    """Whether PyTorch's module has the features as second axis."""
    return name[-2:] in ("1d", "2d", "3d") or name == "GroupNorm"
