"""Safetensors: read and written as everybody does, strictly; names and layouts of PyTorch by rules."""

import json
import os
import subprocess
import sys

import fx_ckpt
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors
import safetensors.numpy
from fx_ckpt import Rule, errors, torch_rules
from fx_ckpt.backends.safetensors import SafetensorsBackend
from fx_ckpt.formats import safetensors_shards as shards
from fx_ckpt.formats.safetensors_file import LARGEST_HEADER, read_header, write_file
from fx_ckpt.renaming import find, find_back
from fx_core.stored_dtypes import NUMBERS

PLAIN = [
    "bool",
    "uint8",
    "int8",
    "uint16",
    "int16",
    "uint32",
    "int32",
    "uint64",
    "int64",
    "float16",
    "float32",
    "float64",
]


def test_the_reference_implementation_reads_ours_and_we_read_its(tmp_path):
    arrays = {name: (np.arange(6).reshape(2, 3) % 2).astype(name) for name in PLAIN}
    arrays |= {"turned": np.arange(6).reshape(2, 3).T, "empty": np.zeros((0, 3)), "scalar": np.array(3, np.float32)}
    ours = fx_ckpt.save_safetensors(tmp_path / "ours.safetensors", arrays, metadata={"format": "np"})
    theirs = tmp_path / "theirs.safetensors"
    safetensors.numpy.save_file({k: np.ascontiguousarray(v) if v.ndim else v for k, v in arrays.items()}, theirs)
    with safetensors.safe_open(ours, "np") as file:
        assert file.metadata() == {"format": "np"}
    for loaded in (safetensors.numpy.load_file(ours), fx_ckpt.load_safetensors(theirs), fx_ckpt.load_safetensors(ours)):
        assert sorted(loaded) == sorted(arrays)
        for name, array in arrays.items():
            assert (loaded[name].dtype, loaded[name].shape) == (array.dtype, array.shape)
            np.testing.assert_array_equal(loaded[name], array)


def test_floats_of_a_byte_have_their_own_names_in_the_file(tmp_path):
    tree = {"a": jnp.ones(3, jnp.float8_e4m3fn), "b": jnp.ones(2, jnp.float8_e5m2), "c": jnp.ones(2, jnp.bfloat16)}
    path = fx_ckpt.save_safetensors(tmp_path / "x.safetensors", tree)
    with safetensors.safe_open(path, "np") as file:
        assert [file.get_slice(name).get_dtype() for name in "abc"] == ["F8_E4M3", "F8_E5M2", "BF16"]
    back = fx_ckpt.load_safetensors(path, tree)
    assert [back[name].dtype for name in "abc"] == [tree[name].dtype for name in "abc"]


def test_dtypes_that_the_format_lacks_are_declared(tmp_path):
    state = {name: np.array([[0, 1, 1]]).astype(dtype) for name, dtype in NUMBERS.items()}
    SafetensorsBackend().save(tmp_path, state)
    header, metadata = read_header(tmp_path / "model.safetensors")
    layout = json.loads(metadata["fx.layout"])
    assert layout["int4"] == ["array", "int4", [1, 3]]
    assert (header["int4"].dtype, header["int4"].shape) == (np.uint8, (1, 3))
    assert (header["complex64"].dtype, header["complex64"].shape) == (np.uint8, (1, 3, 8))
    back = SafetensorsBackend().restore(tmp_path)
    for name, array in state.items():
        assert (back[name].dtype, back[name].shape, back[name].tobytes()) == (array.dtype, array.shape, array.tobytes())


def test_what_is_no_array_is_refused_in_plain_files(tmp_path):
    for leaf in (3, None, "text", jax.random.key(0), np.ones(2, complex), jnp.ones(2, jnp.int4)):
        with pytest.raises(errors.UnsupportedLeafError, match=r"which safetensors does not have(.|\n)*fx_ckpt.save"):
            fx_ckpt.save_safetensors(tmp_path / "x.safetensors", {"a": leaf})
    assert list(tmp_path.iterdir()) == []


def test_large_trees_are_laid_out_as_hugging_face_does(tmp_path):
    tree = {name: np.full(100, i, np.float32) for i, name in enumerate("abcde")}
    fx_ckpt.save_safetensors(tmp_path / "m", tree, largest_file=800)
    names = [f"model-0000{i}-of-00003.safetensors" for i in (1, 2, 3)]
    assert sorted(path.name for path in (tmp_path / "m").iterdir()) == [*names, "model.safetensors.index.json"]
    index = json.loads((tmp_path / "m/model.safetensors.index.json").read_text())
    assert index["metadata"] == {"total_size": 2000}
    assert index["weight_map"]["c"] == names[1]
    for back in (fx_ckpt.load_safetensors(tmp_path / "m"), fx_ckpt.load_safetensors(tmp_path / "m", tree)):
        assert all(np.array_equal(back[name], tree[name]) for name in tree)
    (tmp_path / "m" / names[1]).rename(tmp_path / "elsewhere")
    with pytest.raises(errors.DamagedDataError, match=r"a file is missing(.|\n)*model-00002"):
        fx_ckpt.load_safetensors(tmp_path / "m")
    (tmp_path / "m" / names[1]).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(errors.DamagedDataError, match="a file is a link"):
        fx_ckpt.load_safetensors(tmp_path / "m")
    assert fx_ckpt.load_safetensors(tmp_path / "m", follow_links=True)["c"][0] == 2


def test_the_backend_divides_large_states(tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "LARGEST_FILE", 64)
    monkeypatch.setattr(shards.write_shards, "__defaults__", (None, 64))
    tree = {"a": np.arange(10.0), "b": {"c": jnp.ones((3, 3)), "n": 3}}
    path = fx_ckpt.save(tmp_path / "x", tree, backend="safetensors")
    assert len(fx_ckpt.inspect(path).files) == 3
    back = fx_ckpt.restore(path, tree)
    np.testing.assert_array_equal(back["a"], np.arange(10.0))
    assert back["b"]["n"] == 3
    assert list(fx_ckpt.restore(path, only="b/c")) == ["b"]


def index(**weight_map):
    return {"weight_map": weight_map}


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"{", "the index is not one"),
        (index(), "the index names no files"),
        ([], "the index is not one: TypeError"),
        (index(a="../x.safetensors"), "outside of its directory"),
        (index(a="/x.safetensors"), "outside of its directory"),
        (index(a="x\0.safetensors"), "outside of its directory"),
        (index(a="config.json"), "outside of its directory"),
        (index(a=3), "outside of its directory"),
        (index(b="x.safetensors"), "an array that the index has elsewhere"),
        (index(a="x.safetensors", b="x.safetensors"), "in no file(.|\n)*got: b"),
        (index(a="y.safetensors"), "a file is missing"),
    ],
)
def test_indices_that_make_no_sense(tmp_path, content, text):
    write_file(tmp_path / "x.safetensors", {"a": np.ones(2)})
    raw = content if isinstance(content, bytes) else json.dumps(content).encode()
    (tmp_path / "model.safetensors.index.json").write_bytes(raw)
    with pytest.raises(errors.DamagedDataError, match=text):
        fx_ckpt.load_safetensors(tmp_path)


def file_of(header, data=b"", length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + data


def entry(shape, begin, end, dtype="U8", **more):
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end], **more}


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", "the file is empty"),
        (b"\0\0\0", "longer than it may be"),
        (file_of(b"", length=2**63), "longer than it may be"),
        (file_of(b"{}", length=3), "longer than it may be"),
        (file_of(b"{}", length=LARGEST_HEADER + 1), "longer than it may be"),
        (file_of(b" {}"), "no JSON object"),
        (file_of(b"[]"), "no JSON object"),
        (file_of(b"{\xff}"), "no JSON"),
        (file_of(b"{" + b'"a":[' * 100_000), "no JSON"),
        (file_of(b'{"a":1,"a":2}'), "a name twice"),
        (file_of(b'{"a":{"dtype":"U8","dtype":"U8","shape":[],"data_offsets":[0,1]}}', b"x"), "a name twice"),
        (file_of({"__metadata__": {"a": 1}}), "the metadata is not text"),
        (file_of({"__metadata__": []}), "the metadata is not text"),
        (file_of({"a": 3}), "wrong fields"),
        (file_of({"a": entry([1], 0, 1, more=1)}, b"x"), "wrong fields"),
        (file_of({"a": entry([1], 0, 1, "O")}, b"x"), "unknown dtype"),
        (file_of({"a": entry([-1], 0, 1)}, b"x"), "impossible shape"),
        (file_of({"a": entry([True], 0, 1)}, b"x"), "impossible shape"),
        (file_of({"a": entry([1] * 65, 0, 1)}, b"x"), "impossible shape"),
        (file_of({"a": entry([2**48], 0, 2**48)}, b"x"), "impossible offsets"),
        (file_of({"a": entry([1], 0, -1)}, b"x"), "impossible offsets"),
        (file_of({"a": {**entry([1], 0, 1), "data_offsets": [0, 1, 2]}}, b"x"), "impossible offsets"),
        (file_of({"a": entry([2], 0, 1)}, b"x"), "another size than its shape says"),
        (file_of({"a": entry([2**40, 2**40], 0, 1)}, b"x"), "impossible shape"),
        (file_of({"a": entry([2], 0, 2), "b": entry([2], 1, 3)}, b"xyz"), "overlaps another array"),
        (file_of({"a": entry([1], 0, 1), "b": entry([1], 2, 3)}, b"xyz"), "has a hole before it"),
        (file_of({"a": entry([1], 1, 2)}, b"xy"), "has a hole before it"),
        (file_of({"a": entry([1], 0, 1)}, b"xy"), "do not fill the file"),
        (file_of({"a": entry([2], 0, 2)}, b"x"), "do not fill the file"),
        (file_of({}, b"x"), "do not fill the file"),
    ],
)
def test_files_that_make_no_sense(tmp_path, content, text):
    (tmp_path / "x.safetensors").write_bytes(content)
    with pytest.raises(errors.DamagedDataError, match=f"cannot be read(.|\n)*{text}"):
        fx_ckpt.load_safetensors(tmp_path / "x.safetensors")


@pytest.mark.parametrize(
    ("metadata", "text"),
    [
        (None, "the metadata has no layout"),
        ("{", "the metadata has no layout"),
        ("[]", "the layout is no dictionary"),
        ('{"a":3}', "a value is not described"),
        ('{"a":["int"]}', "a value is not described"),
        ('{"a":["object",1]}', "unknown kind"),
        ('{"a":["int",true]}', "unknown kind"),
        ('{"a":["float","x"]}', "a number is not one"),
        ('{"a":["complex",["0x1p0"]]}', "a number is not one"),
        ('{"a":["array","object",[1]]}', "unknown dtype"),
        ('{"a":["array","int8",[-1]]}', "impossible shape"),
        ('{"a":["array","int8",[3]]}', "is not the declared array"),
        ('{"a":["array","int4",[3]]}', "is not the declared array"),
        ('{"b":["array","float64",[2]]}', "an array is missing"),
    ],
)
def test_layouts_that_make_no_sense(tmp_path, metadata, text):
    write_file(tmp_path / "model.safetensors", {"a": np.ones(2)}, None if metadata is None else {"fx.layout": metadata})
    with pytest.raises((errors.DamagedDataError, errors.DamagedDataError), match=text):
        SafetensorsBackend().restore(tmp_path)


def test_layers_of_pytorch_become_ours_and_back(tmp_path):
    theirs = {
        "conv.weight": np.arange(2 * 3 * 5 * 7, dtype=np.float32).reshape(2, 3, 5, 7),
        "conv.bias": np.ones(2, np.float32),
        "blocks.0.norm.weight": np.full(2, 3, np.float32),
        "blocks.0.norm.running_mean": np.full(2, 4, np.float32),
        "blocks.0.norm.running_var": np.full(2, 5, np.float32),
        "head.weight": np.arange(8, dtype=np.float32).reshape(4, 2),
        "words.weight": np.arange(6, dtype=np.float32).reshape(3, 2),
    }
    safetensors.numpy.save_file(theirs, tmp_path / "t.safetensors")
    target = {
        "params": {
            "conv": {"kernel": jnp.zeros((5, 7, 3, 2)), "bias": jnp.zeros(2)},
            "blocks": {"0": {"norm": {"scale": jnp.zeros(2)}}},
            "head": {"kernel": jnp.zeros((2, 4))},
            "words": {"embedding": jnp.zeros((3, 2))},
        },
        "batch_stats": {"blocks": {"0": {"norm": {"mean": jnp.zeros(2), "var": jnp.zeros(2)}}}},
    }
    rules = torch_rules("params/") + torch_rules("batch_stats/")
    ours = fx_ckpt.load_safetensors(tmp_path / "t.safetensors", target, rules=rules)
    np.testing.assert_array_equal(ours["params"]["head"]["kernel"], theirs["head.weight"].T)
    np.testing.assert_array_equal(ours["params"]["words"]["embedding"], theirs["words.weight"])
    kernel = ours["params"]["conv"]["kernel"]
    assert kernel[4, 6, 2, 1] == theirs["conv.weight"][1, 2, 4, 6]
    image = np.random.default_rng(0).standard_normal((1, 8, 9, 3), np.float32)
    a = jax.lax.conv_general_dilated(image, kernel, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"))
    b = jax.lax.conv_general_dilated(image.transpose(0, 3, 1, 2), theirs["conv.weight"], (1, 1), "VALID")
    np.testing.assert_allclose(a, b.transpose(0, 2, 3, 1), rtol=1e-4)
    fx_ckpt.save_safetensors(tmp_path / "again.safetensors", ours, rules=rules)
    again = safetensors.numpy.load_file(tmp_path / "again.safetensors")
    assert sorted(again) == sorted(theirs)
    assert all(np.array_equal(again[name], theirs[name]) for name in theirs)


def test_everything_that_differs_is_in_one_report(tmp_path):
    path = fx_ckpt.save_safetensors(
        tmp_path / "x.safetensors", {"a": np.ones(2), "b": np.ones((2, 3)), "c": np.ones(1)}
    )
    with pytest.raises(
        errors.RestoreMismatchError, match=r"2 places(.|\n)*missing(.|\n)*: d \(d\)(.|\n)*only(.|\n)*: c"
    ):
        fx_ckpt.load_safetensors(path, {"a": np.ones(2), "b": np.ones((2, 3)), "d": np.ones(1)})
    with pytest.raises(errors.RestoreMismatchError, match=r"2 places(.|\n)*a: saved float64\[2\], target float64\[3\]"):
        fx_ckpt.load_safetensors(path, {"a": np.ones(3), "b": np.ones((3, 2)), "c": np.ones(1)})


def test_names_that_rules_cannot_decide(tmp_path):
    path = fx_ckpt.save_safetensors(tmp_path / "x.safetensors", {"e": {"weight": np.ones((2, 3))}})
    with pytest.raises(errors.ArgumentError, match=r"may be e/embedding or e/kernel(.|\n)*Pass a target"):
        fx_ckpt.load_safetensors(path, rules=torch_rules())
    with pytest.raises(errors.ArgumentError, match=r"No rule is for 'q/kernel', which has 3 axes"):
        fx_ckpt.save_safetensors(path, {"q": {"kernel": np.ones((2, 3, 4))}}, rules=torch_rules())
    with pytest.raises(errors.ArgumentError, match=r"No rule is for 'e.weight'"):
        fx_ckpt.load_safetensors(path, rules=[Rule("a", "b")])
    with pytest.raises(errors.ArgumentError, match=r"Two arrays would be called 'a.b'"):
        fx_ckpt.save_safetensors(path, {"a": {"b": np.ones(1)}, "a.b": np.ones(1)})
    write_file(tmp_path / "y.safetensors", {"a": np.ones(1), "a.b": np.ones(1)})
    with pytest.raises(errors.ArgumentError, match="Two arrays would be at"):
        fx_ckpt.load_safetensors(tmp_path / "y.safetensors")


def test_rules():
    rule = Rule("{at*}/layers_{n}/kernel", "{at*}.layer.{n}.weight", axes=(2, 0, 1))
    assert rule.to_theirs("a/b/layers_12/kernel", 3) == "a.b.layer.12.weight"
    assert rule.to_ours("a.b.layer.12.weight", 3) == "a/b/layers_12/kernel"
    assert rule.to_theirs("a/layers_12/kernel", 2) is None
    assert rule.to_theirs("layers_12/kernel", 3) is None
    assert rule.inverse_axes == (1, 2, 0)
    array = np.zeros((2, 3, 4))
    assert array.transpose(rule.axes).transpose(rule.inverse_axes).shape == (2, 3, 4)
    assert find([Rule("a", "b"), rule], "x/layers_0/kernel", 3)[1] is rule
    assert find_back([Rule("a", "b"), rule], "b", 1) == ("a", Rule("a", "b"))


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        (("{a}/x", "{b}.x"), "the same placeholders"),
        (("{a*}/x", "{a}.x"), "the same placeholders"),
        (("a", "b", (0, 2)), "no permutation"),
        (("a", "b", (1, 0), 3), "not as many as its rank"),
    ],
)
def test_rules_that_make_no_sense(rule, text):
    with pytest.raises(errors.ArgumentError, match=text):
        Rule(*rule)


@pytest.mark.parametrize("name", ["", "model.safetensors", "other.safetensors"])
def test_what_killed_saves_left_is_removed_by_the_next_one(tmp_path, name):
    """They were never removed: a copy of the model for every save that was killed."""
    program = "import sys, os, signal, numpy as np, fx_ckpt.safetensors as s\n"
    program += "s.put_in_place = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
    program += "s.save_safetensors(sys.argv[1], {'w': np.ones(3)})"
    for _ in range(2):
        assert subprocess.run([sys.executable, "-c", program, str(tmp_path / name)], check=False).returncode == -9
    (tmp_path / ".notes").mkdir()
    assert len(list(tmp_path.iterdir())) == 2
    fx_ckpt.save_safetensors(tmp_path / name, {"w": np.zeros(3)})
    assert sorted(os.listdir(tmp_path)) == [".notes", name or "model.safetensors"]
    assert fx_ckpt.load_safetensors(tmp_path / name)["w"].tolist() == [0, 0, 0]
