"""The base of layers that are written once, for Linen and for NNX."""

import dataclasses
import inspect
import typing
from collections.abc import Mapping
from typing import Any, ClassVar, dataclass_transform

import jax.numpy as jnp

from fx_core.errors.kinds import ArgumentError
from fx_core.layers.specs import ParamSpec, State, Stream

__all__ = ["Layer", "call_signature", "checked_specs", "dtype_of_params", "field_types", "input_axes", "input_size"]

_AXIS = "fx_input_axis"
_RESERVED = frozenset({"name", "parent", "rngs"})
_OWN = frozenset({"sow", "is_mutable"})


def input_size(axis: int = -1) -> Any:
    """Declares a field that is the size of an axis of the first input: NNX asks for it, Linen may read it off.

    >>> class Scale(Layer):
    ...     features: int = input_size()
    >>> Scale(3)
    Scale(features=3)

    Args:
      axis: of the first argument of the call.
    """
    return dataclasses.field(metadata={_AXIS: axis})


@dataclass_transform(frozen_default=True, field_specifiers=(dataclasses.field, input_size))
class Layer:
    """A layer written once: `specs` says what it is made of, `apply` computes with that.

    A subclass is a frozen dataclass, whose fields are the arguments in Linen and NNX. ``fx_linen.from_layer`` and
    ``fx_nnx.from_layer`` make their own classes of it; a plugin registers it by one entry with ``face="both"``.

    >>> from fx_core.ops import initializers, linear
    >>> class Gated(Layer):
    ...     \"\"\"Multiplies what a linear map gives by a sigmoid of another.\"\"\"
    ...     in_features: int = input_size()
    ...     features: int
    ...     def specs(self):
    ...         shape, init = (self.in_features, self.features), initializers.lecun_normal()
    ...         return {name: ParamSpec(shape, init, ("in", "out")) for name in ("gate", "value")}
    ...     def apply(self, v, x):
    ...         return linear.dense(x, v.value) * jax.nn.sigmoid(linear.dense(x, v.gate))
    >>> import jax, fx_linen as nn, fx_nnx as nnx  # doctest: +SKIP
    >>> nn.from_layer(Gated)(features=4), nnx.from_layer(Gated)(3, 4, rngs=nnx.Rngs(0))  # doctest: +SKIP

    Class keyword arguments:
      kw_only: whether its own fields can be given by keyword only.
    """

    def __init_subclass__(cls, kw_only: bool = False, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        reserved = _RESERVED & inspect.get_annotations(cls).keys()
        if reserved:
            raise ArgumentError(
                f"{cls.__name__} has a field {min(reserved)!r}, which its Linen or NNX class has already.",
                fix="Rename the field.",
            )
        dataclasses.dataclass(cls, frozen=True, kw_only=kw_only)  # type: ignore[call-overload]

    def specs(self) -> Mapping[str, Any]:
        """Returns what the layer is made of, by name, in the order in which it is made.

        A value is a `ParamSpec` (see also the functions of `fx_core.ops` that give them), a `State`, a `Stream`,
        another `Layer`, a list or a dict of layers, or None. Parameters are made in the dtype of a field
        ``param_dtype``, or float32. Names are those of variables and parts in Linen and NNX; a list ``blocks`` has the
        parts ``blocks_0``, ``blocks_1``, … in Linen.
        """
        return {}

    # What it takes beyond the first two arguments is up to each layer.
    apply: ClassVar[Any]
    """Computes the layer: ``apply(self, v, *inputs, **options)``.

    ``v`` has an attribute for each spec: the array of a parameter or state, a function that gives the next key of a
    stream, a function that calls a part. Assigning to that of a state writes it. ``v.is_mutable(collection)`` says
    whether it may be written: not in Linen's ``init``, and only where the caller of ``apply`` says so.
    ``v.sow(collection, name, value)`` stores a value for whoever asks for the collection.
    """


def call_signature(layer: type[Layer]) -> inspect.Signature:
    """Returns the signature of the call of a layer: that of `Layer.apply` without ``v``.

    Raises:
      ArgumentError: the layer has no ``apply(self, v, …)``.
    """
    apply = getattr(layer, "apply", None)
    parameters = list(inspect.signature(apply).parameters.values()) if callable(apply) else []
    if len(parameters) < 2:
        raise ArgumentError(
            f"{layer.__name__} does not say what it computes.",
            expected="a method apply(self, v, x)",
            got=apply,
            fix="Define apply; v has what specs names.",
        )
    signature = inspect.signature(apply)  # type: ignore[arg-type]
    return signature.replace(parameters=[parameters[0], *parameters[2:]])


def input_axes(layer: type[Layer]) -> dict[str, int]:
    """Returns the fields that are sizes of the first input, with the axis of each."""
    fields = dataclasses.fields(layer)  # type: ignore[arg-type]
    return {field.name: field.metadata[_AXIS] for field in fields if _AXIS in field.metadata}


def field_types(layer: type[Layer]) -> dict[str, Any]:
    """Returns the types of a layer's fields, evaluated where that is possible."""
    try:
        hints = typing.get_type_hints(layer)
    except Exception:  # Names that only a type checker sees, or whatever an annotation does when it is evaluated.
        hints = {}
    return {field.name: hints.get(field.name, Any) for field in dataclasses.fields(layer)}  # type: ignore[arg-type]


def dtype_of_params(layer: Layer) -> Any:
    """Returns the dtype in which the parameters of a layer are made."""
    return getattr(layer, "param_dtype", jnp.float32)


def checked_specs(layer: Layer) -> Mapping[str, Any]:
    """Returns the specs of a layer.

    Raises:
      ArgumentError: a name is that of a field or no name, or a value is none that a spec can have.
    """
    kind, specs = type(layer).__name__, layer.specs()
    fields = {field.name for field in dataclasses.fields(layer)}  # type: ignore[arg-type]
    for name, spec in specs.items():
        if name in fields or name in _OWN or not name.isidentifier() or name.startswith("_"):
            raise ArgumentError(
                f"{kind}.specs() has the name {name!r}.",
                expected="a name that no field has, which is an identifier without an underscore in front",
                got=name,
                fix="Choose another name.",
            )
        if not (spec is None or isinstance(spec, ParamSpec | State | Stream) or _is_part(spec)):
            raise ArgumentError(
                f"{kind}.specs()[{name!r}] is no spec.",
                expected="a ParamSpec, State, Stream or Layer, a list or dict of layers, or None",
                got=spec,
            )
    return specs


def _is_part(spec: Any) -> bool:
    if isinstance(spec, Mapping):
        return all(isinstance(key, str) and isinstance(part, Layer) for key, part in spec.items())
    if isinstance(spec, list | tuple):
        return all(isinstance(part, Layer) for part in spec)
    return isinstance(spec, Layer)
