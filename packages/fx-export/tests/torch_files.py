"""Files of `torch.save`, made by hand."""

import pickle
import zipfile

import numpy as np


def plain(value):
    """A pickle of something plain, without beginning and end."""
    return pickle.dumps(value, 2)[2:-1]


def named(module, name):
    return f"c{module}\n{name}\n".encode()


ORDERED = named("collections", "OrderedDict") + b")R"


def storage(key="0", kind="FloatStorage", count=6, module="torch"):
    return b"(" + plain("storage") + named(module, kind) + plain(key) + plain("cpu") + plain(count) + b"tQ"


def tensor(where=None, offset=0, shape=(2, 3), strides=(3, 1), function="_rebuild_tensor_v2", more=b""):
    where = storage() if where is None else where
    arguments = where + plain(offset) + plain(shape) + plain(strides) + b"\x89" + ORDERED + more
    return named("torch._utils", function) + b"(" + arguments + b"tR"


def dictionary(**items):
    return b"}(" + b"".join(plain(name) + value for name, value in items.items()) + b"u"


def write(path, content, entries=None, root="archive", compression=zipfile.ZIP_STORED):
    """Write a file.

    Args:
      path: the file.
      content: instructions that make the content.
      entries: the storages, by key; by default one of six floats.
      root: name of the directory in the zip.
      compression: of the zip.
    """
    entries = {"0": np.arange(6, dtype=np.float32).tobytes()} if entries is None else entries
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr(f"{root}/data.pkl", b"\x80\x02" + content + b".")
        archive.writestr(f"{root}/byteorder", "little")
        for key, data in entries.items():
            archive.writestr(f"{root}/data/{key}", data)
        archive.writestr(f"{root}/version", "3\n")
    return path
