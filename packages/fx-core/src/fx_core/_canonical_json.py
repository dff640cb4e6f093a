"""JSON with one spelling for each value, so that its bytes can be compared and sealed."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from fx_core.errors.kinds import ArgumentError

_DEEPEST = 500


def canonical_json(value: Any, what: str) -> str:
    """JSON with one spelling for each value.

    Args:
      value: what to encode.
      what: what it is, for the error.

    Raises:
      ArgumentError: JSON cannot hold it: other types, keys that are not strings, NaN and infinities.
    """
    _require_json(value, what, 0)
    return json.dumps(value, sort_keys=True, allow_nan=False)


def _require_json(value: Any, what: str, depth: int) -> None:
    # `json.dumps` turns other keys into strings, and tuples into lists, without a word.
    if depth > _DEEPEST:
        raise _not_json(what, f"it is nested more than {_DEEPEST} deep.")
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise _not_json(what, f"the key {key!r} is of type {type(key).__name__}.")
            _require_json(item, what, depth + 1)
    elif isinstance(value, list):
        for item in value:
            _require_json(item, what, depth + 1)
    elif type(value) is float and value - value != 0:
        raise _not_json(what, f"{value} is not a finite number.")
    elif value is not None and type(value) not in (bool, int, float, str):
        raise _not_json(what, f"{value!r} is of type {type(value).__name__}.")


def sealed(manifest: Mapping[str, Any]) -> bytes:
    """Returns the bytes of a manifest, the digest of the rest of it included."""
    # A line for each field: people can read it, and the fast encoder, which cannot indent, does the work.
    lines = [f"{json.dumps(key)}: {canonical_json(manifest[key], key)}" for key in sorted(manifest)]
    digest = hashlib.sha256("\n".join(lines).encode()).hexdigest()
    lines.append(f'"digest": "sha256:{digest}"')
    return ("{\n" + ",\n".join(lines) + "\n}\n").encode()


def _not_json(what: str, problem: str) -> ArgumentError:
    return ArgumentError(
        f"The {what} cannot be stored as JSON: {problem}",
        expected="dicts with string keys, lists, strings, finite numbers, booleans, None",
        fix="Convert it before saving, or put arrays into the tree.",
    )
