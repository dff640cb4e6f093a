"""Files of `torch.save` are read without PyTorch, and nothing in them runs."""

import copyreg
import os
import pickle
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest
from fx_core.errors import FxError
from fx_core.stored_dtypes import NUMBERS
from fx_export.torch import BundleError, from_torch, read_pt
from fx_export.torch.archive import _DTYPES, _STORAGES
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_files import ORDERED, dictionary, named, plain, storage, tensor, write

SIX = np.arange(6, dtype=np.float32).reshape(2, 3)


def test_tensors_come_with_their_strides_and_containers(tmp_path):
    parameter = named("torch._utils", "_rebuild_parameter") + b"(" + tensor() + b"\x88" + ORDERED + b"tR"
    content = dictionary(
        whole=tensor(),
        turned=tensor(shape=(3, 2), strides=(1, 3)),
        part=tensor(offset=2, shape=(2,), strides=(2,)),
        scalar=tensor(offset=5, shape=(), strides=()),
        empty=tensor(shape=(0, 3), strides=(3, 1)),
        parameter=parameter,
        nested=dictionary(
            step=plain(3), size=named("torch", "Size") + b"(" + plain((2, 3)) + b"tR", rest=plain([1.5, None])
        ),
    )
    found = read_pt(write(tmp_path / "x.pt", content))
    expected = {"whole": SIX, "turned": SIX.T, "part": [2, 4], "scalar": 5, "empty": np.zeros((0, 3)), "parameter": SIX}
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == np.float32
        assert not found[name].flags.writeable or not found[name].size
    assert found["nested"] == {"step": 3, "size": (2, 3), "rest": [1.5, None]}
    assert np.shares_memory(found["whole"], found["turned"])


@pytest.mark.parametrize("kind", _STORAGES)
def test_dtypes_of_storages(kind, tmp_path):
    array = np.array([1, 0, 1]).astype(np.dtype(_STORAGES[kind]) if _STORAGES[kind] != "bfloat16" else "float32")
    data = array.tobytes() if _STORAGES[kind] != "bfloat16" else b"\x80\x3f\0\0\x80\x3f"
    where = storage(kind=f"{kind}Storage", count=3)
    found = read_pt(write(tmp_path / "x.pt", tensor(where, shape=(3,), strides=(1,)), {"0": data}))
    assert found.dtype.name == _STORAGES[kind]
    np.testing.assert_array_equal(found.astype(array.dtype), array)


@pytest.mark.parametrize("dtype", [name for name in _DTYPES if name in NUMBERS.keys() - _STORAGES.values()])
def test_dtypes_without_a_storage_of_their_own(dtype, tmp_path):
    size = {"uint16": 2, "uint32": 4, "uint64": 8}.get(dtype, 1)
    where = storage(kind="UntypedStorage", count=size * 2, module="torch.storage")
    content = tensor(where, 0, (2,), (1,), "_rebuild_tensor_v3", named("torch", dtype))
    found = read_pt(write(tmp_path / "x.pt", content, {"0": bytes(size * 2)}))
    assert (found.dtype.name, found.tobytes()) == (dtype, bytes(size * 2))


def refused(path, text):
    with pytest.raises(BundleError, match=text) as caught:
        read_pt(path)
    assert str(path) in str(caught.value)


class Runs:
    def __reduce__(self):
        return os.system, ("touch /tmp/fx-torch-was-here",)


# A tuple of two of the tuple before, sixty times: whoever looks at all of it never ends.
DOUBLED = b"K\x01\x85q\x00" + b"".join(b"0h%ch%c\x86q%c" % (n, n, n + 1) for n in range(60))
DOUBLED_OFFSET = named("torch._utils", "_rebuild_tensor_v2") + b"(" + storage() + DOUBLED + b"))NNtR"

HOSTILE = {
    "doubled references": (DOUBLED + b"Q", "no storage of a tensor"),
    "doubled keys": (b"}" + DOUBLED + b"K\x01s", "keys that are no texts"),
    "doubled elements of sets": (b"\x8f(" + DOUBLED + b"\x90", "a set in it holds something else"),
    "doubled ordered keys": (named("collections", "OrderedDict") + b"]" + DOUBLED + b"K\x01\x86a\x85R", "ordered"),
    "doubled offsets": (DOUBLED_OFFSET, "a tensor is malformed"),
    "code": (pickle.dumps(Runs(), 2)[2:-1], "objects of Python(.|\n)*posix.system"),
    "builtins": (named("builtins", "eval") + b"(" + plain("1") + b"tR", "builtins.eval"),
    "a module": (named("torch.nn.modules.linear", "Linear") + b")\x81", "torch.nn.modules.linear.Linear"),
    "dotted names": (plain("torch") + plain("_utils.os.system") + b"\x93", "objects of Python"),
    "attributes of a function": (named("torch._utils", "_rebuild_tensor_v2") + b"}b", "sets attributes"),
    "attributes of a class": (named("collections", "OrderedDict") + b"}b", "sets attributes"),
    "calls of what is no function": (named("torch", "FloatStorage") + b")R", "calls something"),
    "calls of texts": (plain("eval") + b")R", "calls something"),
    "extensions": (b"\x82\x01", "instruction EXT1"),
    "instances": (b"(ios\nsystem\n", "instruction INST"),
    "objects": (b"(" + named("collections", "OrderedDict") + b"o", "instruction OBJ"),
    "changed tuples": (b")" + plain(1) + b"a", "no container"),
    "unhashable keys": (b"}]" + plain(1) + b"s", "keys that are no texts"),
    "no storage": (plain(("storage", "FloatStorage", "0", "cpu", 6)) + b"Q", "no storage of a tensor"),
    "a path as key": (storage(key="../../etc/passwd"), "no storage of a tensor"),
    "a missing storage": (storage(key="1"), "'data/1' is missing"),
    "a short storage": (storage(count=7), "another size or type"),
    "two dtypes": (b"]" + storage() + b"a" + storage(kind="IntStorage") + b"a", "another size or type"),
    "an unknown storage": (storage(kind="QInt8Storage"), "torch.QInt8Storage"),
    "beyond the end": (tensor(offset=1), "outside of its storage"),
    "strides beyond the end": (tensor(strides=(4, 1)), "outside of its storage"),
    "negative strides": (tensor(strides=(-3, 1)), "a tensor is malformed"),
    "a negative offset": (tensor(offset=-1), "a tensor is malformed"),
    "negative sizes": (tensor(shape=(-2, 3)), "a tensor is malformed"),
    "huge sizes": (tensor(shape=(2**62, 2**62)), "a tensor is malformed"),
    "huge empty sizes": (tensor(shape=(0, 2**55, 2**55), strides=(1, 1, 1)), "outside of its storage"),
    "large arrays of few bytes": (tensor(shape=(2**40,), strides=(0,)), "outside of its storage"),
    "too many axes": (tensor(shape=(1,) * 40, strides=(1,) * 40), "a tensor is malformed"),
    "sizes that are no numbers": (tensor(shape=("2", 3)), "a tensor is malformed"),
    "a tensor without storage": (tensor(where=plain(3)), "a tensor is malformed"),
    "a parameter of nothing": (named("torch._utils", "_rebuild_parameter") + b"(" + plain(3) + b"tR", "no tensor"),
    "too few arguments": (named("torch._utils", "_rebuild_tensor_v2") + b")R", "the pickle is malformed"),
    "an empty stack": (b"0", "the pickle is malformed"),
    "two results": (plain(1) + plain(2), "the pickle is malformed"),
    "a mark too few": (b"u", "the pickle is malformed"),
    "memory that is not there": (b"h\x09", "the pickle is malformed"),
    "long texts": (plain("x" * 70_000), "longer than any name"),
    "long numbers": (plain(1 << 600_000), "longer than any name"),
    "a text without end": (b"X\xff\xff\xff\x7f", "the pickle is malformed"),
}  # fmt: skip


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_pickles(case, tmp_path):
    content, text = HOSTILE[case]
    refused(write(tmp_path / "x.pt", content), text)
    assert not os.path.exists("/tmp/fx-torch-was-here")


def test_extensions_that_a_program_has_registered_are_not_used(tmp_path):
    copyreg.add_extension("os", "system", 240)
    try:
        refused(write(tmp_path / "x.pt", b"\x82\xf0" + b"(" + plain("false") + b"tR"), "EXT1")
    finally:
        copyreg.remove_extension("os", "system", 240)


def test_booleans_are_zero_or_one(tmp_path):
    content = tensor(storage(kind="BoolStorage", count=3), shape=(3,), strides=(1,))
    assert read_pt(write(tmp_path / "x.pt", content, {"0": b"\0\1\1"})).tolist() == [False, True, True]
    refused(write(tmp_path / "y.pt", content, {"0": b"\0\1\2"}), "booleans")


def test_other_files_are_named(tmp_path):
    old = tmp_path / "old.pt"
    old.write_bytes(pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(1001, 2))
    refused(old, "before PyTorch 1.6(.|\n)*save the state dictionary")
    text = tmp_path / "text.pt"
    text.write_text("weights")
    refused(text, "it is no zip")
    with zipfile.ZipFile(tmp_path / "plain.zip", "w") as archive:
        archive.writestr("a.txt", "b")
    refused(tmp_path / "plain.zip", "no data.pkl")
    script = write(tmp_path / "script.pt", plain(1))
    with zipfile.ZipFile(script, "a") as archive:
        archive.writestr("archive/constants.pkl", b"")
    refused(script, "TorchScript")
    with pytest.raises(FileNotFoundError):
        read_pt(tmp_path / "none.pt")
    with pytest.raises(FxError, match="gs://"):
        read_pt("gs://bucket/x.pt")


def test_hostile_zips(tmp_path):
    path = write(
        tmp_path / "bomb.pt", tensor(storage(count=1 << 24)), {"0": bytes(1 << 26)}, compression=zipfile.ZIP_DEFLATED
    )
    tracemalloc.start()
    refused(path, "compressed")
    assert tracemalloc.get_traced_memory()[1] < 1 << 22
    tracemalloc.stop()
    twice = write(tmp_path / "twice.pt", plain(1))
    with pytest.warns(UserWarning, match="Duplicate name"), zipfile.ZipFile(twice, "a") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02N.")
    refused(twice, "entries of one name")
    big = write(tmp_path / "big.pt", plain(1))
    big.write_bytes(big.read_bytes().replace(b"little", b"big   "))
    refused(big, "the zip is damaged|big-endian")


def test_entries_that_overlap_are_refused(tmp_path):
    path = write(tmp_path / "x.pt", tensor(), {"0": SIX.tobytes(), "1": bytes(400)})
    data = bytearray(path.read_bytes())
    # The central directory says that a small entry is a large one, whose bytes are those of others.
    at = data.rindex(b"archive/data/0") - 46
    data[at + 20 : at + 28] = struct.pack("<II", 600, 600)
    path.write_bytes(data)
    refused(path, "overlap|damaged")


@given(draw=st.data())
@settings(max_examples=60, deadline=None)
def test_damaged_files_are_refused_or_read(draw, tmp_path_factory):
    path = write(tmp_path_factory.mktemp("x") / "x.pt", dictionary(a=tensor(), b=plain([1, "x"])))
    content = bytearray(path.read_bytes())
    for _ in range(draw.draw(st.integers(1, 4))):
        content[draw.draw(st.integers(0, len(content) - 1))] = draw.draw(st.integers(0, 255))
    path.write_bytes(content[: draw.draw(st.sampled_from([len(content), len(content) // 2, 40]))])
    try:
        read_pt(path)
    except BundleError:
        return


@given(st.binary(max_size=60))
@settings(max_examples=200, deadline=None)
def test_any_bytes_as_a_pickle(tmp_path_factory, content):
    path = write(tmp_path_factory.getbasetemp() / "any.pt", b"" + content)
    try:
        read_pt(path)
    except BundleError:
        return


def test_dictionaries_inside_of_themselves_end(tmp_path):
    path = write(tmp_path / "x.pt", b"}q\1" + plain("a") + b"h\1s")
    with pytest.raises(ValueError, match="nested too deeply"):
        from_torch(path, {"a": np.zeros(2)})
