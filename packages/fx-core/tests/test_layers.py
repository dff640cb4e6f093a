import inspect

import jax.numpy as jnp
import pytest
from fx_core.errors.ops import ArgumentError
from fx_core.layers import (
    Cell,
    Layer,
    ParamSpec,
    State,
    Stream,
    Values,
    call_signature,
    checked_specs,
    dtype_of_params,
    field_types,
    input_axes,
    input_size,
)
from fx_core.ops import initializers


class Scale(Layer):
    features: int = input_size(-1)
    gain: float = 1.0

    def specs(self):
        return {"scale": ParamSpec((self.features,), initializers.ones, ("out",)), "calls": State("batch_stats", ())}

    def apply(self, v, x, *, twice: bool = False):
        v.calls = v.calls + 1
        return self.gain * x * v.scale * (1 + twice)


def test_a_layer_is_a_frozen_dataclass():
    assert Scale(3) == Scale(3, gain=1.0)
    assert hash(Scale(3)) == hash(Scale(3))
    with pytest.raises(AttributeError):
        Scale(3).gain = 2.0


def test_what_faces_ask_about_a_layer():
    assert input_axes(Scale) == {"features": -1}
    assert field_types(Scale) == {"features": int, "gain": float}
    assert str(call_signature(Scale)) == "(self, x, *, twice: bool = False)"
    assert dtype_of_params(Scale(3)) == jnp.float32


def test_fields_can_be_keyword_only():
    class Wide(Layer, kw_only=True):
        size: int

    assert inspect.signature(Wide).parameters["size"].kind is inspect.Parameter.KEYWORD_ONLY


def test_types_that_cannot_be_evaluated_are_any():
    class Odd(Layer):
        size: "NoSuchType"  # noqa: F821

    assert str(field_types(Odd)["size"]) == "typing.Any"


def test_values_read_and_write():
    kept = {"scale": jnp.full(3, 2.0), "calls": 0}
    parts = {
        "scale": Cell(lambda: kept["scale"]),
        "calls": Cell(lambda: kept["calls"], lambda value: kept.update(calls=value)),
    }
    v = Values("Scale", parts, sow=lambda *_: False, is_mutable=lambda _: True)
    assert Scale(3, gain=0.5).apply(v, jnp.ones(3)).tolist() == [1.0, 1.0, 1.0]
    assert kept["calls"] == 1
    with pytest.raises(AttributeError, match=r"Scale\.specs\(\) has no 'bias', only scale, calls"):
        _ = v.bias
    with pytest.raises(ArgumentError, match="assigns to 'scale', which is no state"):
        v.scale = 1


@pytest.mark.parametrize(
    ("specs", "text"),
    [
        ({"size": None}, "has the name 'size'"),
        ({"_hidden": None}, "has the name '_hidden'"),
        ({"sow": None}, "has the name 'sow'"),
        ({"a b": None}, "has the name 'a b'"),
        ({"kernel": jnp.ones(3)}, "is no spec"),
        ({"blocks": [Scale(3), "Scale"]}, "is no spec"),
        ({"blocks": {1: Scale(3)}}, "is no spec"),
    ],
)
def test_specs_that_mean_nothing_are_refused(specs, text):
    class Odd(Layer):
        size: int = 3

        def specs(self):
            return specs

    with pytest.raises(ArgumentError, match=text):
        checked_specs(Odd())


def test_specs_may_name_every_kind():
    class Whole(Layer):
        def specs(self):
            parts = {"list": [Scale(3)], "dict": {"one": Scale(3)}, "one": Scale(3), "none": None}
            return {"draws": Stream("dropout"), **parts}

    assert list(checked_specs(Whole())) == ["draws", "list", "dict", "one", "none"]


@pytest.mark.parametrize("field", ["name", "parent", "rngs"])
def test_fields_that_faces_have_are_refused(field):
    with pytest.raises(ArgumentError, match=f"has a field '{field}'"):
        type("Odd", (Layer,), {"__annotations__": {field: int}})


def test_a_layer_that_computes_nothing_is_refused():
    class Odd(Layer):
        def apply(self):
            return 0

    for layer in (Odd, Layer):
        with pytest.raises(ArgumentError, match="does not say what it computes"):
            call_signature(layer)
