"""Weights to PyTorch and back, by names and shapes; computing with them is compared in tests-integration/export."""

import builtins
import json
import os
import struct

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from fx_core.array_node import ArrayNode
from fx_export.errors import ArgumentTypeError
from fx_export.torch import (
    KINDS,
    BundleError,
    LayerRule,
    MissingPackageError,
    Part,
    Rule,
    TorchArray,
    TorchMismatchError,
    UnknownLayerError,
    from_torch,
    linear_rule,
    to_torch,
)
from torch_files import dictionary, tensor, write


def counted(*shape, dtype=np.float32):
    return np.arange(np.prod(shape)).reshape(shape).astype(dtype)


NETWORK = {
    "params": {
        "Conv_0": {"kernel": counted(3, 3, 2, 4), "bias": counted(4)},
        "norm": {"scale": counted(4), "bias": counted(4)},
        "block": {"head": {"kernel": counted(4, 5)}, "table": {"embedding": counted(3, 4)}},
        "place": counted(1, 4),
    },
    "batch_stats": {"norm": {"mean": counted(4), "var": counted(4)}},
    "cache": {"index": counted(1)},
}
SHAPES = {
    "Conv_0.weight": (4, 2, 3, 3),
    "Conv_0.bias": (4,),
    "norm.weight": (4,),
    "norm.bias": (4,),
    "norm.running_mean": (4,),
    "norm.running_var": (4,),
    "norm.num_batches_tracked": (),
    "block.head.weight": (5, 4),
    "block.table.weight": (3, 4),
    "place": (1, 4),
}


def same(one, other):
    assert jax.tree.structure(one) == jax.tree.structure(other)
    assert jax.tree.all(jax.tree.map(lambda a, b: a.dtype == b.dtype and np.array_equal(a, b), one, other))


def test_collections_go_together_and_come_apart(tmp_path):
    state = to_torch(NETWORK, tmp_path / "m.safetensors")
    assert {name: array.shape for name, array in state.items()} == SHAPES
    assert state["norm.num_batches_tracked"].dtype == np.int64
    np.testing.assert_array_equal(state["Conv_0.weight"][1, 0], NETWORK["params"]["Conv_0"]["kernel"][:, :, 0, 1])
    like = jax.tree.map(np.zeros_like, NETWORK) | {"cache": NETWORK["cache"]}
    same(from_torch(state, like), NETWORK)
    same(from_torch(tmp_path / "m.safetensors", like), NETWORK)
    reference = safetensors.numpy.load_file(tmp_path / "m.safetensors")
    same({name: reference[name] for name in state}, state)
    assert os.listdir(tmp_path) == ["m.safetensors"]
    described = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), NETWORK["params"])
    found = from_torch({k: v for k, v in state.items() if "running" not in k and "tracked" not in k}, described)
    assert isinstance(found["place"], jax.Array)


def test_bfloat16_in_files(tmp_path):
    params = {"head": {"kernel": jnp.ones((2, 3), jnp.bfloat16)}}
    to_torch(params, tmp_path / "m.safetensors")
    same(from_torch(tmp_path / "m.safetensors", params), params)


def test_everything_that_does_not_fit_is_in_one_report():
    state = to_torch(NETWORK)
    del state["norm.running_mean"]
    state["norm.num_batches_tracked"] = np.array(7)
    state |= {"more": counted(2), "text": "x", "norm.weight": counted(5), "place": counted(1, 4, dtype=np.float16)}
    with pytest.raises(TorchMismatchError, match="in 5 places") as caught:
        from_torch(state, NETWORK)
    assert caught.value.missing == ("norm/mean (norm.running_mean)",)
    assert caught.value.unexpected == ("more float32(2,)", "text (str)")
    assert caught.value.different == (
        "norm.weight: its shape is (5,), expected is (4,)",
        "place: its dtype is float16, expected is float32 or cast=True",
    )
    state = to_torch(NETWORK) | {"more": counted(2)}
    same(from_torch(state, NETWORK, ignore=["mo*"]), NETWORK)


def test_casts_are_asked_for_and_never_overflow():
    target = {"a": np.zeros(2, np.float16)}
    with pytest.raises(TorchMismatchError, match="expected is float16 or cast=True"):
        from_torch({"a": np.ones(2, np.float32)}, target)
    assert from_torch({"a": np.ones(2, np.float32)}, target, cast=True)["a"].dtype == np.float16
    with pytest.raises(TorchMismatchError, match="numbers of float32 are too large for float16"):
        from_torch({"a": np.full(2, 1e6, np.float32)}, target, cast=True)
    with pytest.raises(TorchMismatchError, match="float32 is not cast to int32"):
        from_torch({"a": np.ones(2, np.float32)}, {"a": np.zeros(2, np.int32)}, cast=True)


@pytest.mark.parametrize(
    ("number", "given", "target"), [(2**40, "int64", "int32"), (200, "uint8", "int8"), (40000, "uint16", "int16")]
)
def test_integers_that_do_not_fit_are_refused(number, given, target):
    here = {"steps": np.zeros(2, target)}
    with pytest.raises(TorchMismatchError, match=f"steps: numbers of {given} do not fit into {target}"):
        from_torch({"steps": np.array([1, number], given)}, here, cast=True)
    assert from_torch({"steps": np.array([1, 7], given)}, here, cast=True)["steps"].tolist() == [1, 7]


def test_layers_that_cannot_be_told_are_asked_for():
    params = {"up": {"kernel": counted(3, 2, 2)}, "down": {"kernel": counted(3, 2, 2)}, "d": {"kernel": counted(2, 2)}}
    with pytest.raises(UnknownLayerError, match="conv_transpose") as caught:
        to_torch(params)
    assert caught.value.layers == ("down: a kernel of shape (3, 2, 2)", "up: a kernel of shape (3, 2, 2)")
    layers = {"up": "conv_transpose", "*": "conv"}
    state = to_torch(params, layers=layers)
    np.testing.assert_array_equal(state["up.weight"][1, 0], params["up"]["kernel"][::-1, 1, 0])
    np.testing.assert_array_equal(state["down.weight"][1, 0], params["down"]["kernel"][:, 0, 1])
    np.testing.assert_array_equal(state["d.weight"], params["d"]["kernel"].T)
    same(from_torch(state, params, layers=layers), params)


def test_linear_layers_over_several_axes():
    params = {
        "DenseGeneral_0": {"kernel": counted(2, 3, 4, 5), "bias": counted(4, 5)},
        "p": {"kernel": counted(2, 3, 4)},
    }
    state = to_torch(params, layers={"p": linear_rule(2)})
    assert {k: v.shape for k, v in state.items()} == {
        "DenseGeneral_0.weight": (20, 6), "DenseGeneral_0.bias": (20,), "p.weight": (4, 6)
    }  # fmt: skip
    same(from_torch(state, params, layers={"p": linear_rule(2)}), params)


ATTENTION = {
    name: {"kernel": counted(6, 2, 3) + i, "bias": counted(2, 3) + i}
    for i, name in enumerate(["query", "key", "value"])
} | {"out": {"kernel": counted(2, 3, 6), "bias": counted(6)}}


def test_attention_is_fused_or_separate_and_either_is_read():
    params = {"attn": ATTENTION}
    fused = to_torch(params)
    assert sorted(fused) == ["attn.in_proj_bias", "attn.in_proj_weight", "attn.out_proj.bias", "attn.out_proj.weight"]
    separate = to_torch(params, layers={"attn": "attention_separate"})
    assert sorted(separate)[0] == "attn.k_proj.bias"
    np.testing.assert_array_equal(fused["attn.in_proj_weight"][6:12], separate["attn.k_proj.weight"])
    same(from_torch(fused, params), params)
    same(from_torch(separate, params), params)
    names = [Rule("{at*}/q_proj/{leaf}", "{at*}.q.{leaf}")]
    assert "attn.q.weight" in to_torch(params, layers={"attn": "attention_separate"}, names=names)
    half = {name: {"kernel": part["kernel"]} for name, part in ATTENTION.items()} | {"query": ATTENTION["query"]}
    with pytest.raises(TorchMismatchError, match="in_proj_bias needs key/bias, value/bias, too"):
        to_torch(
            {"attn": half},
            layers={"attn": LayerRule("attention", KINDS["attention"].forms[:1])},
        )


def test_tied_weights_have_two_names():
    params = {"embed": {"embedding": counted(3, 4)}}
    state = to_torch(params, tied={"lm_head.weight": "embed.weight"})
    np.testing.assert_array_equal(state["lm_head.weight"], state["embed.weight"])
    tied = {"lm_head.weight": "embed.weight"}
    same(from_torch(state, params, tied=tied), params)
    same(from_torch({"lm_head.weight": counted(3, 4)}, params, tied=tied), params)
    with pytest.raises(TorchMismatchError, match=r"lm_head\.weight: other numbers than embed\.weight"):
        from_torch(state | {"lm_head.weight": counted(3, 4) + 1}, params, tied=tied)
    with pytest.raises(TorchMismatchError, match="cannot be tied to"):
        to_torch(params, tied={"a": "b"})


def test_a_rule_of_ones_own():
    scaled = LayerRule("scaled", ((TorchArray("gain", (Part("factor"),)),),))
    assert list(to_torch({"x": {"factor": counted(2)}}, layers={"x": scaled})) == ["x.gain"]


def test_parts_of_larger_files(tmp_path):
    path = write(tmp_path / "x.pt", dictionary(model=dictionary(**{"head.weight": tensor()}), step=b"K\x03"))
    target = {"head": {"kernel": np.zeros((3, 2), np.float32)}}
    assert from_torch(path, target, part="model")["head"]["kernel"].shape == (3, 2)
    with pytest.raises(TorchMismatchError, match=r"unexpected: model.head.weight float32\(2, 3\)(.|\n)*step \(int\)"):
        from_torch(path, target)
    with pytest.raises(TorchMismatchError, match="The part 'step' is no state dictionary: int"):
        from_torch(path, target, part="step")


class Node(ArrayNode):
    shape, dtype = (2,), np.dtype("float32")

    def astype(self, dtype):
        return self

    def materialize(self):
        return jnp.ones(2)


@pytest.mark.parametrize("leaf", [jax.random.key(0), Node(), "text"], ids=["key", "node", "text"])
def test_what_is_no_array_of_numbers_is_refused(leaf):
    with pytest.raises(ArgumentTypeError, match="a/b"):
        to_torch({"a": {"b": leaf}})


def test_two_arrays_of_one_name_are_refused():
    with pytest.raises(TorchMismatchError, match="a/b: several collections have it"):
        to_torch({"params": {"a": {"b": counted(1)}}, "more": {"a": {"b": counted(1)}}})
    with pytest.raises(TorchMismatchError, match=r"a\.b: two arrays get this name"):
        to_torch({"a": {"b": counted(1)}, "a.b": counted(1)})


WEIGHT = {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}
SMALL = {"dtype": "BOOL", "shape": [24], "data_offsets": [0, 24]}
HEADERS = {
    "huge empty sizes": json.dumps({"w": {**WEIGHT, "shape": [0, 2**62], "data_offsets": [0, 0]}}),
    "too many axes": json.dumps({"w": {**WEIGHT, "shape": [1] * 68 + [2, 3]}}),
    "negative sizes": json.dumps({"w": {**WEIGHT, "shape": [-2, -3]}}),
    "an overlap": json.dumps({"w": WEIGHT, "v": WEIGHT}),
    "beyond the end": json.dumps({"w": {**WEIGHT, "shape": [4, 3], "data_offsets": [0, 48]}}),
    "an unknown dtype": json.dumps({"w": {**WEIGHT, "dtype": "C64", "shape": [3]}}),
    "other numbers as booleans": json.dumps({"w": SMALL}),
    "a name twice": json.dumps({"v": {**WEIGHT, "shape": [3, 2]}, "w": WEIGHT}).replace('"v"', '"w"'),
    "no number": json.dumps({"w": {**WEIGHT, "shape": [2, float("nan")]}}),
    "no end": '{"w": ' + "[" * 10_000,
}


@pytest.mark.parametrize("case", HEADERS)
def test_hostile_headers_of_safetensors(case, tmp_path):
    header = HEADERS[case].encode()
    data = b"" if case == "huge empty sizes" else np.arange(6, dtype=np.float32).tobytes()
    (tmp_path / "m.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + data)
    with pytest.raises(BundleError, match="it is no safetensors"):
        from_torch(tmp_path / "m.safetensors", {"w": np.zeros((2, 3), np.float32)})


def test_bad_safetensors(tmp_path, monkeypatch):
    path = tmp_path / "m.safetensors"
    path.write_bytes((5).to_bytes(8, "little") + b"{" + b"x" * 20)
    with pytest.raises(BundleError, match="no safetensors"):
        from_torch(path, {"a": counted(1)})
    with pytest.raises(BundleError, match=r"no such dtype(.|\n)*a complex64"):
        to_torch({"a": counted(1, dtype=np.complex64)}, tmp_path / "new.safetensors")

    def refuse(name, *args, **kwargs):
        if name.startswith("safetensors"):
            raise ModuleNotFoundError(name)
        return imported(name, *args, **kwargs)

    imported = builtins.__import__
    monkeypatch.setattr("importlib.import_module", refuse)
    with pytest.raises(MissingPackageError, match=r"pip install 'fx-export\[torch\]'"):
        to_torch({"a": counted(1)}, path)


def test_linear_layers_with_names_of_attention_or_cells_are_linear_layers():
    maps = {name: {"kernel": counted(3, 3)} for name in ("query", "key", "value", "out")}
    assert sorted(to_torch(maps)) == ["key.weight", "out.weight", "query.weight", "value.weight"]
    assert sorted(to_torch({"i": {"kernel": counted(2, 3)}, "h": {"kernel": counted(5, 3)}})) == [
        "h.weight",
        "i.weight",
    ]


def test_names_of_other_structures():
    layers = {"layers": {"0": {"kernel": counted(2, 3)}, "2": {"kernel": counted(3, 2)}}}
    names = [Rule("layers/{n}/{leaf}", "{n}.{leaf}")]
    assert sorted(to_torch(layers, names=names)) == ["0.weight", "2.weight"]
    cells = {
        f"rnn_{n}": {"cell": {"dense_i": {"kernel": counted(4, 12)}, "dense_h": {"kernel": counted(4, 12)}}}
        for n in (0, 1)
    }
    names = [Rule("rnn_{n}/cell/{leaf}", "gru.{leaf}_l{n}")]
    state = to_torch(cells, names=names)
    assert sorted(state) == ["gru.weight_hh_l0", "gru.weight_hh_l1", "gru.weight_ih_l0", "gru.weight_ih_l1"]
    same(from_torch(state, cells, names=names), cells)
