"""Writes export/torch_modules.pt: modules of PyTorch with weights, inputs and outputs. Needs PyTorch; run by hand:

    python tests-integration/torch/torch_modules.py

The tests of `tests-integration/export` read the file without PyTorch.
"""

from pathlib import Path

import torch
from torch import nn

FILE = Path(__file__).parent.with_name("export") / "torch_modules.pt"


def modules():
    """The modules, each with inputs."""
    x = torch.randn
    return {
        "Linear": (nn.Linear(3, 4), [x(2, 3)]),
        "LinearWithoutBias": (nn.Linear(3, 4, bias=False), [x(2, 3)]),
        "Conv1d": (nn.Conv1d(2, 4, 3), [x(2, 2, 7)]),
        "Conv2d": (nn.Conv2d(4, 6, (3, 2), stride=(2, 1), dilation=(1, 2), groups=2), [x(2, 4, 8, 7)]),
        "Conv3d": (nn.Conv3d(2, 3, (2, 3, 1)), [x(1, 2, 4, 5, 3)]),
        "ConvTranspose1d": (nn.ConvTranspose1d(3, 3, 4, stride=2), [x(2, 3, 5)]),
        "ConvTranspose2d": (nn.ConvTranspose2d(3, 2, (3, 2), stride=(2, 2)), [x(2, 3, 4, 5)]),
        "ConvTranspose3d": (nn.ConvTranspose3d(2, 2, (2, 3, 2), stride=(1, 2, 2)), [x(1, 2, 3, 2, 3)]),
        "BatchNorm2d": (nn.BatchNorm2d(3), [x(2, 3, 4, 4)]),
        "LayerNorm": (nn.LayerNorm(5), [x(2, 5)]),
        "GroupNorm": (nn.GroupNorm(2, 4), [x(2, 4, 3, 3)]),
        "InstanceNorm2d": (nn.InstanceNorm2d(3, affine=True), [x(2, 3, 4, 4)]),
        "RMSNorm": (nn.RMSNorm(5, eps=1e-6), [x(2, 5)]),
        "Embedding": (nn.Embedding(7, 3), [torch.tensor([[1, 6], [0, 2]])]),
        "PReLU": (nn.PReLU(), [x(2, 3)]),
        "MultiheadAttention": (nn.MultiheadAttention(6, 2, batch_first=True), [x(2, 3, 6), x(2, 4, 6)]),
        "MultiheadAttentionOfSeveral": (
            nn.MultiheadAttention(6, 2, kdim=5, vdim=5, batch_first=True),
            [x(2, 3, 6), x(2, 4, 5)],
        ),
        "LSTM": (nn.LSTM(3, 4, batch_first=True), [x(2, 5, 3)]),
        "GRU": (nn.GRU(3, 4, batch_first=True), [x(2, 5, 3)]),
        "RNN": (nn.RNN(3, 4, batch_first=True), [x(2, 5, 3)]),
        "BidirectionalLSTM": (nn.LSTM(3, 4, batch_first=True, bidirectional=True), [x(2, 5, 3)]),
    }


def output(module, inputs):
    """What a module gives: of attention and recurrent layers the first part."""
    if isinstance(module, nn.MultiheadAttention):
        query, other = inputs
        return module(query, other, other, need_weights=False)[0]
    found = module(*inputs)
    return found[0] if isinstance(found, tuple) else found


def main():
    torch.manual_seed(0)
    records = {}
    for name, (module, inputs) in modules().items():
        with torch.no_grad():
            for array in [*module.parameters(), *module.buffers()]:
                if array.dtype.is_floating_point:
                    array.copy_(torch.rand_like(array) + 0.2)
            module.eval()
            records[name] = {"state": module.state_dict(), "inputs": inputs, "output": output(module, inputs)}
    torch.save(records, FILE)


if __name__ == "__main__":
    main()
