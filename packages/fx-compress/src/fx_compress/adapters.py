"""Low-rank adapters merged into the kernels that they change."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from fx_compress.fold import NotFoldedError
from fx_compress.parameters import Parameter
from fx_compress.program import Program, Step

__all__ = ["adapters_of", "merge"]

_LAYERS = ("dot_general", "conv_general_dilated")


def adapters_of(found: Sequence[Parameter], left: Collection[str] = ()) -> list[str]:
    """Returns the paths of the adapters of a model: of what has ``lora_a`` and ``lora_b``.

    Which kernel these change is not said by names: see `merge`.

    Args:
      found: the parameters of the model.
      left: adapters of fx-nnx to be looked at, too; most are merged by their types.
    """
    paths = {p.path for p in found if p.kind != "LoRAParam" or p.path.rpartition("/")[0] in left}
    folders = [path.removesuffix("lora_a") for path in paths if path.rpartition("/")[2] == "lora_a"]
    return sorted(folder.removesuffix("/") for folder in folders if f"{folder}lora_b" in paths)


def merge(program: Program, adapter: str, weights: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Merges an adapter into the kernel whose product it is added to, as the traced steps show it.

    That of a convolution is changed where it meets the position of the result. The adapter stays in the model with a
    ``lora_b`` of 0.

    Args:
      program: the network.
      adapter: path of the adapter.
      weights: values of all parameters.

    Returns:
      Path of the kernel, and new values of parameters by path.

    Raises:
      NotFoldedError: it cannot be merged; the text says why.
    """
    names = [f"{adapter}/{name}" if adapter else name for name in ("lora_a", "lora_b")]
    down, up = (_product(program, name) for name in names)
    if up.inputs[0] != down.outputs[0] or program.uses(down.outputs[0]) != 1:
        raise NotFoldedError("lora_a and lora_b are not multiplied one after the other")
    if not (_of_last_axis(program, down) and _of_last_axis(program, up)):
        raise NotFoldedError("lora_a and lora_b are not contracted with the last axis of what they are multiplied with")
    change, inputs = up.outputs[0], down.inputs[0]
    together = program.users(change)
    if program.uses(change) != 1 or not together or together[0].name != "add":
        raise NotFoldedError("its change is not added to the result of a layer")
    (base,) = (_before_reshapes(program, value) for value in together[0].inputs if value != change)
    layer = program.maker(base)
    while layer is not None and layer.name == "add":  # the bias, and the changes of other adapters
        found = next((value for value in layer.inputs if _comes_from(program, value, inputs)), None)
        layer = None if found is None else program.maker(_before_reshapes(program, found))
    kernel = None if layer is None else program.parameter_of(layer.inputs[-1])
    if layer is None or layer.name not in _LAYERS or kernel is None:
        raise NotFoldedError(
            "its layer has no kernel of floats for the same inputs; dequantize it first, or merge before quantizing"
        )
    place = _place(program, layer, kernel)
    if not _comes_from(program, layer.outputs[0], inputs, keep=1 + len(place)):
        raise NotFoldedError(f"it has another input than {kernel}")
    if _uses(program, kernel) != 1:
        raise NotFoldedError(f"{kernel} is used more than once")
    a, b = (np.asarray(weights[name], np.float64) for name in names)
    merged = np.array(weights[kernel], np.float64)
    merged[place] += a @ b
    made = {kernel: merged, names[1]: np.zeros_like(b)}
    return kernel, {path: jnp.asarray(value, weights[path].dtype) for path, value in made.items()}


def _of_last_axis(program: Program, step: Step) -> bool:
    last = len(program.shapes[step.inputs[0]]) - 1
    dims = step.options["dimension_numbers"]
    return tuple(map(tuple, (*dims[0], *dims[1]))) == ((last,), (0,), (), ())


def _place(program: Program, layer: Step, kernel: str) -> tuple[int, ...]:
    """Where in a kernel the matrix is that a position of the inputs and the same one of the result go by."""
    ndim, options = len(program.shapes[layer.inputs[-1]]), layer.options
    if layer.name == "dot_general":
        if ndim != 2 or not _of_last_axis(program, layer):
            raise NotFoldedError(f"{kernel} is not contracted with the last axis of the inputs")
        return ()
    numbers, space = options["dimension_numbers"], range(ndim - 2)
    steps = (*options["window_strides"], *(options["lhs_dilation"] or ()))
    last = (0, ndim - 1, *(i + 1 for i in space))
    groups = (options["feature_group_count"], options["batch_group_count"])
    if tuple(numbers.lhs_spec) != last or tuple(numbers.out_spec) != last or any(n != 1 for n in (*steps, *groups)):
        raise NotFoldedError(f"the convolution with {kernel} has strides or groups")
    if tuple(numbers.rhs_spec) != (ndim - 1, ndim - 2, *space):
        raise NotFoldedError(f"the axes of {kernel} are in another order")
    dilations = options["rhs_dilation"] or (1,) * len(space)
    places = [divmod(low, n) for (low, _), n in zip(options["padding"], dilations)]
    sizes = program.shapes[layer.inputs[-1]]
    if any(rest or not 0 <= at < size for (at, rest), size in zip(places, sizes)):
        raise NotFoldedError(f"nothing in {kernel} is for the position of the result itself")
    return tuple(at for at, _ in places)


def _product(program: Program, path: str) -> Step:
    """The one step that multiplies something with a matrix, on its right."""
    found = [step for step in program.steps if any(program.parameter_of(value) == path for value in step.inputs)]
    found = [step for step in found if step.name not in ("convert_element_type", "copy")]
    if len(found) != 1 or found[0].name != "dot_general" or program.parameter_of(found[0].inputs[1]) != path:
        raise NotFoldedError(f"{path.rpartition('/')[2]} is used otherwise than in one product")
    return found[0]


def _uses(program: Program, path: str) -> int:
    steps = [step for step in program.steps if step.name not in ("convert_element_type", "copy")]
    values = [value for step in steps for value in step.inputs] + program.outputs
    return sum(program.parameter_of(value) == path for value in values)


def _before_reshapes(program: Program, value: int, keep: int = 1) -> int:
    """What a value was before its leading axes were joined or split; as many of the last as ``keep`` are as before."""
    step = program.maker(value)
    while step is not None and step.name == "reshape" and step.options.get("dimensions") is None:
        if program.shapes[step.inputs[0]][-keep:] != program.shapes[value][-keep:]:
            break
        value = step.inputs[0]
        step = program.maker(value)
    return value


def _comes_from(program: Program, value: int, inputs: int, keep: int = 1) -> bool:
    """Whether a value is a product with these inputs, perhaps with biases added."""
    step = program.maker(_before_reshapes(program, value))
    if step is None:
        return False
    if step.name == "add":
        return any(_comes_from(program, each, inputs, keep) for each in step.inputs)
    same = _before_reshapes(program, step.inputs[0], keep) == _before_reshapes(program, inputs, keep)
    return step.name in _LAYERS and same
