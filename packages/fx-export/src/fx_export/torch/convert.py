"""Weights to PyTorch and from it, in one call each."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from fx_core.errors import ArgumentError
from fx_core.renaming import Rule
from fx_core.stored_dtypes import NUMBERS

from fx_export.torch.errors import TorchMismatchError
from fx_export.torch.files import read_state, write_state
from fx_export.torch.normalized import Normalized
from fx_export.torch.parametrizations import NORMALIZATIONS, computed
from fx_export.torch.reading import Reader
from fx_export.torch.stacks import Stacked
from fx_export.torch.translation import Layers, translation_of
from fx_export.torch.trees import Network, flattened
from fx_export.torch.writing import written

StrPath = str | os.PathLike[str]


def to_torch(
    source: Any,
    path: StrPath | None = None,
    *,
    layers: Layers | None = None,
    names: Sequence[Rule] = (),
    tied: Mapping[str, str] | None = None,
    stacked: Mapping[str, int] | None = None,
    normalization: str = "parametrizations",
) -> dict[str, np.ndarray]:
    """Returns the weights of a network as a state dictionary of PyTorch, and writes them as safetensors.

    Linear layers, convolutions and their transposes, norms with running statistics, embeddings, attention and
    recurrent cells get PyTorch's names and layouts; other arrays keep theirs. Caches, RNG streams and what runs
    leave behind are no weights.

    Args:
      source: an NNX module or state, Linen's variables by collection, or parameters.
      path: where to write safetensors; None does not write.
      layers: kinds of layers by patterns of paths, where arrays do not determine it: ``"linear"``, ``"conv"``,
        ``"conv_transpose"``, ``"conv_transpose_of"`` (with ``transpose_kernel``), ``"attention"``,
        ``"attention_separate"`` (a linear layer for each of queries, keys, values), ``"norm"``, ``"embed"``, or a
        `LayerRule`. The first that fits counts; ``"*": "conv"`` is about kernels with three or more axes.
      names: rules from paths here to names there, such as ``Rule("blocks_{n}/{at*}", "h.{n}.{at*}")``, before dots are
        written for slashes.
      tied: second names of arrays: ``{"lm_head.weight": "embed.weight"}``.
      stacked: layers that lie along an axis of their arrays, as `fx_linen.scan` and `fx_nnx.vmap` keep them: the axis
        by the path below which they are, such as ``{"blocks": 0}``. They are written as ``blocks.0``, ``blocks.1``, ….
      normalization: how PyTorch holds the weights of layers in ``WeightNorm`` and ``SpectralNorm``, which get the names
        of those layers: as ``"parametrizations"`` of ``torch.nn.utils`` (``parametrizations.weight.original0``), or as
        its older ``"hooks"`` (``weight_g``). Variables of Linen do not say which axes have lengths: it is the last one,
        where that fits.

    Returns:
      Arrays by name, for ``module.load_state_dict({k: torch.tensor(v) for k, v in ...})``; bfloat16, which NumPy's
      tensors lack, goes by the file: ``module.load_state_dict(safetensors.torch.load_file(path))``.

    Raises:
      UnknownLayerError: the kinds of some layers cannot be inferred; all are listed.
      TorchMismatchError: a layer has no form in PyTorch, two arrays get one name, or the estimate of a spectral
        normalization has not converged, so that PyTorch would compute something else.
      ArgumentTypeError: a weight is no array of numbers.
      ArgumentError: there is no such normalization.
      BundleError: safetensors have no such dtype.
      MissingPackageError: safetensors are not installed.

    Example:
      >>> params = {"head": {"kernel": np.ones((2, 3), np.float32), "bias": np.zeros(3, np.float32)}}
      >>> {name: array.shape for name, array in to_torch({"params": params}).items()}
      {'head.weight': (3, 2), 'head.bias': (3,)}
    """
    if normalization not in NORMALIZATIONS:
        raise ArgumentError(
            "There is no such way to normalize weights.",
            expected=" or ".join(NORMALIZATIONS),
            got=normalization,
            fix="Name one of them.",
        )
    network = _network(source, stacked)
    translation = translation_of(network, layers or {}, names, normalization)
    network.check_written()
    state = written(network, translation, tied or {})
    if path is not None:
        write_state(path, state)
    return state


def from_torch(
    source: Mapping[str, Any] | StrPath,
    target: Any,
    *,
    part: str | None = None,
    layers: Layers | None = None,
    names: Sequence[Rule] = (),
    tied: Mapping[str, str] | None = None,
    ignore: Sequence[str] = (),
    cast: bool = False,
    stacked: Mapping[str, int] | None = None,
) -> Any:
    """Puts weights of PyTorch into a network.

    Args:
      source: a state dictionary (of NumPy, JAX or PyTorch), or a file: safetensors, or what `torch.save` wrote.
      target: an NNX module, which gets the weights itself; an NNX state, variables or parameters, of which a new tree
        is made. Arrays may be `jax.ShapeDtypeStruct`, and say where to put the values.
      part: which entry of a larger file holds the state dictionary, such as ``"model"``.
      layers: see `to_torch`.
      names: see `to_torch`.
      tied: see `to_torch`; the file may have both names or one.
      ignore: PyTorch's names to leave out, with ``*`` for anything. Counters of batches of norms are never asked for.
      cast: whether other dtypes are cast, as long as no finite number becomes infinite and no integer another one; by
        default they are reported.
      stacked: see `to_torch`.

    Weights that PyTorch computes by weight or spectral normalization are read as they come out of it, and by their
    parts where the network has the normalization, too.

    Returns:
      The module, or a tree like the target.

    Raises:
      TorchMismatchError: arrays are missing, left over, or of another shape or dtype; one text lists everything, and
        nothing was changed.
      UnknownLayerError: the kinds of some layers cannot be inferred; all are listed.
      BundleError: the file is damaged, hostile, or something else.
      ArgumentTypeError: a weight of the target is no array of numbers.
      FileNotFoundError: there is nothing at the path.

    Example:
      >>> torch_weights = {"head.weight": np.ones((3, 2), np.float32)}
      >>> from_torch(torch_weights, {"head": {"kernel": np.zeros((2, 3), np.float32)}})["head"]["kernel"].shape
      (2, 3)
    """
    found = source if isinstance(source, Mapping) else read_state(source)
    network = _network(target, stacked)
    translation = translation_of(network, layers or {}, names)
    state = computed(_state(found, part), translation.all_names())
    reader = Reader(network, translation, state, cast)
    return network.filled(reader.read(tied or {}, ignore))


def _network(tree: Any, stacked: Mapping[str, int] | None) -> Normalized:
    return Normalized(Stacked(Network(tree), stacked) if stacked else Network(tree))


def _state(found: Any, part: str | None) -> dict[str, Any]:
    if part is not None:
        found = found.get(part) if isinstance(found, Mapping) else None
    if not isinstance(found, Mapping):
        where = "The file" if part is None else f"The part {part!r}"
        raise TorchMismatchError([], [], [f"{where} is no state dictionary: {type(found).__name__}"])
    return {name: _array(value) for name, value in flattened(found)}


def _array(value: Any) -> Any:
    """A tensor of PyTorch as an array; what is none stays, and is reported as something left over."""
    if hasattr(value, "detach"):
        value = value.detach().cpu().contiguous()
        try:
            return value.numpy()
        except TypeError:
            # NumPy has no bfloat16 of its own.
            return np.asarray(jax.dlpack.from_dlpack(value))
    return np.asarray(value) if getattr(getattr(value, "dtype", None), "name", None) in NUMBERS else value
