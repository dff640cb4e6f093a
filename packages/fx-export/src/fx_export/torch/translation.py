"""Which arrays of a network make which of PyTorch's."""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any

from fx_core.patterns import glob
from fx_core.renaming import SAME, Rule, find

from fx_export.torch.errors import TorchMismatchError, UnknownLayerError
from fx_export.torch.layers import KINDS, RECOGNIZED, LayerRule, Part, TorchArray, leaf_rule, linear_rule
from fx_export.torch.normalized import LEFT, LENGTHS, RIGHT, Normalized
from fx_export.torch.parametrizations import NORMALIZATIONS, NormalizedArray, normalized_rule
from fx_export.torch.trees import Path

Layers = Mapping[str, str | LayerRule]

NAMES = (
    Rule("{at*}/forward_rnn/cell/{kind}_{which}", "{at*}.{kind}_{which}_l0"),
    Rule("{at*}/backward_rnn/cell/{kind}_{which}", "{at*}.{kind}_{which}_l0_reverse"),
    Rule("forward_rnn/cell/{kind}_{which}", "{kind}_{which}_l0"),
    Rule("backward_rnn/cell/{kind}_{which}", "{kind}_{which}_l0_reverse"),
    Rule("{at*}/cell/{kind}_{which}", "{at*}.{kind}_{which}_l0"),
    Rule("cell/{kind}_{which}", "{kind}_{which}_l0"),
)
"""Names of layers of cells, such as ``torch.nn.LSTM``, which number layers and directions in names."""

_AUTOMATIC = re.compile(r"(Conv|ConvTranspose|DenseGeneral)_\d+")
_GATE_NAMES = re.compile(r"(weight|bias)_[ih]h")


@dataclasses.dataclass(frozen=True)
class Site:
    """A layer of a network.

    Attributes:
      path: where it is.
      rule: how its arrays are translated.
      arrays: those of its arrays that are there, by their names below the layer.
    """

    path: Path
    rule: LayerRule
    arrays: Mapping[str, Any]

    def at(self, name: str) -> Path:
        """The path of one of its arrays."""
        return (*self.path, *name.split("/"))


@dataclasses.dataclass(frozen=True)
class Translation:
    """How a network is translated.

    Attributes:
      sites: its layers.
      loose: paths of arrays that belong to no layer, which are called and laid out as here.
    """

    sites: Sequence[Site]
    loose: Sequence[Path]
    names: Sequence[Rule]

    def their_name(self, path: Path, array: str = "") -> str:
        """PyTorch's name of an array of a layer."""
        ours = "/".join([*path, *array.split(".")] if array else path)
        cell = _GATE_NAMES.fullmatch(array) is not None
        return find([*self.names, *(NAMES if cell else ()), *SAME], ours, 0)[0]

    def all_names(self) -> set[str]:
        """PyTorch's names of all arrays, in all forms of the layers."""
        sites = ((site, form) for site in self.sites for form in site.rule.forms)
        return {self.their_name(path) for path in self.loose} | {
            name for site, form in sites for name, _ in their_arrays(self, site, form)
        }


def translation_of(
    network: Normalized, layers: Layers, names: Sequence[Rule], normalization: str = NORMALIZATIONS[-1]
) -> Translation:
    """Finds the layers of a network.

    Args:
      network: the network.
      layers: kinds of layers by patterns of paths, for those that cannot be inferred.
      names: rules for names, before those of every network.
      normalization: which of `NORMALIZATIONS` is written.

    Raises:
      UnknownLayerError: the kinds of some layers cannot be inferred; all are listed.
      TorchMismatchError: PyTorch does not normalize weights so.
    """
    translator = _Translator(network, layers, normalization)
    translator.visit(())
    if translator.unknown:
        raise UnknownLayerError(translator.unknown)
    if translator.problems:
        raise TorchMismatchError([], [], translator.problems)
    return Translation(translator.sites, translator.loose, list(names))


class _Translator:
    """Goes through a network from the outside in, so that attention is found before the linear layers in it."""

    def __init__(self, network: Normalized, layers: Layers, normalization: str):
        self._arrays, self._objects = dict(network.arrays), network.objects
        self._network, self._normalization = network, normalization
        self._rules = [(pattern, KINDS[rule] if isinstance(rule, str) else rule) for pattern, rule in layers.items()]
        self._children: dict[Path, dict[str, None]] = {}
        for path in self._arrays:
            for end in range(len(path)):
                self._children.setdefault(path[:end], {})[path[end]] = None
        self.sites: list[Site] = []
        self.loose: list[Path] = []
        self.unknown: list[str] = []
        self.problems: list[str] = []

    def visit(self, path: Path) -> None:
        children = self._children.get(path, {})
        direct = [name for name in children if (*path, name) in self._arrays]
        rule = self._rule(path, direct)
        if rule is not None:
            found = {name: path + tuple(name.split("/")) for name in sorted(rule.ours)}
            # Whoever comes later, such as the linear layers of attention, does not see them any more.
            arrays = {name: self._arrays.pop(at) for name, at in found.items() if at in self._arrays}
            if arrays:
                self._add(path, rule, arrays)
        for name in direct:
            if (*path, name) in self._arrays:
                self._left(path, name)
        for name in children:
            if name not in direct:
                self.visit((*path, name))

    def _left(self, path: Path, name: str) -> None:
        array = self._arrays[(*path, name)]
        if name == "kernel" and len(array.shape) != 1:
            self.unknown.append(f"{'/'.join(path)}: a kernel of shape {tuple(array.shape)}")
        elif (*path, name) in self._network.kinds:
            self._add(path, LayerRule("array", ((TorchArray(name, (Part(name),)),),)), {name: array})
        else:
            self.loose.append((*path, name))

    def _add(self, path: Path, rule: LayerRule, arrays: dict[str, Any]) -> None:
        """Add a layer, with what belongs to its normalized weights."""
        normalized: dict[str, NormalizedArray] = {}
        for name in list(arrays):
            at = path + tuple(name.split("/"))
            kind = self._network.kinds.get(at)
            if kind is None:
                continue
            for end in (LENGTHS,) if kind == LENGTHS else (LEFT, RIGHT):
                arrays[name + end] = self._arrays.pop((*at[:-1], at[-1] + end))
            shapes = [tuple(arrays[each].shape) for each in (name, name + kind)]
            normalized[name] = NormalizedArray(kind, shapes[0], shapes[1], at in self._network.scalar)
        if normalized:
            try:
                rule = normalized_rule(rule, normalized, self._normalization)
            except ValueError as error:
                self.problems.append(f"{'/'.join(path)}: {error}")
        self.sites.append(Site(path, rule, arrays))

    def _rule(self, path: Path, direct: Sequence[str]) -> LayerRule | None:
        said = next(
            (rule for pattern, rule in self._rules if glob("/".join(path), pattern) and self._suits(rule, path)), None
        )
        return (
            said
            or self._by_object(path)
            or next((rule for rule in RECOGNIZED if self._is(rule, path)), None)
            or self._by_arrays(path, direct)
        )

    def _shape(self, path: Path, name: str) -> tuple[int, ...] | None:
        array = self._arrays.get((*path, *name.split("/")))
        return None if array is None else tuple(array.shape)

    def _is(self, rule: LayerRule, path: Path) -> bool:
        shapes = [self._shape(path, name) for name in rule.marks]
        if not shapes or None in shapes:
            return False
        first, second = shapes[:2]
        if rule.rank is not None and len(first or ()) != rule.rank:
            return False
        return rule.factor is None or bool(first and second and first[-1] == rule.factor * second[0])

    def _suits(self, rule: LayerRule, path: Path) -> bool:
        """Whether a layer can be of a kind that was said: so ``"*": "conv"`` is for kernels of convolutions only."""
        kernel = self._shape(path, "kernel")
        if rule.kind.startswith("conv"):
            return kernel is not None and len(kernel) >= 3
        if rule.kind == "linear":
            return kernel is not None and len(kernel) >= 2
        return any(self._shape(path, name) is not None for name in rule.ours)

    def _by_object(self, path: Path) -> LayerRule | None:
        """By the class of a layer of NNX, where its arrays do not determine it."""
        layer = self._objects.get(path)
        for cls in type(layer).__mro__:
            if not cls.__module__.startswith("fx_nnx."):
                continue
            if cls.__name__ == "Conv":
                return KINDS["conv"]
            if cls.__name__ == "ConvTranspose":
                return KINDS["conv_transpose_of" if getattr(layer, "transpose_kernel", False) else "conv_transpose"]
            if cls.__name__ == "LinearGeneral" and not getattr(layer, "batch_axis", None):
                axis = getattr(layer, "axis", -1)
                return linear_rule(len(axis) if isinstance(axis, tuple) else 1)
        return None

    def _by_arrays(self, path: Path, direct: Sequence[str]) -> LayerRule | None:
        ranks = {name: len(self._arrays[(*path, name)].shape) for name in direct}
        automatic = _AUTOMATIC.fullmatch(path[-1]) if path else None
        if automatic and ranks.get("kernel", 0) > 2:
            kinds = {"Conv": "conv", "ConvTranspose": "conv_transpose"}
            kind = kinds.get(automatic[1])
            if kind is not None:
                return KINDS[kind]
            return linear_rule(ranks["kernel"] - ranks["bias"]) if "bias" in ranks else None
        return leaf_rule(frozenset(direct), ranks)


def their_arrays(translation: Translation, site: Site, form: Sequence[TorchArray]) -> list[tuple[str, TorchArray]]:
    """PyTorch's arrays of a layer in one of its forms, with their whole names: those of which we have parts."""
    held = [array for array in form if any(part is not None and part.ours in site.arrays for part in array.parts)]
    names = {array.name for array in held}
    counters = [array for array in form if array.beside in names]
    return [(translation.their_name(site.path, array.name), array) for array in (*held, *counters)]
