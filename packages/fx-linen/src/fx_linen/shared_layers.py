"""Linen modules from layers that are written once for Linen and NNX."""

import dataclasses
import functools
import typing
from typing import Any

import jax.numpy as jnp
from fx_core import layers
from fx_core.errors import ShapeMismatchError
from fx_core.typing import Dtype

from fx_linen.module import Module, compact
from fx_linen.module._pickling import Recipe

__all__ = ["from_layer"]


@functools.cache
def from_layer(layer: type[layers.Layer]) -> type[Module]:
    """Returns the Linen module of a layer that is written once for Linen and NNX.

    Its fields are those of the layer; sizes of the input come by keyword and may be left out. Variables and submodules
    have the names of the layer's specs. The same layer gives the same class.

    >>> import jax, jax.numpy as jnp, fx_linen as nn
    >>> from fx_core.layers import Layer, ParamSpec, input_size
    >>> class Scale(Layer):
    ...     features: int = input_size()
    ...     def specs(self):
    ...         return {"scale": ParamSpec((self.features,), jax.nn.initializers.ones, ("out",))}
    ...     def apply(self, v, x):
    ...         return x * v.scale
    >>> nn.from_layer(Scale)().init(jax.random.key(0), jnp.ones(3))
    {'params': {'scale': Array([1., 1., 1.], dtype=float32)}}

    Args:
      layer: a subclass of `fx_core.layers.Layer`.

    Raises:
      ArgumentError: it does not say what it computes.
    """
    types, axes = layers.field_types(layer), layers.input_axes(layer)
    namespace: dict[str, Any] = {"__doc__": layer.__doc__, "__module__": layer.__module__}
    namespace |= {"__qualname__": layer.__qualname__, "__annotations__": {}, "__call__": _call(layer)}
    for field in dataclasses.fields(layer):  # type: ignore[arg-type]
        if field.name in axes:
            namespace["__annotations__"][field.name] = _optional(types[field.name])
            namespace[field.name] = dataclasses.field(default=None, kw_only=True)
        else:
            namespace["__annotations__"][field.name] = types[field.name]
            namespace[field.name] = _copied(field)
    metaclass: Any = type(Module)
    cls: Any = metaclass(layer.__name__, (Module,), namespace)
    cls._recipe = Recipe(cls, from_layer, (layer,))
    return cls


def _optional(annotation: Any) -> Any:
    # The union by | does not take names that stand for types.
    return typing.Union[annotation, None]  # noqa: UP007


def _copied(field: Any) -> Any:
    names = ("default", "default_factory", "init", "repr", "hash", "compare", "metadata", "kw_only")
    return dataclasses.field(**{name: getattr(field, name) for name in names})


def _call(layer: type[layers.Layer]) -> Any:
    signature, axes = layers.call_signature(layer), layers.input_axes(layer)
    names = [field.name for field in dataclasses.fields(layer)]  # type: ignore[arg-type]

    @compact
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        fields = {name: getattr(self, name) for name in names}
        for name, axis in axes.items():
            first, *_ = signature.bind(self, *args, **kwargs).args[1:]
            if fields[name] is None:
                fields[name] = jnp.shape(first)[axis]
            else:
                _check_size(self, name, fields[name], getattr(first, "shape", ()), axis)
        definition = layer(**fields)
        return definition.apply(_values(self, definition), *args, **kwargs)

    call.__signature__ = signature  # type: ignore[attr-defined]
    call.__name__, call.__qualname__ = "__call__", f"{layer.__qualname__}.__call__"
    call.__doc__ = layer.apply.__doc__
    return call


def _check_size(module: Module, name: str, size: int, shape: tuple[int, ...], axis: int) -> None:
    if -len(shape) <= axis < len(shape) and shape[axis] != size:
        raise ShapeMismatchError(
            f"The input of {type(module).__name__} does not fit its {name}.",
            path="/".join(module.path) or None,
            expected=f"size {size} on axis {axis}",
            got=shape,
            fix=f"give the layer {name}={shape[axis]}, or leave it out: it is read off the input",
        )


def _values(module: Module, definition: layers.Layer) -> layers.Values:
    dtype = layers.dtype_of_params(definition)
    parts: dict[str, Any] = {}
    for name, spec in layers.checked_specs(definition).items():
        parts[name] = _part(module, name, spec, dtype)

    def is_mutable(collection: str) -> bool:
        return module.is_mutable_collection(collection) and not module.is_initializing()

    return layers.Values(type(module).__name__, parts, module.sow, is_mutable)


def _part(module: Module, name: str, spec: Any, dtype: Dtype) -> Any:
    if isinstance(spec, layers.ParamSpec):
        value = module.param(name, spec.init, spec.shape, dtype)
        return layers.Cell(lambda: value)
    if isinstance(spec, layers.State):
        variable = module.variable(spec.collection, name, functools.partial(_first, module, spec))
        return layers.Cell(lambda: variable.value, functools.partial(setattr, variable, "value"))
    if isinstance(spec, layers.Stream):
        return functools.partial(module.make_rng, spec.name)
    if isinstance(spec, layers.Layer):
        fields = {field.name: getattr(spec, field.name) for field in dataclasses.fields(spec)}  # type: ignore[arg-type]
        return from_layer(type(spec))(**fields, name=name)
    if isinstance(spec, list | tuple):
        return [_part(module, f"{name}_{i}", one, dtype) for i, one in enumerate(spec)]
    if spec is not None:
        return {key: _part(module, f"{name}_{key}", one, dtype) for key, one in spec.items()}
    return None


def _first(module: Module, spec: layers.State) -> Any:
    key = None if spec.stream is None else module.make_rng(spec.stream)
    return spec.init(key, spec.shape, spec.dtype)
