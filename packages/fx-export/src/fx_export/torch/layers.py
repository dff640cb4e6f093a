"""The layers of fx and of PyTorch: which arrays each has, and how those of one make those of the other. All is data."""

import dataclasses

from fx_export.torch.layouts import CONV, CONV_TRANSPOSE, CONV_TRANSPOSE_OF, FLAT, LINEAR, SAME, SINGLE, Layout, linear


@dataclasses.dataclass(frozen=True)
class Part:
    """One of our arrays, or a piece of it, inside one of PyTorch's.

    Attributes:
      ours: its name below the layer, such as ``"query/kernel"``.
      layout: how it is laid out.
      piece: which piece of how many equal ones along our last axis; None for the whole.
    """

    ours: str
    layout: Layout = SAME
    piece: tuple[int, int] | None = None


@dataclasses.dataclass(frozen=True)
class TorchArray:
    """One of PyTorch's arrays: parts, one after the other along the first axis.

    A part that several arrays have is their sum: PyTorch has two biases where we have one. It is written to the first,
    and the others get zeros.

    Attributes:
      name: its name below the layer, such as ``"in_proj_weight"``.
      parts: of what it is made. A part that is None has no place here, so that it has to be zero there.
      beside: it is a counter, which is there where this one is; written as 0, and not read.
    """

    name: str
    parts: tuple[Part | None, ...] = ()
    beside: str | None = None


@dataclasses.dataclass(frozen=True)
class LayerRule:
    """How the arrays of a kind of layer are called and laid out in PyTorch.

    Attributes:
      kind: its name.
      forms: PyTorch's ways to hold such a layer. The first one that can hold the arrays is written; any is read.
      marks: the layer is recognized by having all of these arrays here.
      factor: and by the last axis of the first mark being so many times the first axis of the second.
      rank: and by the first mark having so many axes.
    """

    kind: str
    forms: tuple[tuple[TorchArray, ...], ...]
    marks: tuple[str, ...] = ()
    factor: int | None = None
    rank: int | None = None

    @property
    def ours(self) -> frozenset[str]:
        """Names of our arrays."""
        return frozenset(part.ours for form in self.forms for array in form for part in array.parts if part)


def _simple(kind: str, kernel: Layout) -> LayerRule:
    weight, bias = TorchArray("weight", (Part("kernel", kernel),)), TorchArray("bias", (Part("bias", FLAT),))
    return LayerRule(kind, ((weight, bias),))


def linear_rule(inputs: int = 1) -> LayerRule:
    """The rule for a linear layer over several axes.

    Args:
      inputs: over how many axes.

    >>> linear_rule(2).kind
    'linear'
    """
    return _simple("linear", linear(inputs))


_NORM = LayerRule(
    "norm",
    (
        (
            TorchArray("weight", (Part("scale"),)),
            TorchArray("bias", (Part("bias"),)),
            TorchArray("running_mean", (Part("mean"),)),
            TorchArray("running_var", (Part("var"),)),
            TorchArray("num_batches_tracked", beside="running_mean"),
        ),
    ),
)
_PRELU = LayerRule("prelu", ((TorchArray("weight", (Part("negative_slope", SINGLE),)),),))
_EMBED = LayerRule("embed", ((TorchArray("weight", (Part("embedding"),)),),))


def _attention() -> tuple[LayerRule, LayerRule]:
    maps, out = ("query", "key", "value"), linear(outputs=1)
    kernels = tuple(Part(f"{name}/kernel", linear(1)) for name in maps)
    biases = tuple(Part(f"{name}/bias", FLAT) for name in maps)
    bias = TorchArray("in_proj_bias", biases)
    ends = (TorchArray("out_proj.weight", (Part("out/kernel", out),)), TorchArray("out_proj.bias", (Part("out/bias"),)))
    fused = (TorchArray("in_proj_weight", kernels), bias, *ends)
    # What torch.nn.MultiheadAttention has where keys or values have other features than queries.
    several = (*(TorchArray(f"{n[0]}_proj_weight", (part,)) for n, part in zip(maps, kernels)), bias, *ends)
    layers = tuple(
        array
        for name, kernel, part in zip(maps, kernels, biases)
        for array in (TorchArray(f"{name[0]}_proj.weight", (kernel,)), TorchArray(f"{name[0]}_proj.bias", (part,)))
    )
    separate = (*layers, *ends)
    marks = tuple(f"{name}/kernel" for name in (*maps, "out"))
    return (
        # Linear layers of these names are no attention of ours: its kernels have an axis of heads.
        LayerRule("attention", (fused, several, separate), marks, rank=3),
        LayerRule("attention_separate", (separate, fused, several)),
    )


def _gates(gates: dict[str, str], hidden_gates: dict[str, str]) -> tuple[TorchArray, ...]:
    """The arrays of a cell with a map for each gate, with the names of the maps of inputs and of what is carried."""
    return (
        TorchArray("weight_ih", tuple(Part(f"{name}/kernel", LINEAR) for name in gates)),
        TorchArray("weight_hh", tuple(Part(f"{name}/kernel", LINEAR) for name in hidden_gates)),
        TorchArray("bias_ih", tuple(Part(f"{name}/bias") for name in gates.values())),
        TorchArray("bias_hh", tuple(Part(f"{name}/bias") for name in hidden_gates.values())),
    )


def _fused(bias: str, pieces: tuple[int | None, ...]) -> tuple[TorchArray, ...]:
    """The arrays of a cell with one map for all gates; ``pieces`` are those whose second bias can be added."""
    count = len(pieces)
    parts = tuple(Part(f"{bias}/bias", piece=(i, count)) for i in range(count))
    return (
        TorchArray("weight_ih", (Part("dense_i/kernel", LINEAR),)),
        TorchArray("weight_hh", (Part("dense_h/kernel", LINEAR),)),
        TorchArray("bias_ih", parts),
        TorchArray("bias_hh", tuple(None if i is None else parts[i] for i in pieces)),
    )


def _cells() -> list[LayerRule]:
    lstm = {gate: "h" + gate for gate in "ifgo"}
    rules = []
    for names in ({"if": "if"}, {"if": "if_"}):
        inputs = {names.get("i" + gate, "i" + gate): hidden for gate, hidden in lstm.items()}
        arrays = _gates(inputs, {hidden: hidden for hidden in lstm.values()})
        rules.append(LayerRule("lstm", (arrays,), tuple(f"{name}/kernel" for name in (*inputs, *lstm.values()))))
    for name in ("in", "in_"):
        inputs, hidden = ("ir", "iz", name), ("hr", "hz", "hn")
        # The bias of the last gate is inside of the product with the reset gate: PyTorch's two are two here.
        arrays = _gates(dict(zip(inputs, inputs)), dict(zip(hidden, ("ir", "iz", "hn"))))
        rules.append(LayerRule("gru", (arrays,), tuple(f"{each}/kernel" for each in (*inputs, *hidden))))
    simple = _gates({"i": "i"}, {"h": "i"})
    marks = ("dense_i/kernel", "dense_h/kernel")
    return [
        *rules,
        LayerRule("simple", (simple,), ("i/kernel", "h/kernel"), 1),
        LayerRule("lstm", (_fused("dense_h", (0, 1, 2, 3)),), marks, 4),
        LayerRule("gru", (_fused("dense_i", (0, 1, None)),), marks, 3),
        LayerRule("simple", (_fused("dense_i", (0,)),), marks, 1),
    ]


_ATTENTION, _SEPARATE = _attention()

RECOGNIZED = (_ATTENTION, *_cells())
"""Layers that are recognized by the arrays that they have."""

KINDS = {
    "linear": _simple("linear", LINEAR),
    "conv": _simple("conv", CONV),
    "conv_transpose": _simple("conv_transpose", CONV_TRANSPOSE),
    "conv_transpose_of": _simple("conv_transpose_of", CONV_TRANSPOSE_OF),
    "norm": _NORM,
    "embed": _EMBED,
    "prelu": _PRELU,
    "attention": _ATTENTION,
    "attention_separate": _SEPARATE,
}
"""Kinds that `layers` may name."""


def leaf_rule(names: frozenset[str], ranks: dict[str, int]) -> LayerRule | None:
    """The rule for a layer by the arrays that lie directly in it; None where that is not enough.

    Args:
      names: of the arrays.
      ranks: how many axes each has.
    """
    if "kernel" in names:
        return KINDS["linear"] if ranks["kernel"] == 2 else None
    if "embedding" in names:
        return _EMBED
    if "negative_slope" in names:
        return _PRELU
    return _NORM if names & {"scale", "mean", "var", "bias"} else None
