"""Low-rank adapters merged into the kernels that they change."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from fx_compress.fold import NotFoldedError
from fx_compress.parameters import Parameter
from fx_compress.program import Program, Step

__all__ = ["adapters_of", "merge"]


def adapters_of(found: Sequence[Parameter]) -> list[str]:
    """Returns the paths of the adapters of a model: of what has ``lora_a`` and ``lora_b``.

    Those of fx-nnx are not among them: their type says what they change. Which kernel these change is not said by
    names: see `merge`.
    """
    paths = {parameter.path for parameter in found if parameter.kind != "LoRAParam"}
    folders = [path.removesuffix("lora_a") for path in paths if path.rpartition("/")[2] == "lora_a"]
    return sorted(folder.removesuffix("/") for folder in folders if f"{folder}lora_b" in paths)


def merge(program: Program, adapter: str, weights: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Merges an adapter into the kernel whose product it is added to, as the traced steps show it.

    The adapter stays in the model with a ``lora_b`` of 0.

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
    change = up.outputs[0]
    together = program.users(change)
    if program.uses(change) != 1 or together[0].name != "add":
        raise NotFoldedError("its change is not added to the result of a layer")
    (base,) = (value for value in together[0].inputs if value != change)
    layer = program.maker(base)
    while layer is not None and layer.name == "add":  # the bias, and the changes of other adapters
        base = next((value for value in layer.inputs if _comes_from(program, value, down.inputs[0])), base)
        layer = program.maker(base) if layer.outputs[0] != base else None
    kernel = None if layer is None else program.parameter_of(layer.inputs[-1])
    if layer is None or layer.name != "dot_general" or kernel is None:
        raise NotFoldedError("its layer has no kernel of floats; dequantize it first, or merge before quantizing")
    if layer.inputs[0] != down.inputs[0]:
        raise NotFoldedError(f"it has another input than {kernel}")
    if layer.options["dimension_numbers"] != down.options["dimension_numbers"] or np.ndim(weights[kernel]) != 2:
        raise NotFoldedError(f"{kernel} is not contracted with the last axis of the inputs")
    if _uses(program, kernel) != 1:
        raise NotFoldedError(f"{kernel} is used more than once")
    a, b = (np.asarray(weights[name], np.float64) for name in names)
    merged = np.asarray(weights[kernel], np.float64) + a @ b
    made = {kernel: merged, names[1]: np.zeros_like(b)}
    return kernel, {path: jnp.asarray(value, weights[path].dtype) for path, value in made.items()}


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


def _comes_from(program: Program, value: int, inputs: int) -> bool:
    """Whether a value is a product with these inputs, perhaps with biases added."""
    step = program.maker(value)
    if step is None:
        return False
    if step.name == "add":
        return any(_comes_from(program, each, inputs) for each in step.inputs)
    return step.name == "dot_general" and step.inputs[0] == inputs
