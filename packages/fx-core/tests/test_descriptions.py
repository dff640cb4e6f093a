"""Models as plain data: what is read, what is refused with its place, what is written."""

import dataclasses
import json
import sys
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import jax.numpy as jnp
import pytest
from fx_core import descriptions
from fx_core.errors import DescriptionError, UnknownEntryError
from fx_core.ops import activations, initializers
from fx_core.plugins import LayerEntry, registry
from fx_core.testing.fakes import fake_plugin


@dataclasses.dataclass
class Leaf:
    size: int
    scale: float = 1.0
    kind: Literal["plain", "wide"] = "plain"
    bias: bool = True
    init: Callable[..., Any] = initializers.zeros
    dtype: Any = None


@dataclasses.dataclass
class Branch:
    parts: Mapping[str, Any]
    order: Sequence[int] = ()
    sizes: Mapping[int, int] | None = None
    label: str | None = None
    parent: Any = None


class Chain:
    def __init__(self, *layers: Callable[..., Any]):
        self.layers = layers


class Keyed:
    def __init__(self, size: int, *, rngs: Any, **options: Any):
        self.size, self.options, self.rngs = size, options, rngs


class Wider(Keyed):
    def __init__(self, extra: int, **rest: Any):
        super().__init__(**rest)
        self.extra = extra


class Closed:
    def __init__(self, secret: int):
        self._secret = secret


class Told(Closed):
    def __describe__(self):
        return {"secret": self._secret}


@pytest.fixture(autouse=True)
def layers(monkeypatch):
    module = types.ModuleType("acme_layers")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    entries = [LayerEntry(name="acme.Broken", target="acme_absent:Layer", face="linen", summary="Not there")]
    for layer in (Leaf, Branch, Chain, Keyed, Wider, Closed, Told):
        setattr(module, layer.__name__, layer)
        for face in ("linen", "nnx"):
            target = f"acme_layers:{layer.__name__}"
            entries.append(LayerEntry(name=f"acme.{layer.__name__}", target=target, face=face, summary="A layer"))
    registry().register(fake_plugin(fx_layers=entries), name="acme")
    yield
    registry().unregister("acme")


def leaf(size=1, **more):
    return {"layer": "acme.Leaf", "size": size, **more}


def test_arguments_become_what_they_stand_for():
    made = descriptions.build(
        {
            "layer": "acme.Branch",
            "parts": {"a": leaf(2, scale=3), "b": [leaf(init={"initializer": "normal", "stddev": 0.5}), None]},
            "order": [1, 0],
            "sizes": {"0": 2, "-1": 3},
        },
        "linen",
    )
    assert (made.parts["a"], made.order, made.sizes) == (Leaf(2, 3), (1, 0), {0: 2, -1: 3})
    assert (type(made.parts["b"]), made.parts["b"][1]) == (tuple, None)
    assert made.parts["b"][0].init is not initializers.zeros
    chain = descriptions.build(
        {"layer": "acme.Chain", "layers": [{"function": "relu"}, leaf(dtype={"dtype": "bfloat16"})]}, "linen"
    )
    assert chain.layers[0] is activations.relu
    assert chain.layers[1].dtype is jnp.bfloat16


def test_what_the_place_gives_goes_to_those_who_take_it():
    made = descriptions.build({"layer": "acme.Wider", "extra": 1, "size": 2, "color": "red"}, "nnx", {"rngs": 7})
    assert (made.extra, made.size, made.options, made.rngs) == (1, 2, {"color": "red"}, 7)
    with pytest.raises(DescriptionError, match=r"acme\.Keyed needs rngs=, which is given where the model is built"):
        descriptions.build({"layer": "acme.Keyed", "size": 2}, "nnx")
    with pytest.raises(DescriptionError, match="rngs is given where the model is built"):
        descriptions.build({"layer": "acme.Keyed", "size": 2, "rngs": 3}, "nnx", {"rngs": 7})
    assert descriptions.make_layer("acme.Leaf", "nnx", {"size": 2}, {"rngs": 7}) == Leaf(2)


def test_every_mistake_is_told_with_its_place():
    made = []
    chain = {
        "layer": "acme.Chain",
        "layers": [
            leaf("wide"),
            leaf(True, scale="x", kind="narrow", bias=1),
            {"layer": "acme.Leaf", "sise": 1},
            {"layer": "acme.Leav", "size": 1},
            {"layer": "acme.Broken"},
            {"function": "os.system"},
            leaf(init={"initializer": "normal", "stdev": 1}),
            leaf(init={"initializer": "zeros", "x": 1}),
            leaf(dtype={"dtype": "float31"}),
            leaf(init={"function": "relu", "x": 1}),
            {"layer": "acme.Branch", "parts": 3, "order": 1, "label": [1], "sizes": {"a": object()}},
            {"layer": 3},
            leaf(init={"initializer": "normal", "stddev": "0.1"}),
            leaf(init={"initializer": "variance_scaling", "scale": 1.0, "mode": "fan", "distribution": "normal"}),
            leaf(init={"initializer": "he_normal", "in_axis": [0, "1"]}),
            {"layer": "acme.Leaf", 1: 2},
        ],
    }
    with pytest.raises(DescriptionError) as caught:
        made.append(descriptions.build(chain, "linen"))
    assert not made
    places = [place for place, _ in caught.value.mistakes]
    assert places == [
        "layers[0].size",
        *["layers[1].size", "layers[1].scale", "layers[1].kind", "layers[1].bias"],
        *["layers[2]", "layers[2]", "layers[3]", "layers[4]", "layers[5]"],
        *["layers[6].init", "layers[7].init", "layers[8].dtype", "layers[9].init"],
        *["layers[10].parts", "layers[10].order", "layers[10].label", "layers[10].sizes.a", "layers[11]"],
        *["layers[12].init.stddev", "layers[13].init.mode", "layers[14].init.in_axis[1]", "layers[15]"],
    ]
    text = str(caught.value)
    for said in (
        "23 mistakes",
        "Did you mean 'size'?",
        "Did you mean 'acme.Leaf'",
        "Literal['plain', 'wide'], got 'narrow'",
    ):
        assert said in text


def test_nothing_is_imported_by_a_path_in_a_description():
    for name in ("os.system", "os:system", "fx_core.descriptions:build"):
        with pytest.raises(DescriptionError, match="There is no linen layer"):
            descriptions.build({"layer": name}, "linen")


@pytest.mark.parametrize("source", [None, 3, [], b"model.json", object()])
def test_what_is_no_description_and_no_path(source):
    with pytest.raises(DescriptionError, match="expected a dict or a path"):
        descriptions.build(source, "linen")


def test_depth_is_limited():
    deep: Any = leaf()
    for _ in range(100):
        deep = {"layer": "acme.Chain", "layers": [deep]}
    with pytest.raises(DescriptionError, match="nested more than 64"):
        descriptions.build(deep, "linen")
    deep = 1
    for _ in range(100):
        deep = [deep]
    with pytest.raises(DescriptionError, match="nested more than 64"):
        descriptions.build({"layer": "acme.Branch", "parts": {"a": deep}}, "linen")


def test_files(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps(leaf(3)))
    (tmp_path / "a.toml").write_text('layer = "acme.Branch"\n[parts.a]\nlayer = "acme.Leaf"\nsize = 3\n')
    assert descriptions.build(tmp_path / "a.json", "linen") == Leaf(3)
    assert descriptions.build(str(tmp_path / "a.toml"), "linen").parts == {"a": Leaf(3)}
    for name, content, said in [
        ("b.json", "{", "cannot be read"),
        ("c.json", '{"layer": "x", "layer": "y"}', "'layer' is given twice"),
        ("d.json", "[1]", "holds a list"),
        ("e.json", "[" * 100_000, "cannot be read"),
        ("f.toml", "x = [", "cannot be read"),
        ("g.yaml", "", "no .json or .toml"),
        ("h.json", "\udcff", "cannot be read"),
    ]:
        (tmp_path / name).write_text(content, errors="surrogateescape")
        with pytest.raises(DescriptionError, match=said):
            descriptions.build(tmp_path / name, "linen")
    with pytest.raises(FileNotFoundError):
        descriptions.build(tmp_path / "absent.json", "linen")


def test_what_is_built_is_written_back():
    found = {
        "layer": "acme.Branch",
        "parts": {
            "a": leaf(2, scale=0.5, init={"initializer": "truncated_normal", "stddev": 0.1}),
            "b": [leaf(3, dtype={"dtype": "bfloat16"}), {"function": "gelu"}, None, {"initializer": "ones"}],
            "c": {"layer": "acme.Chain", "layers": [leaf(4), {"function": "tanh"}]},
        },
        "order": [2, 1],
    }
    model = descriptions.build(found, "linen")
    assert descriptions.describe(model, "linen") == found
    assert json.loads(json.dumps(descriptions.describe(model, "linen"))) == found
    assert descriptions.describe(Told(3), "linen") == {"layer": "acme.Told", "secret": 3}


def test_what_cannot_be_described_is_told_with_its_place():
    model = Branch({"a": Leaf(1, init=lambda key, shape, dtype: 0), "b": Closed(1), "c": [jnp.ones(2)]})
    with pytest.raises(DescriptionError) as caught:
        descriptions.describe(model, "linen")
    assert [place for place, _ in caught.value.mistakes] == ["parts.a.init", "parts.b.secret", "parts.c[0]"]
    with pytest.raises(DescriptionError, match="int is no registered layer"):
        descriptions.describe(3, "linen")


def test_layers_by_name_take_python_values():
    init = initializers.normal(0.3)
    assert descriptions.make_layer("acme.Leaf", "linen", {"size": 2, "init": init}).init is init
    assert descriptions.make_layer("acme.Chain", "linen", {"layers": [1, 2]}).layers == (1, 2)
    with pytest.raises(UnknownEntryError, match=r"Did you mean 'acme.Leaf'"):
        descriptions.make_layer("acme.Leav", "linen", {})
    with pytest.raises(DescriptionError, match=r"(?s)no parameter 'sise'.*needs size"):
        descriptions.make_layer("acme.Leaf", "linen", {"sise": 2})


def test_the_schema_has_all_that_can_be_imported():
    found = descriptions.schema("linen")["$defs"]["layers"]
    assert "acme.Broken" not in found
    assert found["acme.Leaf"]["required"] == ["layer", "size"]
    assert found["acme.Leaf"]["properties"]["kind"] == {"enum": ["plain", "wide"], "default": "plain"}
    assert found["acme.Leaf"]["properties"]["size"] == {"type": "integer"}
    assert found["acme.Branch"]["properties"]["order"] == {"type": "array", "items": {"type": "integer"}}
    assert "parent" not in found["acme.Branch"]["properties"]
    assert found["acme.Chain"]["properties"]["layers"]["type"] == "array"
    assert found["acme.Wider"]["additionalProperties"]
    assert "size" in found["acme.Wider"]["properties"]
    json.dumps(descriptions.schema("nnx"))
