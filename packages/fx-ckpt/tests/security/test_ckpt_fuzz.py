"""Random and half-right input for each parser: an error of fx, or something that is what it says it is.

Derandomized, so that every run sees the same input; ``FX_FUZZ=100000`` takes as many random ones instead.
"""

import json
import math
import os
import tracemalloc

import fx_ckpt
import msgpack
import numpy as np
import pytest
from fx_ckpt.backends.layout import assemble
from fx_ckpt.backends.zarr import _check
from fx_ckpt.errors import CheckpointError, DamagedDataError
from fx_ckpt.formats.safetensors_file import read_header
from fx_ckpt.formats.safetensors_shards import read_headers
from fx_ckpt.testing.payloads import PAYLOADS
from fx_ckpt.tree.structure import from_json, to_json
from fx_core._canonical_json import sealed
from fx_core.errors import FxError
from fx_core.errors.files import ManifestError
from fx_core.files import MANIFEST, read_manifest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

EXAMPLES = int(os.environ.get("FX_FUZZ", "0"))
fuzz = settings(
    max_examples=EXAMPLES or 150,
    derandomize=not EXAMPLES,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)

sizes = st.one_of(st.integers(-2, 9), st.sampled_from([2**31, 2**32, 2**47, 2**48, 2**56, 2**63 - 1]), st.booleans())
names = st.sampled_from(
    ["float32", "int4", "bfloat16", "object", "O", "|O8", "f4,O", "datetime64[s]", "x", "__class__"]
)
plain = st.one_of(st.none(), st.booleans(), st.integers(-3, 2**64 - 1), st.floats(), st.text(max_size=4), names)
trees = st.recursive(
    plain, lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=3), inner, max_size=4))
)


def mutations(whole):
    """The bytes with some of them changed, cut out, doubled or put in."""
    edits = st.tuples(st.integers(0, len(whole)), st.integers(0, 8), st.binary(max_size=8))

    def apply(edit):
        at, cut, new = edit
        return whole[:at] + new + whole[at + cut :]

    return edits.map(apply)


def json_of(keys, values):
    """JSON with known fields, mostly."""
    entry = st.fixed_dictionaries({}, optional=dict.fromkeys(keys, values) | {"more": values})
    return st.one_of(entry, trees)


extensions = st.builds(
    lambda code, shape, name, content: msgpack.ExtType(code, msgpack.packb((shape, name, content))),
    st.integers(0, 5),
    st.lists(sizes.filter(lambda size: size < 2**63), max_size=3),
    names,
    st.binary(max_size=16),
)
CHUNKED = st.fixed_dictionaries(
    {"__msgpack_chunked_array__": st.just(True)},
    optional={
        name: st.one_of(extensions, plain, st.dictionaries(st.sampled_from("012x"), st.one_of(extensions, sizes)))
        for name in ("shape", "chunks")
    },
)
GOOD = fx_ckpt.msgpack_serialize({"w": np.arange(3.0), "s": np.float32(1), "c": 1j, "n": {"a": [1, None, "x", b"y"]}})
messages = st.one_of(
    st.binary(max_size=40),
    mutations(GOOD),
    st.recursive(
        st.one_of(extensions, CHUNKED), lambda inner: st.dictionaries(st.text(max_size=2), inner, max_size=3)
    ).map(lambda value: msgpack.packb(value)),
)


@fuzz
@given(messages)
def test_msgpack(data):
    tracemalloc.start()
    try:
        arrays(fx_ckpt.msgpack_restore(data))
    except DamagedDataError as error:
        assert "These bytes cannot be read" in str(error)  # noqa: PT017
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 2**20


def arrays(value):
    """No object is in it, and all its arrays are numbers or dates."""
    if isinstance(value, dict):
        for item in value.values():
            arrays(item)
    elif isinstance(value, list):
        for item in value:
            arrays(item)
    elif isinstance(value, (np.ndarray, np.generic)):
        assert not value.dtype.hasobject
        assert value.dtype.names is None
    else:
        assert value is None or type(value) in (bool, int, float, complex, str, bytes)


ENTRY = st.fixed_dictionaries(
    {"dtype": st.sampled_from(["F32", "U8", "F8_E4M3", "O"]), "shape": st.lists(sizes, max_size=3)},
    optional={"data_offsets": st.lists(st.integers(-1, 20), min_size=1, max_size=3), "more": plain},
)
headers = st.one_of(
    st.binary(max_size=40).map(lambda text: (text, b"")),
    st.tuples(
        st.dictionaries(st.sampled_from(["a", "b", "__metadata__"]), st.one_of(ENTRY, trees)), st.binary(max_size=20)
    ).map(lambda pair: (json.dumps(pair[0]).encode(), pair[1])),
)


@fuzz
@given(headers, st.integers(-3, 3), st.integers(0, 9).map(lambda n: n == 0))
def test_safetensors(tmp_path_factory, header, shift, shifted):
    text, content = header
    path = tmp_path_factory.getbasetemp() / "fuzz.safetensors"
    length = max(0, len(text) + shift * shifted)
    path.write_bytes(length.to_bytes(8, "little") + text + content)
    try:
        extents, metadata = read_header(path)
    except DamagedDataError:
        return
    assert all(type(value) is str for value in metadata.values())
    pieces = sorted(piece for extent in extents.values() for piece in extent.pieces)
    # They cover everything behind the header, once.
    assert sum(size for _, size in pieces) == path.stat().st_size - 8 - length
    for extent in extents.values():
        assert math.prod(extent.shape) * extent.dtype.itemsize == sum(size for _, size in extent.pieces)


@fuzz
@given(
    st.one_of(
        trees.map(json.dumps).map(str.encode),
        st.binary(max_size=30),
        st.dictionaries(
            st.sampled_from("ab"),
            st.sampled_from(["model.safetensors", "../x.safetensors", "/x.safetensors", "x\0.safetensors", "."]),
        ).map(lambda files: json.dumps({"weight_map": files}).encode()),
    )
)
def test_index_of_safetensors(tmp_path_factory, text):
    directory = tmp_path_factory.getbasetemp() / "fuzz-index"
    directory.mkdir(exist_ok=True)
    header = b'{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}'
    (directory / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + b"x")
    (directory / "model.safetensors.index.json").write_bytes(text)
    try:
        found, _ = read_headers(directory)
    except DamagedDataError:
        return
    assert {path for path, _ in found.values()} <= {directory / "model.safetensors"}


LEAF = json_of(
    ["kind", "dtype", "shape", "origin", "weak", "raw", "impl"],
    st.one_of(
        st.sampled_from(["array", "key", "int", "none", "jax", "numpy"]), names, st.lists(sizes, max_size=3), plain
    ),
)
nodes = st.recursive(
    LEAF,
    lambda inner: st.fixed_dictionaries(
        {
            "kind": st.sampled_from(["mapping", "sequence", "fields"]),
            "type": st.one_of(st.text(max_size=4), plain),
            "keys": st.lists(st.one_of(plain, st.lists(plain, max_size=2)), max_size=3),
            "children": st.lists(inner, max_size=3),
        }
    ),
    max_leaves=5,
)


@fuzz
@given(nodes)
def test_structure(data):
    try:
        node = from_json(data)
    except DamagedDataError:
        return
    assert from_json(json.loads(json.dumps(to_json(node)))) == node


@fuzz
@given(st.one_of(st.lists(st.one_of(names, plain, st.lists(sizes, max_size=3)), max_size=3), trees))
def test_layout(entry):
    def fetch(names, dtype, shape):
        assert not dtype.hasobject
        assert all(type(size) is int and size > 0 for size in shape)

    try:
        assemble({"a": entry}, None, fetch)
    except DamagedDataError as error:
        assert "not valid" in str(error)  # noqa: PT017


@fuzz
@given(
    st.one_of(
        st.binary(max_size=30),
        json_of(
            ["shape", "dtype", "filters", "order", "zarr_format", "chunks", "compressor"],
            st.one_of(plain, st.lists(sizes, max_size=2)),
        ).map(lambda x: json.dumps(x).encode()),
    )
)
def test_description_of_an_orbax_array(text):
    with pytest.raises(DamagedDataError):
        _check("name", text, np.dtype(np.float32), (2, 3))


@fuzz
@given(st.one_of(st.binary(max_size=30), trees.map(json.dumps).map(str.encode)))
def test_manifest(tmp_path_factory, content):
    directory = tmp_path_factory.getbasetemp() / "fuzz-manifest"
    directory.mkdir(exist_ok=True)
    (directory / MANIFEST).write_bytes(content)
    with pytest.raises(ManifestError):
        read_manifest(directory, format="fx-checkpoint", version=1)


FIELDS = ["backend", "step", "metrics", "metadata", "created", "written_by", "files", "backend_reason"]
finite = trees.filter(lambda tree: "NaN" not in (text := json.dumps(tree)) and "Infinity" not in text)


@fuzz
@given(st.fixed_dictionaries({"structure": st.one_of(nodes, finite)}, optional=dict.fromkeys(FIELDS, finite)))
def test_manifest_that_is_sealed(tmp_path_factory, fields):
    directory = tmp_path_factory.getbasetemp() / "fuzz-sealed"
    directory.mkdir(exist_ok=True)
    fields = {"backend": "msgpack", "step": 1, "metrics": {}, "metadata": {}, "created": "", "written_by": {}, **fields}
    try:
        content = sealed({"files": {}, "format": "fx-checkpoint", "version": 1, **fields})
    except (FxError, RecursionError):
        return
    (directory / MANIFEST).write_bytes(content)
    for act in (fx_ckpt.inspect, fx_ckpt.verify):
        try:
            act(directory)
        except FxError as error:
            assert str(error)  # noqa: PT017
    with pytest.raises(FxError):
        fx_ckpt.restore(directory)


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["msgpack", "safetensors"])
def test_refusing_takes_little_memory(tmp_path, backend):
    """No more than some times the bytes that are there, whatever they declare."""
    good = fx_ckpt.save(tmp_path / "good", {"w": np.zeros(2, np.float32)}, backend=backend)
    reader = fx_ckpt.draft.load_backend(backend)
    reader.restore(good / "data")
    for number, (name, files) in enumerate(PAYLOADS[backend]().items()):
        directory = tmp_path / str(number) / "data"
        directory.mkdir(parents=True)
        for file, content in files.items():
            if content is not None:
                (directory.parent / file).write_bytes(content)
        size = sum(len(content or b"") for content in files.values())
        tracemalloc.start()
        try:
            reader.restore(directory)
        except (CheckpointError, FileNotFoundError):
            pass
        finally:
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        assert peak < 2**20 + 60 * size, name
