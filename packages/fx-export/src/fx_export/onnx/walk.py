"""Walks the equations of a traced program and calls the translation of each."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from fx_core.compat import jax as compat
from fx_core.typing import Dtype

from fx_export.onnx import layout
from fx_export.onnx.builder import Builder
from fx_export.onnx.registry import RefusedError, is_elementwise, translation_of
from fx_export.onnx.tensor import Tensor, constant_tensor, is_static, stored_tensor, whole

KEY = np.dtype("int64")
"""Keys of random numbers are one number of 64 bits each, so that they are moved like numbers."""

_NUMBERS = "int4 uint4 int8 uint8 int16 uint16 int32 uint32 int64 uint64 float16 float32 float64 bfloat16"
_SHORT = "float8_e4m3fn float8_e4m3fnuz float8_e5m2 float8_e5m2fnuz"
DTYPES = frozenset(["bool", *_NUMBERS.split(), *_SHORT.split()])
"""What ONNX has of the dtypes of JAX."""

_FOLDED = 1 << 20
_NOT_FOLDED = frozenset({"broadcast_in_dim", "iota", "jit", "pjit", "transpose", "squeeze", "custom_jvp_call"})
_OUR_OWN = tuple(f"/{name}/" for name in ("fx_core", "fx_linen", "fx_nnx", "fx_transforms", "fx_export", "fx_bridge"))


@dataclasses.dataclass(frozen=True, order=True)
class Uncovered:
    """An equation that could not be translated.

    Attributes:
      primitive: its name.
      module: path of the module that it comes from.
      source: file, line and function.
      reason: what about it, empty where the primitive is not known at all.
    """

    primitive: str
    module: str
    source: str
    reason: str = ""

    def __str__(self) -> str:
        reason = f" ({self.reason})" if self.reason else ""
        return f"{self.primitive}{reason} in {self.module or 'the function'}, {self.source}"


@dataclasses.dataclass(frozen=True)
class Open:
    """A jaxpr with the constants it closes over."""

    jaxpr: Any
    consts: Sequence[Any] = ()


class Walker:
    """Translates jaxprs, and collects what it cannot translate.

    Attributes:
      uncovered: what it could not translate, in order.
    """

    def __init__(self):
        self.uncovered: list[Uncovered] = []
        self._brought: dict[str, Any] = {}
        self._path: list[str] = []

    def __call__(self, build: Builder, closed: Any, inputs: Sequence[Tensor]) -> list[Tensor]:
        """Translates a jaxpr with its constants."""
        jaxpr = closed.jaxpr
        known: dict[Any, Tensor] = dict(zip(jaxpr.constvars, map(constant_of, closed.consts)))
        known.update(zip(jaxpr.invars, inputs))

        def read(atom: Any) -> Tensor:
            return constant_of(atom.val, atom.aval.dtype) if hasattr(atom, "val") else known[atom]

        for eqn in jaxpr.eqns:
            outputs = self._translate(build, eqn, [read(atom) for atom in eqn.invars])
            known.update(zip(eqn.outvars, outputs))
        return [read(atom) for atom in jaxpr.outvars]

    def _translate(self, build: Builder, eqn: Any, inputs: list[Tensor]) -> Sequence[Tensor]:
        scope = str(eqn.source_info.name_stack)
        outer, build.where = build.where, module_path("/".join([*self._path, scope]))
        self._path.append(scope)
        try:
            if all(any(is_static((size,)) and size == 0 for size in v.aval.shape) for v in eqn.outvars):
                # Most runtimes lack kernels for arrays without elements.
                return [build.broadcast(build.constant(0, dtype_of(v.aval)), v.aval.shape, ()) for v in eqn.outvars]
            folded = _folded(build, eqn, inputs)
            return folded if folded is not None else self._apply(build, eqn, inputs)
        except RefusedError as refusal:
            return self._missing(build, eqn, str(refusal))
        finally:
            self._path.pop()
            build.where = outer

    def _apply(self, build: Builder, eqn: Any, inputs: list[Tensor]) -> Sequence[Tensor]:
        translate = translation_of(eqn.primitive.name, self._brought)
        if translate is None:
            return self._missing(build, eqn)
        # What is called is looked at by itself.
        if not any(hasattr(value, "eqns") or hasattr(value, "jaxpr") for value in eqn.params.values()):
            for variable in eqn.outvars:
                dtype_of(variable.aval)
        result = translate(build, eqn, *inputs)
        return [result] if isinstance(result, Tensor) else list(result)

    def _missing(self, build: Builder, eqn: Any, reason: str = "") -> Sequence[Tensor]:
        self.uncovered.append(Uncovered(eqn.primitive.name, build.where, source_of(eqn), reason))
        # Something to go on with, so that the rest of the program is looked at too.
        return [stored_tensor("missing", v.aval.shape, _stand_in(v.aval)) for v in eqn.outvars]


def constant_of(value: Any, dtype: Dtype | None = None) -> Tensor:
    """Returns a constant of a traced program."""
    if hasattr(value, "dtype") and jax.numpy.issubdtype(value.dtype, jax.dtypes.prng_key):
        words = np.asarray(jax.random.key_data(value)).astype(np.uint64)
        return constant_tensor(((words[..., 0] << np.uint64(32)) | words[..., 1]).astype(KEY))
    array = np.asarray(value, None if dtype is None else np.dtype(dtype))
    return constant_tensor(array)


def dtype_of(aval: Any) -> np.dtype:
    """Returns the dtype in which a value is held.

    Raises:
      RefusedError: ONNX does not have it.
    """
    if jax.numpy.issubdtype(aval.dtype, jax.dtypes.prng_key):
        if tuple(compat.key_kind(aval.dtype).key_shape) != (2,):
            raise RefusedError(f"keys of kind {aval.dtype}; those of threefry2x32 are translated")
        return KEY
    if np.dtype(aval.dtype).name not in DTYPES:
        raise RefusedError(f"the dtype {aval.dtype}, which ONNX does not have")
    return np.dtype(aval.dtype)


def _stand_in(aval: Any) -> np.dtype:
    return KEY if jax.numpy.issubdtype(aval.dtype, jax.dtypes.extended) else np.dtype(aval.dtype)


def module_path(scope: str) -> str:
    """Returns the path of a module out of a stack of names: what transforms add is left out.

    >>> module_path("jit(f)/GPT/Block_0/jvp(Dense_0)")
    'GPT/Block_0/Dense_0'
    """
    parts = list[str]()
    for part in scope.split("/"):
        kind, _, inner = part.partition("(")
        if kind in ("jit", "pjit", "closed_call"):
            continue
        while inner:
            part = inner.rstrip(")")
            kind, _, inner = part.partition("(")
        if part and part not in ("while", "body", "cond", "scan", "checkpoint", "rematted_computation"):
            parts.append(part)
    return "/".join(parts)


def source_of(eqn: Any) -> str:
    """Returns where in the user's program an equation comes from; in fx's own code where there is no other."""
    frames = compat.sources(eqn)
    theirs = [frame for frame in frames if not any(own in frame[0] for own in _OUR_OWN)]
    for file, line, function in theirs or frames:
        return f"{Path(file).name}:{line} ({function})"
    return "no source line"


def _folded(build: Builder, eqn: Any, inputs: list[Tensor]) -> list[Tensor] | None:
    """Compute an equation of constants now; None if it is not one, or its result would be large."""
    name = eqn.primitive.name
    if not inputs or name in _NOT_FOLDED or any(t.constant is None for t in inputs):
        return None
    # Keys are held in a form of our own, which JAX would not compute with.
    if any(jax.numpy.issubdtype(v.aval.dtype, jax.dtypes.extended) for v in [*eqn.invars, *eqn.outvars]):
        return None
    if is_elementwise(name):
        return _folded_as_it_lies(build, eqn, inputs)
    shapes = [*(t.shape for t in inputs), *(v.aval.shape for v in eqn.outvars)]
    if not all(map(is_static, shapes)) or max(int(np.prod(shape)) for shape in shapes) > _FOLDED:
        return None
    if eqn.effects:
        return None
    with jax.ensure_compile_time_eval():
        values = eqn.primitive.bind(*(jax.numpy.asarray(whole(t)) for t in inputs), **eqn.params)
    values = values if eqn.primitive.multiple_results else [values]
    return [constant_tensor(np.asarray(value)) for value in values]


def _folded_as_it_lies(build: Builder, eqn: Any, inputs: list[Tensor]) -> list[Tensor] | None:
    arranged = layout.aligned(build, inputs)
    shape, axes = layout.merged(arranged)
    arrays = [t.constant for t in arranged if t.constant is not None]
    lying = np.broadcast_shapes(*(array.shape for array in arrays))
    if np.prod(lying) > _FOLDED:
        return None
    with jax.ensure_compile_time_eval():
        spread = [jax.numpy.asarray(np.broadcast_to(a, lying), dtype=t.dtype) for a, t in zip(arrays, arranged)]
        value = np.asarray(eqn.primitive.bind(*spread, **eqn.params))
    return [Tensor(shape, value.dtype, axes, value.dtype, constant=value)]
