"""Files of `torch.save`, read without PyTorch: the tensors of a ``.pt`` zip, and the containers around them."""

import math
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from fx_core.files import local_path
from fx_core.stored_dtypes import NUMBERS

from fx_export.errors import BundleError
from fx_export.torch.errors import unreadable_torch_file
from fx_export.torch.pickles import Marker, are_keys, shown, unpickled

_LEGACY = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
_LARGEST_PICKLE = 1 << 28
_MOST_ENTRIES = 1_000_000
_MOST_AXES = 32
_AGAIN = "Load it in PyTorch and save the state dictionary by torch.save(model.state_dict(), path)."

_STORAGES = {
    "Float": "float32", "Double": "float64", "Half": "float16", "BFloat16": "bfloat16", "Long": "int64",
    "Int": "int32", "Short": "int16", "Char": "int8", "Byte": "uint8", "Bool": "bool", "ComplexFloat": "complex64",
    "ComplexDouble": "complex128",
}  # fmt: skip
_DTYPES = [*_STORAGES.values(), "uint16", "uint32", "uint64", "float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2",
           "float8_e5m2fnuz", "float8_e8m0fnu"]  # fmt: skip


def read_pt(path: str | os.PathLike[str]) -> Any:
    """Returns what `torch.save` wrote, with NumPy arrays for tensors; neither PyTorch nor an unpickler is used.

    Args:
      path: a file that PyTorch 1.6 or newer wrote (a zip).

    Returns:
      Dicts, lists, tuples, texts and numbers as they were saved. Arrays are read-only; tensors that shared memory, such
      as tied weights, share it here.

    Raises:
      BundleError: the file is damaged, hostile, of the format before 1.6, or holds more than tensors and containers.
      FileNotFoundError: there is nothing at the path.
      ArgumentError: the path is the URL of another place.
    """
    source = local_path(path)
    with open(source, "rb") as file:
        start = file.read(16)
        size = os.fstat(file.fileno()).st_size
        if start[: len(_LEGACY)] == _LEGACY:
            raise unreadable_torch_file(str(source), "it has the format from before PyTorch 1.6.", fix=_AGAIN)
        if not start.startswith(b"PK"):
            raise unreadable_torch_file(str(source), "it is no zip.", got=start, fix=_AGAIN)
        try:
            with zipfile.ZipFile(file) as archive:
                return _Archive(source, archive, size).content()
        # zipfile raises whatever it stumbles upon.
        except (zipfile.BadZipFile, ValueError, OSError, RuntimeError, EOFError, OverflowError, LookupError) as error:
            if isinstance(error, BundleError):
                raise
            problem = f"{type(error).__name__}: {error}"
            raise unreadable_torch_file(str(source), "the zip is damaged.", got=problem) from error


class _Storage:
    """The numbers behind tensors: bytes, with the dtype that its class says, if it says one."""

    def __init__(self, content: bytes, dtype: np.dtype | None):
        self.content, self.dtype = content, dtype


class _Archive:
    """An open file.

    Args:
      path: where it is, for errors.
      archive: the zip.
      size: bytes of the file.
    """

    def __init__(self, path: Path, archive: zipfile.ZipFile, size: int):
        self._path, self._archive = str(path), archive
        infos = archive.infolist()
        self._entries = {info.filename: info for info in infos}
        if len(infos) != len(self._entries) or len(infos) > _MOST_ENTRIES:
            raise self._error("the zip has entries of one name, or too many of them.")
        for info in infos:
            # Stored, as PyTorch writes them: what is not compressed cannot be larger than the file.
            if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1:
                raise self._error(f"the entry {info.filename[:80]!r} is compressed or encrypted.", fix=_AGAIN)
        if sum(info.file_size for info in infos) > size:
            raise self._error("the entries of the zip overlap.")
        self._storages: dict[str, _Storage] = {}

    def content(self) -> Any:
        names = [name for name in self._entries if name.count("/") == 1 and name.endswith("/data.pkl")]
        if len(names) != 1:
            raise self._error("it has no data.pkl, or several.", got=sorted(self._entries)[:5], fix=_AGAIN)
        self._root = names[0].removesuffix("data.pkl")
        if self._root + "constants.pkl" in self._entries:
            raise self._error("it is a program of TorchScript.", fix=_AGAIN)
        if self._root + "byteorder" in self._entries and self._read("byteorder", 16) != b"little":
            raise self._error("its numbers are big-endian.", fix=_AGAIN)
        return unpickled(self._read("data.pkl", _LARGEST_PICKLE), self._path, _known(self), self._persistent)

    def _error(self, problem: str, got: Any = None, fix: str = "Use another copy of the file.") -> BundleError:
        return unreadable_torch_file(self._path, problem, got, fix)

    def _read(self, name: str, most: int) -> bytes:
        info = self._entries.get(self._root + name)
        if info is None:
            raise self._error(f"the entry {name[:80]!r} is missing.")
        if info.file_size > most:
            raise self._error(f"the entry {name[:80]!r} is too large.", got=f"{info.file_size} bytes")
        return self._archive.read(info)

    def _persistent(self, reference: Any) -> _Storage:
        match reference:
            case ("storage", Marker(name=name), str(key), str(), int(count), *_) if key.isalnum():
                return self._storage(name, key, count)
        raise self._error("it refers to something that is no storage of a tensor.", got=shown(reference))

    def _storage(self, name: str, key: str, count: int) -> _Storage:
        kind = name.removeprefix("torch.").removeprefix("storage.").removesuffix("Storage")
        if kind not in _STORAGES and kind != "Untyped":
            raise self._error("a storage has an unknown type.", got=name)
        dtype = NUMBERS[_STORAGES[kind]] if kind in _STORAGES else None
        found = self._storages.get(key)
        if found is None:
            found = self._storages[key] = _Storage(self._read(f"data/{key}", 1 << 62), dtype)
        if found.dtype != dtype or len(found.content) != count * (dtype.itemsize if dtype else 1):
            raise self._error(f"the storage {key} has another size or type than the pickle says.", got=count)
        return found

    def tensor(self, storage: Any, offset: Any, shape: Any, strides: Any, *rest: Any) -> np.ndarray:
        """A tensor; what follows are gradients and hooks, which are left out."""
        return self._view(storage, getattr(storage, "dtype", None), offset, shape, strides)

    def tensor_of_dtype(
        self, storage: Any, offset: Any, shape: Any, strides: Any, grad: Any, hooks: Any, dtype: Any, *rest: Any
    ) -> np.ndarray:
        """A tensor of a dtype that has no class of storages."""
        name = dtype.name.removeprefix("torch.") if isinstance(dtype, Marker) else ""
        return self._view(storage, NUMBERS.get(name) if name in _DTYPES else None, offset, shape, strides)

    def parameter(self, data: Any, *rest: Any) -> np.ndarray:
        """A parameter is its tensor."""
        if not isinstance(data, np.ndarray):
            raise self._error("a parameter is no tensor.")
        return data

    def _view(self, storage: Any, dtype: np.dtype | None, offset: Any, shape: Any, strides: Any) -> np.ndarray:
        natural = all(_naturals(numbers) for numbers in ((offset,), shape, strides))
        if not isinstance(storage, _Storage) or dtype is None or not natural or len(shape) != len(strides):
            raise self._error("a tensor is malformed.", got=shown((str(dtype), offset, shape, strides)))
        held, count = len(storage.content) // dtype.itemsize, math.prod(shape)
        if not count and math.prod(size or 1 for size in shape) < 1 << 56:
            return np.zeros(shape, dtype)
        last = offset + sum((size - 1) * stride for size, stride in zip(shape, strides))
        # Strides of zero would make large arrays of few bytes.
        if not 0 < count <= held or last >= held:
            raise self._error("a tensor lies outside of its storage.", got=f"{shape} in {held} elements")
        if dtype == np.bool_ and np.frombuffer(storage.content, np.uint8).max(initial=0) > 1:
            raise self._error("a tensor of booleans holds other numbers.")
        steps = tuple(stride * dtype.itemsize for stride in strides)
        return np.ndarray(shape, dtype, storage.content, offset * dtype.itemsize, steps)


def _naturals(numbers: Any) -> bool:
    return (
        isinstance(numbers, tuple)
        and len(numbers) <= _MOST_AXES
        and all(type(number) is int and 0 <= number < 1 << 56 for number in numbers)
    )


def _ordered(*arguments: Any) -> dict[Any, Any]:
    if not arguments:
        return {}
    pairs = [tuple(pair) for pair in arguments[0]]
    if len(arguments) > 1 or not are_keys(pair[0] for pair in pairs):
        raise ValueError("an ordered dictionary has keys that are no texts or numbers")
    return dict(pairs)


def _sized(sizes: tuple[Any, ...] = ()) -> tuple[Any, ...]:
    return tuple(sizes) if isinstance(sizes, (tuple, list)) else ()


def _known(archive: _Archive) -> Mapping[str, Marker]:
    """Everything that a pickle may name."""
    calls = {
        "collections.OrderedDict": _ordered,
        "torch.Size": _sized,
        "torch._utils._rebuild_tensor": archive.tensor,
        "torch._utils._rebuild_tensor_v2": archive.tensor,
        "torch._utils._rebuild_tensor_v3": archive.tensor_of_dtype,
        "torch._utils._rebuild_parameter": archive.parameter,
        "torch._utils._rebuild_parameter_with_state": archive.parameter,
    }
    names = [f"torch.{kind}Storage" for kind in _STORAGES] + ["torch.storage.UntypedStorage", "torch.UntypedStorage"]
    names += [f"torch.{dtype}" for dtype in _DTYPES]
    return {name: Marker(name, calls.get(name)) for name in [*calls, *names]}
