"""Checkpoints made to harm whoever opens them: sealed correctly, and wrong in one place."""

import json
import os
import pickle
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from fx_core.files import MANIFEST, AtomicDirectory

from fx_ckpt.formats.digests import digest_file
from fx_ckpt.operations import save
from fx_ckpt.testing.payloads import BAIT, PAYLOADS

__all__ = ["BAIT", "cases"]

_TREE = {"w": np.arange(2, dtype=np.float32), "n": {"step": 1}}
Build = Callable[[Path, Path], None]


def cases(backend: str) -> Iterator[tuple[str, Build]]:
    """Returns a name and a function for each hostile checkpoint of a backend.

    The function makes it at its first argument; the second is a directory outside, with something worth stealing.
    """
    for name, change in _MANIFESTS.items():
        yield f"manifest: {name}", lambda path, outside, change=change: _with_fields(path, backend, change)
    for name, trap in _TRAPS.items():
        yield f"directory: {name}", lambda path, outside, trap=trap: _with_trap(path, backend, outside, trap)
    for name, content in _RAW_MANIFESTS.items():
        yield f"manifest file: {name}", lambda path, outside, content=content: _raw_manifest(path, backend, content)
    for name, files in PAYLOADS.get(backend, dict)().items():
        yield f"{backend}: {name}", lambda path, outside, files=files: _with_files(path, backend, files)


def _with_fields(path: Path, backend: str, change: Mapping[str, Any]) -> None:
    _resealed(save(path.with_name("base"), _TREE, backend=backend), path, change, {})


def _with_files(path: Path, backend: str, files: Mapping[str, bytes | None]) -> None:
    _resealed(save(path.with_name("base"), _TREE, backend=backend), path, {}, files)


def _resealed(base: Path, path: Path, change: Mapping[str, Any], files: Mapping[str, bytes | None]) -> None:
    """Write a checkpoint anew, with other fields and files, and a manifest that fits them."""
    manifest = json.loads((base / MANIFEST).read_text())
    with AtomicDirectory(path, format="fx-checkpoint", version=1, digest=digest_file) as new:
        shutil.copytree(base, new.directory, dirs_exist_ok=True)
        for name, content in files.items():
            if content is None:
                (new.directory / name).unlink()
            else:
                (new.directory / name).write_bytes(content)
        kept = {name: value for name, value in manifest.items() if name not in ("files", "digest")} | dict(change)
        new.manifest.update({name: value for name, value in kept.items() if value is not _ABSENT})
    shutil.rmtree(base)


def _with_trap(path: Path, backend: str, outside: Path, trap: Callable[[Path, Path], None]) -> None:
    trap(save(path, _TREE, backend=backend), outside)


def _raw_manifest(path: Path, backend: str, content: bytes) -> None:
    (save(path, _TREE, backend=backend) / MANIFEST).write_bytes(content)


def _nested(depth: int) -> Any:
    node: Any = {"kind": "array", "dtype": "float32"}
    for _ in range(depth):
        node = {"kind": "mapping", "type": "dict", "keys": ["a"], "children": [node]}
    return node


def _tree(**leaf: Any) -> dict[str, Any]:
    """A structure that fits the files but for one leaf."""
    step = {"kind": "mapping", "type": "dict", "keys": ["step"], "children": [{"kind": "int"}]}
    wanted = {"kind": "array", "dtype": "float32", "shape": [2], "origin": "numpy", **leaf}
    return {"kind": "mapping", "type": "dict", "keys": ["w", "n"], "children": [wanted, step]}


def _same_hash(count: int, nested: bool = False) -> dict[str, Any]:
    """A dictionary whose keys Python has to compare with each other: multiples of the prime that it hashes by."""
    keys: list[Any] = [number * (2**61 - 1) for number in range(1, count + 1)]
    keys = [[key, "x"] for key in keys] if nested else keys
    return {"kind": "mapping", "type": "dict", "keys": keys, "children": [{"kind": "int"}] * count}


_ABSENT = object()
_MANIFESTS: dict[str, dict[str, Any]] = {
    "no structure": {"structure": _ABSENT},
    "no backend": {"backend": _ABSENT},
    "a structure that is a number": {"structure": 3},
    "a structure nested 240 deep": {"structure": _nested(240)},
    "a backend that is a path": {"backend": "../../outside/plugin"},
    "a backend that is a module": {"backend": f"{BAIT}:Backend"},
    "a backend that is a list": {"backend": [BAIT]},
    "a type that is a module": {"structure": {"kind": BAIT, "type": f"{BAIT}.Evil", "keys": [], "children": []}},
    "an array that is an object": {"structure": _tree(dtype="object")},
    "an array of Python objects": {"structure": _tree(dtype="|O", raw=True)},
    "a dtype with fields": {"structure": _tree(dtype="f4,O", raw=True)},
    "a dtype that is an import": {"structure": _tree(dtype=f"{BAIT}.dtype")},
    "strings of a gigabyte each": {"structure": _tree(dtype="<U268435456", raw=True, shape=[2])},
    "an array of 2**70 numbers": {"structure": _tree(shape=[2**35, 2**35])},
    "a shape with a negative size": {"structure": _tree(shape=[-2])},
    "a shape of 65 axes": {"structure": _tree(shape=[1] * 65)},
    "a shape that is a text": {"structure": _tree(shape="2")},
    "keys of an unknown kind": {"structure": {**_tree(), "keys": ["w", {"a": 1}]}},
    "a key twice": {"structure": {**_tree(), "keys": ["w", "w"]}},
    "more keys than children": {"structure": {**_tree(), "keys": ["w", "n", "x"]}},
    "PRNG keys of a module": {"structure": _tree(kind="key", impl=BAIT)},
    "PRNG keys that are no keys": {"structure": _tree(kind="key", impl="threefry2x32")},
    "a leaf that is not in the files": {"structure": {**_tree(), "keys": ["v", "n"]}},
    "metrics that are no numbers": {"metrics": {"loss": "high"}},
    "metrics that are a list": {"metrics": [1]},
    "a metric of 400 digits": {"metrics": {"loss": 10**400}},
    "a step that is a text": {"step": "\x1b[31m1"},
    "a step that is a truth": {"step": True},
    "a date that is a list": {"created": []},
    "versions that are numbers": {"written_by": {"jax": 1}},
    "versions that are a list": {"written_by": []},
    "a reason that is a dictionary": {"backend_reason": {}},
    "20,000 keys of one hash": {"structure": _same_hash(20_000)},
    "tuples of one hash as keys": {"structure": _same_hash(20_000, nested=True)},
    "a key of half a character": {"structure": {**_tree(), "keys": ["\ud800", "n"]}},
}


def _hard_link(path: Path, outside: Path) -> None:
    victim = _largest(path)
    victim.unlink()
    os.link(outside / "secret", victim)


def _symbolic_link(path: Path, outside: Path) -> None:
    victim = _largest(path)
    shutil.move(victim, outside / "moved")
    victim.symlink_to(outside / "moved")


def _linked_folder(path: Path, outside: Path) -> None:
    shutil.move(path / "data", outside / "data")
    (path / "data").symlink_to(outside / "data")


def _linked_manifest(path: Path, outside: Path) -> None:
    shutil.move(path / MANIFEST, outside / "moved")
    (path / MANIFEST).symlink_to(outside / "moved")


def _pipe(path: Path, outside: Path) -> None:
    victim = _largest(path)
    victim.unlink()
    os.mkfifo(victim)


def _pipe_for_manifest(path: Path, outside: Path) -> None:
    (path / MANIFEST).unlink()
    os.mkfifo(path / MANIFEST)


def _link_to_device(path: Path, outside: Path) -> None:
    victim = _largest(path)
    victim.unlink()
    victim.symlink_to("/dev/zero")


def _link_beside(path: Path, outside: Path) -> None:
    (path / "data" / "more").symlink_to(outside / "secret")


def _chain_of_links(path: Path, outside: Path) -> None:
    victim = _largest(path)
    shutil.move(victim, outside / "moved")
    (path / "data" / "one").symlink_to(outside / "moved")
    victim.symlink_to(path / "data" / "one")


def _loop_of_links(path: Path, outside: Path) -> None:
    victim = _largest(path)
    victim.unlink()
    victim.symlink_to(victim.name)


def _link_to_folder(path: Path, outside: Path) -> None:
    victim = _largest(path)
    victim.unlink()
    victim.symlink_to(".")


def _link_to_manifest(path: Path, outside: Path) -> None:
    victim = _largest(path)
    victim.unlink()
    victim.symlink_to(path / MANIFEST)


def _linked_place(path: Path, outside: Path) -> None:
    (path / MANIFEST).unlink()
    (path.with_name(f".{path.name}.fx-old")).symlink_to(outside)
    shutil.rmtree(path)


def _largest(path: Path) -> Path:
    return max((p for p in (path / "data").rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)


_TRAPS: dict[str, Callable[[Path, Path], None]] = {
    "a symbolic link for a file": _symbolic_link,
    "a hard link for a file": _hard_link,
    "a symbolic link for the data": _linked_folder,
    "a symbolic link for the manifest": _linked_manifest,
    "a pipe for a file": _pipe,
    "a pipe for the manifest": _pipe_for_manifest,
    "a link to an endless device": _link_to_device,
    "a link beside the files": _link_beside,
    "links over links that lead out": _chain_of_links,
    "a link to itself": _loop_of_links,
    "a link to a folder inside": _link_to_folder,
    "a link to another file inside": _link_to_manifest,
    "a link for what was replaced": _linked_place,
}


def _names(name: str) -> bytes:
    # Not sealed: names are refused whether the digest fits or not, and `read_manifest` has a test of its own for that.
    return json.dumps({"files": {name: {"size": 1, "digest": "sha256:0"}}}).encode()


_RAW_MANIFESTS = {
    "empty": b"",
    "pickle": pickle.dumps({"a": 1}),
    "zeros": bytes(1000),
    "nested 100,000 deep": b"[" * 100_000,
    "objects nested 100,000 deep": b'{"a":' * 100_000,
    "a number of 10,000 digits": b'{"version": ' + b"9" * 10_000 + b"}",
    "names above": _names("../secret"),
    "absolute names": _names("/etc/passwd"),
    "a name with a zero byte": _names("data\0x"),
}
