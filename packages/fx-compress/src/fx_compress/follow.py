"""Following features through a network: which axes of which values and parameters have to lose the same entries."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from fx_compress.errors import StructureError
from fx_compress.program import Program, Step

__all__ = ["follow"]

Axis = tuple[int, int]
"""Number of a value, and one of its axes."""

# fmt: off
_ELEMENTWISE = frozenset([
    "abs", "acos", "add", "add_any", "and", "asin", "atan", "atan2", "cbrt", "ceil", "clamp",
    "convert_element_type", "copy", "cos", "cosh", "div", "eq", "erf", "erf_inv", "erfc", "exp", "exp2",
    "expm1", "floor", "ge", "gt", "integer_pow", "is_finite", "le", "log", "log1p", "logistic", "lt", "max",
    "min", "mul", "ne", "neg", "nextafter", "not", "optimization_barrier", "or", "pow", "reduce_precision",
    "rem", "round", "rsqrt", "select_n", "sign", "sin", "sinh", "sqrt", "square", "stop_gradient", "sub",
    "tan", "tanh", "xor",
])
# fmt: on
# fmt: off
_REDUCTIONS = frozenset([
    "argmax", "argmin", "cumlogsumexp", "cummax", "cummin", "cumprod", "cumsum", "reduce_and", "reduce_max",
    "reduce_min", "reduce_or", "reduce_prod", "reduce_sum", "reduce_xor", "sort",
])
# fmt: on


def follow(program: Program, path: str, axis: int) -> dict[str, dict[int, np.ndarray]]:
    """Finds the axes that lose features together with one axis of a parameter.

    Args:
      program: the network.
      path: of the parameter.
      axis: of it.

    Returns:
      For each parameter and each axis of it that is concerned, the number of the feature that each entry belongs to;
      -1 for entries that stay, such as what was concatenated with the features.

    Raises:
      StructureError: the features reach what cannot lose them.
    """
    start = (program.weights[path], axis)
    labels: dict[Axis, np.ndarray] = {start: np.arange(program.shapes[start[0]][axis])}
    waiting = [start]
    ends = dict.fromkeys(program.inputs, "an input") | dict.fromkeys(program.outputs, "the result")
    while waiting:
        value, axis = waiting.pop()
        if value in ends:
            raise _refused(path, f"they are features of {ends[value]} of the network", None)
        maker = program.maker(value)
        if maker is None and value not in program.weights.values():
            raise _refused(path, "a constant in the program has an entry for each of them", None)
        for step in {id(s): s for s in ([maker] if maker else []) + program.users(value)}.values():
            for other, found in _through(program, step, (value, axis), labels[value, axis], path):
                known = labels.get(other, np.full_like(found, -1))
                if ((known != found) & (known >= 0) & (found >= 0)).any():
                    raise _refused(path, "features in different orders meet", step)
                if ((found >= 0) & (known < 0)).any():
                    labels[other] = np.maximum(known, found)
                    waiting.append(other)
    names = {value: name for name, value in program.weights.items()}
    result: dict[str, dict[int, np.ndarray]] = {}
    for (value, axis), found in labels.items():
        if value in names:
            result.setdefault(names[value], {})[axis] = found
    return result


def _refused(path: str, why: str, step: Step | None) -> StructureError:
    where = f" ({step.name}{' in ' + step.where if step.where else ''})" if step else ""
    return StructureError(
        "The features of this parameter cannot be removed.",
        path=path,
        expected="features that only linear maps take together",
        got=f"{why}{where}",
        fix="leave it out of the rules, or choose the layer whose features these are",
    )


def _through(
    program: Program, step: Step, at: Axis, labels: np.ndarray, path: str
) -> Iterator[tuple[Axis, np.ndarray]]:
    """The axes of a step's other values that an axis goes with, and their labels."""
    if step.name == "reshape":
        yield from _reshaped(program, step, at, labels, path)
        return
    if step.name == "concatenate" and at[1] == step.options["dimension"]:
        yield from _joined(program, step, at, labels)
        return
    links, closed = _links(program, step, path)
    if at in closed:
        raise _refused(path, closed[at], step)
    found = [group for group in links if at in group]
    if not found:
        # An axis of size 1 in a broadcast, or features of a map that is contracted away on one side only.
        raise _refused(path, "they meet an operation that mixes them", step)
    for group in found:
        for other in group:
            if other != at:
                yield other, labels


def _joined(program: Program, step: Step, at: Axis, labels: np.ndarray) -> Iterator[tuple[Axis, np.ndarray]]:
    """The axis of joined arrays has the labels of one of them in its place; each of them has its piece of them."""
    axis, out, start = step.options["dimension"], step.outputs[0], 0
    sizes = [program.shapes[value][axis] for value in step.inputs]
    if at[0] == out:
        for value, size in zip(step.inputs, sizes):
            yield (value, axis), labels[start : start + size]
            start += size
        return
    pieces = [labels if value == at[0] else np.full(size, -1) for value, size in zip(step.inputs, sizes)]
    yield (out, axis), np.concatenate(pieces)


def _links(program: Program, step: Step, path: str) -> tuple[list[set[Axis]], dict[Axis, str]]:
    """Groups of axes of a step's values that go together, and axes that must not lose anything."""
    shapes, options, out = program.shapes, step.options, step.outputs[0]
    closed: dict[Axis, str] = {}
    if step.name in _ELEMENTWISE:
        ndim, values = len(shapes[out]), (*step.inputs, *step.outputs)
        full = [v for v in values if len(shapes[v]) == ndim]
        return [{(v, i) for v in full if shapes[v][i] == shapes[out][i]} for i in range(ndim)], closed
    if step.name == "transpose":
        return [{(step.inputs[0], old), (out, new)} for new, old in enumerate(options["permutation"])], closed
    if step.name == "squeeze":
        kept = [i for i in range(len(shapes[step.inputs[0]])) if i not in options["dimensions"]]
        return [{(step.inputs[0], old), (out, new)} for new, old in enumerate(kept)], closed
    if step.name == "broadcast_in_dim":
        return _of_broadcast(program, step)
    if step.name in _REDUCTIONS:
        return _of_reduction(program, step)
    if step.name == "dot_general":
        return _of_product(program, step, path)
    if step.name == "conv_general_dilated":
        return _of_convolution(program, step)
    if step.name in ("reduce_window_sum", "reduce_window_max", "reduce_window_min", "reduce_window"):
        sizes, value = options["window_dimensions"], step.inputs[0]
        mixed = {(v, i): "they are pooled with each other" for v in (value, out) for i, n in enumerate(sizes) if n > 1}
        return [{(value, i), (out, i)} for i, n in enumerate(sizes) if n == 1], mixed
    if step.name == "gather":
        return _of_gather(program, step)
    if step.name in ("slice", "pad", "dynamic_slice", "dynamic_update_slice", "concatenate", "rev", "scatter", "split"):
        return _of_parts(program, step)
    values = (*step.inputs, *step.outputs)
    return [], {(v, i): "nothing is known of this operation" for v in values for i in range(len(shapes[v]))}


def _of_broadcast(program: Program, step: Step) -> tuple[list[set[Axis]], dict[Axis, str]]:
    value, out, axes = step.inputs[0], step.outputs[0], step.options["broadcast_dimensions"]
    small, large = program.shapes[value], program.shapes[out]
    links = [{(value, old), (out, new)} for old, new in enumerate(axes) if small[old] == large[new]]
    # Copies of one number: there are as many as the program is asked for when it is traced with fewer features.
    links += [{(out, new)} for new in range(len(large)) if new not in axes or small[axes.index(new)] != large[new]]
    return links, {}


def _of_reduction(program: Program, step: Step) -> tuple[list[set[Axis]], dict[Axis, str]]:
    value, options = step.inputs[0], step.options
    axes = options.get("axes", (options["axis"],) if "axis" in options else (options.get("dimension"),))
    keeps = len(program.shapes[step.outputs[0]]) == len(program.shapes[value])
    kept = [i for i in range(len(program.shapes[value])) if i not in axes]
    new = {old: old if keeps else place for place, old in enumerate(kept)}
    outputs = [(v, new[i]) for v in step.outputs for i in kept]
    links = [{(value, i), *(each for each in outputs if each[1] == new[i])} for i in kept]
    closed = {(value, i): "they are summed up or compared with each other, as in a norm over features" for i in axes}
    return links, closed


def _of_product(program: Program, step: Step, path: str) -> tuple[list[set[Axis]], dict[Axis, str]]:
    (contracted, batch), out = step.options["dimension_numbers"], step.outputs[0]
    links = [{(step.inputs[0], a), (step.inputs[1], b), (out, i)} for i, (a, b) in enumerate(zip(*batch))]
    pairs = [{(step.inputs[0], a), (step.inputs[1], b)} for a, b in zip(*contracted)]
    place = len(batch[0])
    for side, value in enumerate(step.inputs):
        for axis in range(len(program.shapes[value])):
            if axis not in contracted[side] and axis not in batch[side]:
                links.append({(value, axis), (out, place)})
                place += 1
    # What is zero in the weights adds nothing; two activations may both be something.
    mixed = not any(program.is_constant(value) for value in step.inputs)
    why = "two activations are multiplied and summed up over them"
    return links + pairs, {axis: why for pair in pairs for axis in pair} if mixed else {}


def _of_convolution(program: Program, step: Step) -> tuple[list[set[Axis]], dict[Axis, str]]:
    numbers, (image, kernel), out = step.options["dimension_numbers"], step.inputs[:2], step.outputs[0]
    features = [(image, numbers.lhs_spec[1]), (kernel, numbers.rhs_spec[1]), (kernel, numbers.rhs_spec[0])]
    features.append((out, numbers.out_spec[1]))
    groups, shapes = step.options["feature_group_count"], program.shapes
    if groups == shapes[image][numbers.lhs_spec[1]] == shapes[out][numbers.out_spec[1]] > 1:
        return [{features[0], features[2], features[3]}], {}  # a window for each feature
    if groups != 1 or step.options["batch_group_count"] != 1:
        return [], dict.fromkeys(features, "a convolution in groups keeps its groups")
    return [{features[0], features[1]}, {features[2], features[3]}], {}


def _of_gather(program: Program, step: Step) -> tuple[list[set[Axis]], dict[Axis, str]]:
    numbers, table, out = step.options["dimension_numbers"], step.inputs[0], step.outputs[0]
    gone = (*numbers.collapsed_slice_dims, *getattr(numbers, "operand_batching_dims", ()))
    kept = [i for i in range(len(program.shapes[table])) if i not in gone]
    whole = [step.options["slice_sizes"][i] == program.shapes[table][i] for i in kept]
    links = [{(table, old), (out, new)} for old, new, yes in zip(kept, numbers.offset_dims, whole) if yes]
    free = {axis for group in links for axis in group}
    values = (*step.inputs, out)
    axes = [(v, i) for v in values for i in range(len(program.shapes[v])) if (v, i) not in free]
    return links, dict.fromkeys(axes, "they are looked up by number")


def _of_parts(program: Program, step: Step) -> tuple[list[set[Axis]], dict[Axis, str]]:
    """Axes that all arrays have in full go together."""
    out = step.outputs[0]
    arrays = [v for v in (*step.inputs, *step.outputs) if len(program.shapes[v]) == len(program.shapes[out])]
    links, closed = list[set[Axis]](), dict[Axis, str]()
    for axis in range(len(program.shapes[out])):
        group = {(v, axis) for v in arrays}
        turned = step.name == "rev" and axis in step.options["dimensions"]
        if len({program.shapes[v][axis] for v in arrays}) == 1 and not turned:
            links.append(group)
        else:
            closed |= dict.fromkeys(group, "they are cut, as by norms over features, or turned around")
    return links, closed


def _reshaped(
    program: Program, step: Step, at: Axis, labels: np.ndarray, path: str
) -> Iterator[tuple[Axis, np.ndarray]]:
    """Labels of the axes on the other side of a reshape: each run of axes with one product is split or joined."""
    value, out = step.inputs[0], step.outputs[0]
    here, there = (value, out) if at[0] == value else (out, value)
    if at[0] not in (value, out) or step.options.get("dimensions") is not None:
        raise _refused(path, "a reshape moves them", step)
    for old, new in _runs(program.shapes[here], program.shapes[there]):
        if at[1] not in old:
            continue
        shape, target = [program.shapes[here][i] for i in old], [program.shapes[there][i] for i in new]
        spread = labels.reshape([-1 if i == at[1] else 1 for i in old])
        moved = np.broadcast_to(spread, shape).reshape(target)
        # One of the new axes has to say which feature an entry belongs to.
        for place, axis in enumerate(new):
            first = moved[tuple(slice(None) if i == place else slice(0, 1) for i in range(len(new)))]
            if np.array_equal(np.broadcast_to(first, moved.shape), moved):
                yield (there, axis), first.reshape(-1)
                return
        raise _refused(path, "a reshape mixes them with others", step)


def _runs(old: Any, new: Any) -> Iterator[tuple[list[int], list[int]]]:
    """Runs of axes of two shapes of one size that have the same product, as short as possible."""
    i = j = 0
    while i < len(old) or j < len(new):
        left, right = [i] if i < len(old) else [], [j] if j < len(new) else []
        i, j = i + len(left), j + len(right)
        while np.prod([old[k] for k in left]) != np.prod([new[k] for k in right]):
            if np.prod([old[k] for k in left]) < np.prod([new[k] for k in right]):
                left.append(i)
                i += 1
            else:
                right.append(j)
                j += 1
        yield left, right
