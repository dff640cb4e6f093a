"""Batch normalization folded into the linear layer or convolution before it."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from fx_compress.parameters import Parameter
from fx_compress.program import Program, Step

__all__ = ["Norm", "NotFoldedError", "fold", "norms_of"]

_REFORM = ("reshape", "transpose", "squeeze", "expand_dims", "broadcast_in_dim", "convert_element_type", "copy")
_AFFINE = ("add", "sub", "mul", "div", "neg", *_REFORM)


class NotFoldedError(Exception):
    """Why a norm stays; caught by `fx_compress.for_inference` and put in its report."""


@dataclasses.dataclass(frozen=True)
class Norm:
    """Paths of the variables of one batch normalization.

    Attributes:
      path: of the norm.
      mean: of the running mean.
      var: of the running variance.
      scale: None where there is none.
      bias: None where there is none.
    """

    path: str
    mean: str
    var: str
    scale: str | None
    bias: str | None

    @property
    def all(self) -> frozenset[str]:
        """The paths that there are."""
        return frozenset(path for path in (self.mean, self.var, self.scale, self.bias) if path is not None)


def norms_of(found: Sequence[Parameter]) -> list[Norm]:
    """Returns the batch normalizations of a model: running means and variances, with the parameters beside them.

    Which layer feeds them is not said by names: see `fold`.
    """
    paths, norms = {parameter.path for parameter in found}, []
    for parameter in found:
        folder, _, name = parameter.path.rpartition("/")
        var = f"{folder}/var" if folder else "var"
        statistics = parameter.kind == "BatchStat" or "batch_stats" in folder.split("/")
        if name != "mean" or not statistics or var not in paths:
            continue
        places = folder.split("/")
        params = "/".join("params" if place == "batch_stats" else place for place in places)
        at = {n: f"{params}/{n}" if params else n for n in ("scale", "bias")}
        scale, bias = (at[n] if at[n] in paths else None for n in ("scale", "bias"))
        norms.append(Norm("/".join(p for p in places if p != "batch_stats"), parameter.path, var, scale, bias))
    return norms


def fold(program: Program, norm: Norm, weights: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Folds a norm into the layer whose result it normalizes, as the traced steps between them show it.

    The steps from the layer to the end of the norm are an affine function of each output feature, ``a · z + b``: the
    kernel takes ``a``, and the bias of the layer, or of the norm where the layer has none, takes ``b``. The norm keeps
    a mean of 0, a variance of 1 and a scale of 1.

    Args:
      program: the network in evaluation mode.
      norm: the norm.
      weights: values of all parameters.

    Returns:
      Path of the kernel, and new values of parameters by path.

    Raises:
      NotFoldedError: the layer cannot take it; the text says why.
    """
    layer, between, last = _steps_between(program, norm)
    side = _kernel_side(program, layer)
    kernel, places = _places(program, layer.inputs[side])
    if len(_meetings(program, {kernel})) > 1:
        raise NotFoldedError(f"{kernel} is used more than once")
    ids, widen = _features(program, layer, side)
    bias = _bias(program, between, kernel, norm)
    given = [program.sources(value) for value in program.outputs if program.is_constant(value)]
    if any(sources & {*norm.all, kernel, bias} for sources in given):
        raise NotFoldedError("the network gives its parameters as a result, too")

    def affine(weights: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray]:
        return _affine(program, layer, between, last, ids, weights)

    factor, shift = affine(weights)
    neutral = {norm.mean: 0.0, norm.var: 1.0, norm.scale: 1.0, norm.bias: 0.0, bias: 0.0}
    start = {**weights, **{path: np.full_like(weights[path], x) for path, x in neutral.items() if path is not None}}
    left, nothing = affine(start)
    holder = bias or norm.bias
    if holder is None and not np.allclose(shift, nothing, rtol=0, atol=1e-7):
        raise NotFoldedError(f"neither the layer of {kernel} nor the norm has a bias that could take the shift")
    made = {path: start[path] for path in (*norm.all, *([bias] if bias else []))}
    scaled = np.array(weights[kernel], np.float64)
    scaled.reshape(-1)[places.reshape(-1)] *= widen(factor / left).reshape(-1)
    made[kernel] = scaled
    if holder is not None:
        _, slope = affine({**start, holder: np.ones_like(weights[holder])})
        made[holder] = ((shift - nothing) / (slope - nothing)).reshape(np.shape(weights[holder]))
    made = {path: jnp.asarray(value, weights[path].dtype) for path, value in made.items()}
    return kernel, made


def _meetings(program: Program, paths: set[str] | frozenset[str]) -> list[Step]:
    """The steps at which something that follows from these parameters meets what follows from the inputs."""
    return [
        step
        for step in program.steps
        if any(program.is_constant(value) and program.sources(value) & paths for value in step.inputs)
        and not all(program.is_constant(value) for value in step.inputs)
    ]


def _steps_between(program: Program, norm: Norm) -> tuple[Step, list[Step], Step]:
    """The layer, the steps after it up to the last that takes something of the norm, and that last step."""
    wanted = _meetings(program, norm.all)
    if not any(program.sources(v) & {norm.mean} for s in wanted for v in s.inputs if program.is_constant(v)):
        raise NotFoldedError("its running statistics are not used: the inputs do not reach it, or it is in training")
    step, back = wanted[0], list[Step]()
    while step.name not in ("dot_general", "conv_general_dilated"):
        if step.name not in _AFFINE:
            inside = step.name in ("scan", "while", "cond")
            raise NotFoldedError(
                f"it is inside of a {step.name}" if inside else f"there is {step.name} between it and a linear layer"
            )
        back.append(step)
        data = [value for value in step.inputs if not program.is_constant(value)]
        if len(data) != 1:
            raise NotFoldedError(f"its input is the {step.name} of two values")
        before = program.maker(data[0])
        if before is None:
            raise NotFoldedError("it normalizes an input of the network")
        if program.uses(data[0]) != 1:
            raise NotFoldedError(f"what {before.name} gives before it is used {program.uses(data[0])} times")
        step = before
    layer, between = step, back[::-1]
    while not set(wanted) <= set(between):
        value = between[-1].outputs[0]
        users = program.users(value)
        if program.uses(value) != 1 or not users or users[0].name not in _AFFINE:
            raise NotFoldedError("its parts are used elsewhere, too")
        if sum(not program.is_constant(each) for each in users[0].inputs) != 1:
            raise NotFoldedError(f"something else comes in by {users[0].name} before its bias or scale does")
        between.append(users[0])
    return layer, between, between[-1]


def _kernel_side(program: Program, layer: Step) -> int:
    sides = [side for side in (0, 1) if program.is_constant(layer.inputs[side])]
    if sides not in ([0], [1]) or (layer.name == "conv_general_dilated" and sides != [1]):
        raise NotFoldedError(f"its input is a {layer.name} without a kernel")
    if layer.options.get("batch_group_count", 1) != 1:
        raise NotFoldedError("its input is a convolution in groups of the batch")
    return sides[0]


def _places(program: Program, value: int) -> tuple[str, np.ndarray]:
    """The parameter that a kernel is made of by moving its elements, and which element each of it is."""
    names = {number: path for path, number in program.weights.items()}
    if value in names:
        shape = program.shapes[value]
        return names[value], np.arange(int(np.prod(shape))).reshape(shape)
    step = program.maker(value)
    if step is None or step.name not in (*_REFORM, "rev") or step.name == "broadcast_in_dim":
        raise NotFoldedError("the kernel before it is computed or quantized; fold before quantizing")
    path, places = _places(program, step.inputs[0])
    return path, _reformed(step, places, program.shapes[value])


def _features(program: Program, layer: Step, side: int) -> tuple[np.ndarray, Callable[[np.ndarray], np.ndarray]]:
    """The output feature of each element of a layer's result, and how a number per feature is laid over the kernel."""
    kernel, result = program.shapes[layer.inputs[side]], program.shapes[layer.outputs[0]]
    numbers = layer.options["dimension_numbers"]
    if layer.name == "conv_general_dilated":
        free, axes = [numbers.rhs_spec[0]], [numbers.out_spec[1]]
    else:
        contracted, batch = numbers
        if batch[0]:
            raise NotFoldedError("the layer before it has a kernel for each of several batches")
        free = [axis for axis in range(len(kernel)) if axis not in contracted[side]]
        start = 0 if side == 0 else len(result) - len(free)
        axes = list(range(start, start + len(free)))
    sizes = [kernel[axis] for axis in free]
    numbered = np.arange(int(np.prod(sizes))).reshape(sizes)

    def over(array: np.ndarray, axes: Sequence[int], shape: Sequence[int]) -> np.ndarray:
        order = np.argsort(axes)
        aligned = np.transpose(array, order).reshape([n if i in axes else 1 for i, n in enumerate(shape)])
        return np.broadcast_to(aligned, shape)

    return over(numbered, axes, result), lambda per: over(per.reshape(sizes), free, kernel)


def _bias(program: Program, between: Sequence[Step], kernel: str, norm: Norm) -> str | None:
    """The bias of the layer: a parameter that is added as it is before the norm, and used nowhere else."""
    for step in between:
        constant = [v for v in step.inputs if program.is_constant(v)]
        sources = frozenset().union(*(program.sources(v) for v in constant)) if constant else frozenset()
        if sources & norm.all:
            return None
        if step.name == "add" and len(sources) == 1:
            (path,) = sources
            if path != kernel and len(_meetings(program, {path})) == 1 and _is_moved(program, constant[0]):
                return path
    return None


def _is_moved(program: Program, value: int) -> bool:
    while value not in program.weights.values():
        step = program.maker(value)
        if step is None or step.name not in _REFORM:
            return False
        value = step.inputs[0]
    return True


def _affine(
    program: Program, layer: Step, between: Sequence[Step], last: Step, ids: np.ndarray, weights: Mapping[str, Any]
) -> tuple[np.ndarray, np.ndarray]:
    """``a`` and ``b`` of each output feature, such that the steps make ``a · z + b`` of the layer's result ``z``."""
    factor, shift, value = np.ones(ids.shape), np.zeros(ids.shape), layer.outputs[0]
    for step in between:
        if step.name in _REFORM:
            shape = program.shapes[step.outputs[0]]
            factor, shift, ids = (_reformed(step, each, shape) for each in (factor, shift, ids))
        elif step.name == "neg":
            factor, shift = -factor, -shift
        else:
            other = step.inputs[1] if step.inputs[0] == value else step.inputs[0]
            constant = program.constant(other, weights).astype(np.float64)
            factor, shift = _applied(step, constant, factor, shift, first=step.inputs[0] == value)
            ids = np.broadcast_to(ids, program.shapes[step.outputs[0]])
        value = step.outputs[0]
    assert value == last.outputs[0]
    _, first = np.unique(ids, return_index=True)
    per = [np.broadcast_to(each, ids.shape).reshape(-1)[first] for each in (factor, shift)]
    if any(
        not np.array_equal(np.broadcast_to(e, ids.shape), p[ids], equal_nan=True) for e, p in zip((factor, shift), per)
    ):
        raise NotFoldedError("it treats elements of one output feature of the layer differently")
    return per[0], per[1]


def _applied(
    step: Step, constant: np.ndarray, factor: np.ndarray, shift: np.ndarray, first: bool
) -> tuple[np.ndarray, np.ndarray]:
    if step.name == "add":
        return factor + 0 * constant, shift + constant
    if step.name == "mul":
        return factor * constant, shift * constant
    if step.name == "sub":
        return (factor + 0 * constant, shift - constant) if first else (0 * constant - factor, constant - shift)
    if not first:
        raise NotFoldedError("something is divided by its input")
    return factor / constant, shift / constant


def _reformed(step: Step, array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    if step.name == "transpose":
        return np.transpose(array, step.options["permutation"])
    if step.name == "rev":
        return np.flip(array, step.options["dimensions"])
    if step.name == "broadcast_in_dim":
        axes = step.options["broadcast_dimensions"]
        aligned = array.reshape([array.shape[axes.index(i)] if i in axes else 1 for i in range(len(shape))])
        return np.broadcast_to(aligned, shape)
    if step.name == "reshape" and step.options.get("dimensions") is not None:
        raise NotFoldedError("there is a reshape with permuted dimensions between it and a linear layer")
    return array.reshape(shape)
