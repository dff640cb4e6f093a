"""Contents of data files made to harm whoever reads them."""

import json
import pickle
from collections.abc import Callable, Mapping
from typing import Any

import msgpack

__all__ = ["BAIT", "PAYLOADS"]

BAIT = "fx_ckpt_bait"
"""Name of a module that hostile files name; a test puts it on the path and sees whether it is imported."""

Payloads = dict[str, dict[str, bytes | None]]

_PICKLE = pickle.dumps({"w": 1})
_BROKEN_INDEX = {"empty": b"", "pickle": _PICKLE, "zeros": bytes(100), "its start alone": b"\x0c\xdb\x3a\x2a"}


def _packed(value: Any) -> bytes:
    packed = msgpack.packb(value)
    assert packed is not None
    return packed


def msgpack_payloads() -> Payloads:
    """Files for the msgpack backend, for the tree ``{"w": two float32, "n": {"step": 1}}``."""

    def array(shape: Any, dtype: Any, content: Any) -> bytes:
        return _packed({"w": msgpack.ExtType(1, _packed((shape, dtype, content))), "n": {"step": 1}})

    def pieces(**changes: Any) -> bytes:
        piece = msgpack.ExtType(1, _packed(([2], "float32", bytes(8))))
        whole = {"__msgpack_chunked_array__": True, "shape": {"0": 2}, "chunks": {"0": piece}, **changes}
        return _packed({"w": whole, "n": {"step": 1}})

    contents = {
        "empty": b"",
        "pickle": _PICKLE,
        "nothing but one byte": b"\x81",
        "an array of objects": array([2], "object", bytes(16)),
        "an array of O": array([2], "O", bytes(16)),
        "an array of fields": array([2], "f4,O", bytes(16)),
        "a dtype that is a list": array([2], [["a", "O"]], bytes(16)),
        "a dtype of a module": array([2], BAIT, bytes(8)),
        "more elements than bytes": array([2**40], "float32", bytes(8)),
        "fewer elements than bytes": array([1], "float32", bytes(8)),
        "a product that overflows": array([2**32, 2**32, 2**32], "float32", b""),
        "no elements of a huge shape": array([0, 2**47, 2**47], "float32", b""),
        "a negative size": array([-1, -2], "float32", bytes(8)),
        "a shape that is a number": array(2, "float32", bytes(8)),
        "a truth as a size": array([True, 2], "float32", bytes(8)),
        "content that is a text": array([2], "float32", "12345678"),
        "an unknown extension": _packed({"w": msgpack.ExtType(42, b"x"), "n": {"step": 1}}),
        "a time stamp": _packed({"w": msgpack.Timestamp(1), "n": {"step": 1}}),
        "a binary of 4 GB": b"\x82\xa1w\xc6\xff\xff\xff\xff",
        "an extension of 4 GB": b"\x82\xa1w\xc9\xff\xff\xff\xff\x01",
        "a text of 4 GB": b"\x82\xdb\xff\xff\xff\xff",
        "4 billion entries": b"\xdf\xff\xff\xff\xff",
        "4 billion items": b"\x81\xa1w\xdd\xff\xff\xff\xff",
        "4 million empty lists": b"\xdd" + (4_000_000).to_bytes(4, "big") + b"\x90" * 4_000_000,
        "4 million empty dictionaries": b"\xdd" + (4_000_000).to_bytes(4, "big") + b"\x80" * 4_000_000,
        "lists nested 100,000 deep": b"\x91" * 100_000,
        "dictionaries nested 100,000 deep": b"\x81\xa1a" * 100_000,
        "a key twice": b"\x82\xa1w\x01\xa1w\x02",
        "a key that is a list": b"\x81\x90\x01",
        "a text that is no text": b"\x81\xa2\xff\xff\x01",
        "something after the end": _packed({}) + b"\x00",
        "a byte without meaning": b"\xc1",
        "another tree": _packed({"v": 1}),
        "a number instead of a tree": _packed(1),
        "an array in pieces without pieces": pieces(chunks={}),
        "an array in pieces of another shape": pieces(shape={"0": 2**40}),
        "pieces that are numbers": pieces(chunks={"0": 1}),
        "a shape of pieces that is a text": pieces(shape="2"),
        "pieces with other names": pieces(chunks={"x": 1}),
    }
    payloads = _each("data/state.msgpack", contents)
    return {**payloads, "no file": {"data/state.msgpack": None, "data/other": b""}}


def orbax_payloads() -> Payloads:
    """Files for the Orbax backend, for the same tree."""

    def layout(value: Any) -> bytes:
        return json.dumps(value).encode()

    def leaf(*entry: Any) -> bytes:
        return layout({"w": list(entry), "n": {"step": ["int", 1]}})

    contents = {
        "empty": b"",
        "pickle": _PICKLE,
        "a list": b"[]",
        "nested 100,000 deep": b'{"a":' * 100_000,
        "nested 5,000 deep": b'{"a":' * 5_000 + b"1" + b"}" * 5_000,
        "an array of objects": leaf("array", "object", [2]),
        "an array of another shape": leaf("array", "float32", [2**40]),
        "a negative size": leaf("array", "float32", [-2]),
        "a shape that is a text": leaf("array", "float32", "2"),
        "no elements of a huge shape": leaf("array", "float32", [0, 2**62, 2**62]),
        "an unknown kind": leaf(BAIT, "x"),
        "a kind too short": leaf("array"),
        "nothing": leaf(),
        "a float that is no number": leaf("float", "x"),
        "an int that is a text": leaf("int", "1"),
        "a complex number of one part": leaf("complex", ["0x1p0"]),
        "an array of another dtype": leaf("array", "int32", [2]),
        "an array that is not there": layout({"v": ["array", "float32", [2]], "n": {"step": ["int", 1]}}),
    }
    payloads = _each("data/layout.json", contents)
    metadata = {
        "empty": b"",
        "pickle": _PICKLE,
        "no JSON": b"{",
        "a list": b"[]",
        "a number": b"3",
        "nested 100,000 deep": b'{"a":' * 100_000,
        "without a tree": b"{}",
        "a tree that is a number": b'{"tree_metadata": 3}',
        "a tree of nothing": b'{"tree_metadata": {"(\'w\',)": {}}}',
    }
    inner: Payloads = {f"metadata: {name}": {"data/arrays/_METADATA": content} for name, content in metadata.items()}
    inner |= {f"index: {name}": {"data/arrays/manifest.ocdbt": c} for name, c in _BROKEN_INDEX.items()}
    return {**payloads, **inner, "no layout": {"data/layout.json": None}}


def _each(file: str, contents: Mapping[str, bytes]) -> Payloads:
    return {name: {file: content} for name, content in contents.items()}


def safetensors_payloads() -> Payloads:
    """Files for the safetensors backend, for the tree ``{"w": two float32, "n": {"step": 1}}``."""
    declared = json.dumps({"w": ["array", "float32", [2]], "n": {"step": ["int", 1]}})
    good = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}

    def file(header: Any, content: bytes = bytes(8), length: int | None = None) -> bytes:
        text = header if isinstance(header, bytes) else json.dumps(header).encode()
        return (len(text) if length is None else length).to_bytes(8, "little") + text + content

    def with_w(content: bytes = bytes(8), **changes: Any) -> bytes:
        return file({"__metadata__": {"fx.layout": declared}, "w": {**good, **changes}}, content)

    def layout(text: Any) -> bytes:
        return file({"__metadata__": {"fx.layout": text}, "w": good})

    twice = json.dumps({"__metadata__": {"fx.layout": declared}})[:-1] + f', "w": {json.dumps(good)}' * 2 + "}"
    contents = {
        "empty": b"",
        "pickle": _PICKLE,
        "seven bytes": bytes(7),
        "a header of 2**63 bytes": file(b"{}", length=2**63),
        "a header longer than the file": file(b"{}", length=100),
        "a header above the cap": file(b"{}", length=100_000_001),
        "a header that is a list": file(b"[]"),
        "a header nested 100,000 deep": file(b'{"a":' * 100_000),
        "a header that is no text": file(b"{\xff\xff}"),
        "a name twice": file(twice.encode()),
        "no metadata": file({"w": good}),
        "metadata that is a list": file({"__metadata__": [1], "w": good}),
        "metadata of numbers": file({"__metadata__": {"fx.layout": 1}, "w": good}),
        "an unknown dtype": with_w(dtype="O"),
        "a dtype that is a module": with_w(dtype=BAIT),
        "a dtype that is a list": with_w(dtype=["F32"]),
        "a negative size": with_w(shape=[-2]),
        "a huge shape": with_w(shape=[2**40, 2**40]),
        "no elements of a huge shape": with_w(shape=[0, 2**47, 2**47], data_offsets=[0, 0]),
        "a shape that is a text": with_w(shape="2"),
        "a truth in the shape": with_w(shape=[True, 2]),
        "more elements than bytes": with_w(shape=[2**30], data_offsets=[0, 2**32]),
        "offsets that go back": with_w(data_offsets=[8, 0]),
        "negative offsets": with_w(data_offsets=[-8, 0]),
        "offsets beyond the file": with_w(data_offsets=[2**40, 2**40 + 8]),
        "a hole in front": with_w(bytes(16), data_offsets=[8, 16]),
        "a hole at the end": with_w(bytes(16)),
        "an overlap": file(
            {"__metadata__": {"fx.layout": declared}, "w": good, "v": {**good, "data_offsets": [4, 12]}}
        ),
        "the same bytes twice": file({"__metadata__": {"fx.layout": declared}, "w": good, "v": good}),
        "another field": with_w(more=1),
        "a layout that is no JSON": layout("{"),
        "a layout that is a list": layout("[]"),
        "a layout nested 50,000 deep": layout('{"a":' * 50_000),
        "a layout with an object": layout(json.dumps({"w": ["array", "object", [2]], "n": {"step": ["int", 1]}})),
        "a layout of another shape": layout(
            json.dumps({"w": ["array", "float32", [2**40]], "n": {"step": ["int", 1]}})
        ),
        "a layout with another array": layout(json.dumps({"v": ["array", "float32", [2]], "n": {"step": ["int", 1]}})),
    }
    whole = {"data/model.safetensors": with_w()}
    index = "data/model.safetensors.index.json"
    maps: dict[str, Any] = {
        "an index of a file above": {"w": "../../outside/secret"},
        "an index of an absolute file": {"w": "/etc/passwd"},
        "an index of a name with a zero byte": {"w": "model\0.safetensors"},
        "an index of a file that is not there": {"w": "other.safetensors"},
        "an index of an array that is not there": {"w": "model.safetensors", "v": "model.safetensors"},
        "an index without arrays": {},
        "an index that is a list": ["w"],
        "an index of numbers": {"w": 1},
    }
    indices = {name: json.dumps({"weight_map": files}).encode() for name, files in maps.items()}
    indices |= {"an index that is pickle": _PICKLE, "an index nested 100,000 deep": b"[" * 100_000}
    return {
        **_each("data/model.safetensors", contents),
        **{name: {**whole, index: text} for name, text in indices.items()},
        "no file": {"data/model.safetensors": None},
    }


PAYLOADS: dict[str, Callable[[], Payloads]] = {
    "msgpack": msgpack_payloads,
    "orbax": orbax_payloads,
    "safetensors": safetensors_payloads,
}
"""Files by name for each backend, by what is wrong with them."""
