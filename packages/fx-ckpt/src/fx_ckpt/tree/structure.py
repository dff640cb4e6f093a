"""The shape of a stored tree: which containers, which keys, which kinds of leaves; everything but the numbers.

A manifest holds it as JSON, so that a checkpoint comes back exactly without the program that wrote it, and can be
compared with a target before any array is read.
"""

import collections
import dataclasses
import math
from collections.abc import Iterable
from typing import Any, Literal

from fx_core.stored_dtypes import NUMBERS

from fx_ckpt.errors import invalid_structure
from fx_ckpt.tree.dtypes import possible_shape

BranchKind = Literal["mapping", "sequence", "fields"]
Key = str | int | float | bool | None | tuple["Key", ...]
Path = tuple[tuple[str, Key], ...]

BRANCHES: tuple[BranchKind, ...] = ("mapping", "sequence", "fields")
SCALARS = ("none", "bool", "int", "float", "complex", "str", "bytes")
ORIGINS = ("jax", "numpy", "scalar")
_ALIKE = 1000
DEEPEST = 200
"""Trees may be nested this deep."""


@dataclasses.dataclass(frozen=True, slots=True)
class Leaf:
    """One leaf.

    Attributes:
      kind: ``"array"``, ``"key"`` (typed PRNG keys), or a Python type of `SCALARS`.
      dtype: of an array, by name; for dtypes that backends do not know, NumPy's code such as ``"<U3"``.
      shape: of an array, or of an array of keys.
      origin: of an array: ``"jax"``, ``"numpy"`` or ``"scalar"`` (a NumPy scalar).
      weak: whether a JAX array is weakly typed.
      raw: whether the bytes of the array were stored instead of the array.
      impl: implementation of PRNG keys.
      sharding: how the array was laid out over several devices; for people.
    """

    kind: str
    dtype: str = ""
    shape: tuple[int, ...] = ()
    origin: str = "jax"
    weak: bool = False
    raw: bool = False
    impl: str = ""
    sharding: str = dataclasses.field(default="", compare=False)

    @property
    def size(self) -> int | None:
        """Bytes of an array; None for what is no array of numbers."""
        if self.kind != "array" or self.dtype not in NUMBERS:
            return None
        return math.prod(self.shape) * NUMBERS[self.dtype].itemsize

    def __str__(self) -> str:
        if self.kind == "array":
            return f"{self.dtype}{list(self.shape)}{' (weakly typed)' * self.weak}"
        if self.kind == "key":
            return f"PRNG key {self.impl}{list(self.shape)}"
        return "None" if self.kind == "none" else f"Python {self.kind}"


@dataclasses.dataclass(frozen=True, slots=True)
class Branch:
    """One container.

    Attributes:
      kind: whether its children have keys, positions or field names.
      type: its Python type, ``"dict"``, ``"list"``, ``"tuple"`` or ``"module.Class"``; for people, never imported.
      keys: keys, positions or names, in order.
      children: what is below, in the same order.
    """

    kind: BranchKind
    type: str
    keys: tuple[Key, ...]
    children: tuple["Node", ...]


Node = Leaf | Branch


def state_names(branch: Branch) -> list[str]:
    """Returns the name in the state dictionary for each key; a string is its own name, unless that is taken."""
    if branch.kind == "fields" or branch.kind == "sequence":
        return [str(key) for key in branch.keys]
    strings = {key for key in branch.keys if type(key) is str}
    taken: set[str] = set(strings)
    names: list[str] = []
    for key in branch.keys:
        name = str(key)
        while type(key) is not str and name in taken:
            name += "'"
        taken.add(name)
        names.append(name)
    return names


def to_json(node: Node) -> dict[str, Any]:
    """Returns the structure as plain JSON data."""
    if isinstance(node, Leaf):
        return {
            field.name: list(value) if isinstance(value, tuple) else value
            for field in dataclasses.fields(Leaf)
            if (value := getattr(node, field.name)) != field.default
        }
    keys = [_key_to_json(key) for key in node.keys]
    return {"kind": node.kind, "type": node.type, "keys": keys, "children": [to_json(c) for c in node.children]}


def from_json(data: Any, depth: int = 0) -> Node:
    """Reads a structure, trusting nothing.

    Raises:
      DamagedDataError: it is not what `to_json` gives.
    """
    if depth > DEEPEST:
        raise invalid_structure(f"it is nested more than {DEEPEST} deep")
    if not isinstance(data, dict):
        raise invalid_structure("a node is not an object", data)
    return _branch(data, depth) if data.get("kind") in BRANCHES else _leaf(data)


def _branch(data: dict[str, Any], depth: int) -> Branch:
    keys, children = data.get("keys"), data.get("children")
    if data.keys() != {"kind", "type", "keys", "children"} or type(data["type"]) is not str:
        raise invalid_structure("a container has wrong fields", sorted(data))
    if not (isinstance(keys, list) and isinstance(children, list) and len(keys) == len(children)):
        raise invalid_structure("a container's keys and children do not match", data["type"])
    parsed = tuple(_key_from_json(key) for key in keys)
    _check_keys(parsed, data["type"])
    if data["kind"] == "sequence" and parsed != tuple(range(len(parsed))):
        raise invalid_structure("a sequence has wrong positions", data["type"])
    if data["kind"] == "fields" and not all(type(key) is str for key in parsed):
        raise invalid_structure("field names are not strings", data["type"])
    return Branch(data["kind"], data["type"], parsed, tuple(from_json(child, depth + 1) for child in children))


def _check_keys(keys: tuple[Key, ...], name: str) -> None:
    hashes = collections.Counter(hash(key) for key in keys if type(key) is not str)
    # Numbers can be chosen so that their hashes are equal: a dictionary of them takes quadratic time.
    if hashes and max(hashes.values()) > _ALIKE:
        raise invalid_structure("a container has too many keys with one hash", name)
    if len({step_of("mapping", key) for key in keys}) != len(keys):
        raise invalid_structure("a container has a key twice", name)


def _leaf(data: dict[str, Any]) -> Leaf:
    shape = data.get("shape", [])
    if data.get("kind") not in (*SCALARS, "array", "key") or data.get("origin", "jax") not in ORIGINS:
        raise invalid_structure("a leaf is of an unknown kind", data.get("kind"))
    if not possible_shape(shape):
        raise invalid_structure("a leaf has an impossible shape", shape)
    types = {
        "dtype": str,
        "weak": bool,
        "raw": bool,
        "impl": str,
        "sharding": str,
        "kind": str,
        "origin": str,
        "shape": list,
    }
    if not all(name in types and type(value) is types[name] for name, value in data.items()):
        raise invalid_structure("a leaf has wrong fields", sorted(data))
    return Leaf(**{**data, "shape": tuple(shape)})


def _key_to_json(key: Key) -> Any:
    return [_key_to_json(part) for part in key] if isinstance(key, tuple) else key


def _key_from_json(key: Any) -> Key:
    if isinstance(key, list):
        return tuple(_key_from_json(part) for part in key)
    if key is None or type(key) in (int, float, bool) or (type(key) is str and is_text(key)):
        return key
    raise invalid_structure("a key is of an unknown kind", key)


def render(path: Path) -> str:
    """Returns a path as text: ``params/Dense_0/kernel``, ``opt_state[0]/mu``, ``tree{7}`` for keys that are no strings.

    >>> render((("name", "layers"), ("index", 0), ("key int", 7), ("name", "w")))
    'layers[0]{7}/w'
    """
    return "".join(map(_rendered, path)).removeprefix("/") or "the root"


def spelled(paths: Iterable[Path]) -> dict[Path, str]:
    """Returns each path as `render` does, but a key with a slash or bracket in braces where two paths would read alike.

    >>> nested, flat = (("name", "a"), ("name", "b")), (("name", "a/b"),)
    >>> list(spelled([nested, flat]).values()), list(spelled([flat]).values())
    (['a/b', "{'a/b'}"], ['a/b'])
    """
    paths = list(paths)
    texts: dict[Path, str] = {(): ""}
    owners: dict[str, set[Path]] = {}
    for path in paths:
        for end in range(1, len(path) + 1):
            if path[:end] not in texts:
                texts[path[:end]] = text = texts[path[: end - 1]] + _rendered(path[end - 1])
                owners.setdefault(text, set()).add(path[:end])
    shared = {path for places in owners.values() if len(places) > 1 for path in places}
    if not shared:
        return {path: texts[path].removeprefix("/") or "the root" for path in paths}
    return {path: _apart(path, shared) for path in paths}


def _apart(path: Path, shared: set[Path]) -> str:
    text = ""
    for end, (kind, key) in enumerate(path, start=1):
        special = kind == "name" and any(char in str(key) for char in "/[{")
        # What is alike may be so by a key further up.
        alike = special and any(path[:length] in shared for length in range(end, len(path) + 1))
        text += f"{{{key!r}}}" if alike else _rendered((kind, key))
    return text.removeprefix("/") or "the root"


def _rendered(step: tuple[str, Key]) -> str:
    kind, key = step
    return f"/{key}" if kind == "name" else f"[{key}]" if kind == "index" else f"{{{key!r}}}"


def is_text(text: str) -> bool:
    """Returns whether a string can be encoded: halves of characters, as broken file names bring them, cannot.

    >>> is_text("ü"), is_text("\\ud800")
    (True, False)
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def step_of(kind: str, key: Key) -> tuple[str, Key]:
    """Returns one step of a path, such that names of fields and string keys are the same.

    Other keys carry their types, since 1, 1.0 and True are equal.

    >>> step_of("mapping", 1) == step_of("mapping", True)
    False
    """
    if kind == "sequence":
        return "index", key
    return ("name", key) if type(key) is str else (f"key {_types(key)}", key)


def _types(key: Key) -> str:
    if isinstance(key, tuple):
        return f"({', '.join(map(_types, key))})"
    # 0.0 and -0.0 are equal, too.
    return f"float {key.hex()}" if type(key) is float else type(key).__name__
