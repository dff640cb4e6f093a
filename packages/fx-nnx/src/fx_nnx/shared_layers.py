"""NNX modules from layers that are written once for Linen and NNX."""

import copyreg
import dataclasses
import functools
import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from fx_core import layers
from fx_core.typing import Dtype

from fx_nnx.layers.dropout import stream_of
from fx_nnx.layers.params import check_features, fetch, located, make_param, value_of
from fx_nnx.modules.containers import Dict, List
from fx_nnx.modules.module import Module
from fx_nnx.objects.fields import data
from fx_nnx.rngs.rngs import Rngs
from fx_nnx.variables.names import variable_type_from_name

__all__ = ["from_layer"]


class _FromLayer(type(Module)):
    """The type of these classes: no module holds them by their name, so they pickle by the layer they are made of."""

    _fx_layer: type[layers.Layer]


copyreg.pickle(_FromLayer, lambda cls: (from_layer, (cls._fx_layer,)))  # type: ignore[arg-type]


@functools.cache
def from_layer(layer: type[layers.Layer]) -> type[Module]:
    """Returns the NNX module of a layer that is written once for Linen and NNX.

    Its arguments are the fields of the layer, which it keeps as attributes, and ``rngs``. Variables and submodules are
    attributes with the names of the layer's specs. The same layer gives the same class.

    >>> import jax, jax.numpy as jnp, fx_nnx as nnx
    >>> from fx_core.layers import Layer, ParamSpec, input_size
    >>> class Scale(Layer):
    ...     features: int = input_size()
    ...     def specs(self):
    ...         return {"scale": ParamSpec((self.features,), jax.nn.initializers.ones, ("out",))}
    ...     def apply(self, v, x):
    ...         return x * v.scale
    >>> nnx.from_layer(Scale)(3, rngs=nnx.Rngs(0)).scale[...]
    Array([1., 1., 1.], dtype=float32)

    Args:
      layer: a subclass of `fx_core.layers.Layer`.

    Raises:
      ArgumentError: it does not say what it computes.
    """
    namespace: dict[str, Any] = {"__doc__": layer.__doc__, "__module__": layer.__module__, "_fx_layer": layer}
    namespace |= {"__qualname__": layer.__qualname__, "__init__": _init(layer), "__call__": _call(layer)}
    modes = [name for name in _MODES if name in layers.field_types(layer)]
    namespace |= {"set_view": _set_view(modes)} if modes else {}
    cls: Any = _FromLayer(layer.__name__, (Module,), namespace)
    return cls


_MODES = {
    "deterministic": "Whether to compute as in evaluation; None leaves it as it is.",
    "use_running_average": "Whether to use running averages; None leaves it as it is.",
}
"""Fields that `fx_nnx.view` changes, as `fx_nnx.Module.eval` does."""


def _set_view(modes: Sequence[str]) -> Any:
    def set_view(self: Any, **settings: bool | None) -> None:
        for name, value in settings.items():
            if value is not None:
                setattr(self, name, value)

    own = inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    kind, annotation = inspect.Parameter.KEYWORD_ONLY, bool | None
    given = [inspect.Parameter(name, kind, default=None, annotation=annotation) for name in modes]
    set_view.__signature__ = inspect.Signature([own, *given])  # type: ignore[attr-defined]
    texts = "\n".join(f"  {name}: {_MODES[name]}" for name in modes)
    set_view.__doc__ = f"Sets what the layer does from now on.\n\nArgs:\n{texts}\n"
    return set_view


def _init(layer: type[layers.Layer]) -> Any:
    names = [field.name for field in dataclasses.fields(layer)]  # type: ignore[arg-type]

    def init(self: Any, *args: Any, rngs: Rngs, **kwargs: Any) -> None:
        definition = layer(*args, **kwargs)
        for name in names:
            setattr(self, name, getattr(definition, name))
        dtype = layers.dtype_of_params(definition)
        for name, spec in layers.checked_specs(definition).items():
            setattr(self, name, _part(type(self).__name__, spec, dtype, rngs))

    own = inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    given = inspect.Parameter("rngs", inspect.Parameter.KEYWORD_ONLY, annotation=Rngs)
    init.__signature__ = inspect.Signature([own, *inspect.signature(layer).parameters.values(), given])  # type: ignore[attr-defined]
    init.__annotations__ = {**layers.field_types(layer), "rngs": Rngs}
    return init


def _call(layer: type[layers.Layer]) -> Any:
    signature, axes = layers.call_signature(layer), layers.input_axes(layer)
    names = [field.name for field in dataclasses.fields(layer)]  # type: ignore[arg-type]

    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        # The attributes count, not what was given at first: eval() and train() set them.
        definition = layer(**{name: getattr(self, name) for name in names})
        if axes:
            first = args[0] if args else next(iter(signature.bind(self, **kwargs).args[1:]), None)
            definition = _fitting(self, definition, first, axes)
        return definition.apply(_values(self, definition), *args, **kwargs)

    call.__signature__ = signature  # type: ignore[attr-defined]
    call.__name__, call.__qualname__ = "__call__", f"{layer.__qualname__}.__call__"
    call.__doc__ = layer.apply.__doc__
    return located(call)


def _fitting(module: Any, definition: layers.Layer, first: Any, axes: Mapping[str, int]) -> layers.Layer:
    """Compare the sizes of an input with what the layer was made for."""
    shape = getattr(first, "shape", ())
    inside = {name: axis for name, axis in axes.items() if -len(shape) <= axis < len(shape)}
    found = {name: shape[axis] for name, axis in inside.items() if shape[axis] != getattr(definition, name)}
    if not found:
        return definition
    # In a `jax.shard_map` a shard of the parameters meets a shard of the input: then the parameters fit it.
    local = dataclasses.replace(definition, **found)  # type: ignore[type-var]
    before, after = layers.checked_specs(definition), layers.checked_specs(local)
    sizes = {name: tuple(spec.shape) for name, spec in after.items() if isinstance(spec, layers.ParamSpec)}
    sized = [name for name, size in sizes.items() if size != tuple(before[name].shape)]
    fits = all(value_of(getattr(module, name)).shape == sizes[name] for name in sized)
    if not fits or not (sized or any(_is_layer(spec) for spec in after.values())):
        name, _ = found.popitem()
        check_features(module, getattr(definition, name), first, axis=axes[name])
    return local


def _is_layer(spec: Any) -> bool:
    return spec is not None and not isinstance(spec, layers.ParamSpec | layers.State | layers.Stream)


def _values(module: Any, definition: layers.Layer) -> layers.Values:
    parts = {name: _held(module, name, spec) for name, spec in layers.checked_specs(definition).items()}
    return layers.Values(type(module).__name__, parts, module.sow, lambda _: True)


def _held(module: Any, name: str, spec: Any) -> Any:
    if isinstance(spec, layers.ParamSpec):
        return layers.Cell(lambda: fetch(module, name))
    if isinstance(spec, layers.State):
        return layers.Cell(
            lambda: value_of(getattr(module, name)), lambda value: getattr(module, name).set_value(value)
        )
    return getattr(module, name)


def _part(layer: str, spec: Any, dtype: Dtype, rngs: Rngs) -> Any:
    if isinstance(spec, layers.ParamSpec):
        return make_param(rngs, spec.init, spec.shape, dtype, {})
    if isinstance(spec, layers.State):
        key = None if spec.stream is None else stream_of(rngs, spec.stream, layer)()
        return variable_type_from_name(spec.collection)(spec.init(key, spec.shape, spec.dtype))
    if isinstance(spec, layers.Stream):
        return stream_of(rngs, spec.name, layer).fork()
    if isinstance(spec, layers.Layer):
        fields = {field.name: getattr(spec, field.name) for field in dataclasses.fields(spec)}  # type: ignore[arg-type]
        return from_layer(type(spec))(**fields, rngs=rngs)
    if isinstance(spec, list | tuple):
        return List([_part(layer, one, dtype, rngs) for one in spec])
    return data(None) if spec is None else Dict({key: _part(layer, one, dtype, rngs) for key, one in spec.items()})
