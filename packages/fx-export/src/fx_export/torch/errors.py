"""The errors about weights for and from PyTorch."""

from collections.abc import Sequence
from typing import Any

from fx_export.errors import BundleError, ExportError

_SHOWN = 40


class TorchMismatchError(ExportError, ValueError):
    """Weights of PyTorch and a network here do not fit; the text lists every place.

    Nothing is cast, dropped or filled in.

    Attributes:
      missing: arrays that the network needs and PyTorch's weights lack.
      unexpected: arrays of PyTorch that the network has no place for.
      different: a line for each array of another shape or dtype, or whose values cannot be kept.

    Args:
      missing: see above.
      unexpected: see above.
      different: see above.
    """

    def __init__(self, missing: Sequence[str], unexpected: Sequence[str], different: Sequence[str]):
        self.missing, self.unexpected, self.different = tuple(missing), tuple(unexpected), tuple(different)
        lines = [f"missing: {line}" for line in missing]
        lines += [f"unexpected: {line}" for line in unexpected]
        lines += [f"different: {line}" for line in different]
        count = len(lines)
        if count > _SHOWN:
            lines = [*lines[:_SHOWN], f"… and {count - _SHOWN} more; the attributes of this error hold all of them"]
        super().__init__(
            f"The weights do not fit the network in {count} {'place' if count == 1 else 'places'}.",
            expected="the arrays of the network under PyTorch's names",
            got="".join(f"\n    {line}" for line in lines),
            fix="Translate names by `names`, kinds of layers by `layers`; name in `ignore` what is to be left out.",
        )


class UnknownLayerError(ExportError, ValueError):
    """The kind of some layers cannot be determined from their arrays: layers of several kinds have such ones.

    A kernel of a convolution and one of its transpose have the same axes, and other meanings::

        to_torch(variables)                                                    # raises, if a layer is called "up"
        to_torch(variables, layers={"up": "conv_transpose", "*": "conv"})

    Attributes:
      layers: their paths, with the shape of the kernel.

    Args:
      layers: see above.
    """

    def __init__(self, layers: Sequence[str]):
        self.layers = tuple(layers)
        super().__init__(
            "The kind of these layers cannot be determined from their arrays.",
            expected="modules of NNX, names that modules give by themselves such as Conv_0, or the kinds",
            got="".join(f"\n    {line}" for line in layers[:_SHOWN]),
            fix="Say it by path: layers={'decoder/up': 'conv_transpose', '*': 'conv'}; the first that fits counts.",
        )


def unreadable_torch_file(
    path: str, problem: str, got: Any = None, fix: str = "Save the state dictionary again, by torch.save."
) -> BundleError:
    """A file of PyTorch is damaged, hostile, or holds something else than tensors."""
    return BundleError(f"This file of PyTorch is not read: {problem}", path=path, got=got, fix=fix)
