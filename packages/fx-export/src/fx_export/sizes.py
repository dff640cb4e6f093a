"""Expressions of symbolic sizes, such as ``2*batch + 1``."""

import ast
import keyword
import operator
import re
import unicodedata
from collections.abc import Mapping
from typing import Any

import numpy as np

_PYTHON: dict[Any, Any] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Pow: lambda base, power: base ** _small(power),
    "floordiv": operator.floordiv,
    "mod": operator.mod,
    "max": max,
    "min": min,
}


def _small(power: int) -> int:
    if power > 64:
        raise OverflowError(f"{power} is too large a power")
    return power


def is_fixed(size: Any) -> bool:
    """Returns whether a size is a number."""
    return isinstance(size, int | np.integer)


def parsed(size: Any) -> ast.expr:
    """Returns the syntax tree of a size as JAX writes it."""
    return ast.parse(str(size).replace("^", "**"), mode="eval").body


def sizes_in(shape: str) -> list[str]:
    """Returns the sizes in the text of a shape.

    Raises:
      SyntaxError: it is no list of sizes, or has a word of Python for a name; other errors of parsers, too.

    >>> sizes_in("batch, max(2*n, 8), 3")
    ['batch', 'max(2 * n, 8)', '3']
    """
    words = [word for word in re.findall(r"\w+", shape) if keyword.iskeyword(word)]
    if words:
        raise SyntaxError(f"{words[0]!r} is no name")
    # Python's parser, by which sizes are computed, would read another name.
    if not unicodedata.is_normalized("NFKC", shape):
        raise SyntaxError("a name has letters that are written in another way, too")
    nodes: Any = parsed(f"[{shape.strip()}]")
    return [ast.unparse(node) for node in nodes.elts]


def symbols_of(size: Any) -> set[str]:
    """Returns names of the symbols in a size.

    >>> sorted(symbols_of("max(a, 2*b) + 1"))
    ['a', 'b']
    """
    if is_fixed(size):
        return set()
    nodes = list(ast.walk(parsed(size)))
    functions = {node.func for node in nodes if isinstance(node, ast.Call)}
    names = [node for node in nodes if isinstance(node, ast.Name)]
    return {node.id for node in names if node not in functions}


def evaluated(size: Any, symbols: Mapping[str, int]) -> int:
    """Computes a size for sizes of its symbols.

    >>> evaluated("floordiv(a, 2) + max(1, b)", {"a": 7, "b": 0})
    4
    """
    return int(size) if is_fixed(size) else _value(parsed(size), symbols)


def linear(size: Any, known: Mapping[str, int] | None = None) -> tuple[str, int, int] | None:
    """Returns symbol, factor and offset of a size that is linear in one symbol, None for another one.

    Args:
      size: the size.
      known: numbers for other symbols.

    >>> linear("2*n + 1"), linear("n*n"), linear("n*m"), linear("n*m", {"m": 3})
    (('n', 2, 1), None, None, ('n', 3, 0))
    """
    known = known or {}
    names = symbols_of(size) - known.keys()
    if len(names) != 1:
        return None
    (symbol,) = names
    offset = evaluated(size, {**known, symbol: 0})
    factor = evaluated(size, {**known, symbol: 1}) - offset
    same = all(evaluated(size, {**known, symbol: n}) == factor * n + offset for n in (2, 3, 7, 101, 1024))
    return (symbol, factor, offset) if same and factor > 0 else None


def _value(node: Any, symbols: Mapping[str, int]) -> int:
    if isinstance(node, ast.Constant):
        return int(node.value)  # type: ignore[arg-type]
    if isinstance(node, ast.Name):
        return symbols[node.id]
    if isinstance(node, ast.UnaryOp):
        return -_value(node.operand, symbols)
    if isinstance(node, ast.Call):
        name: Any = getattr(node.func, "id", "")
        parts = [_value(part, symbols) for part in node.args]
    else:
        name, parts = type(node.op), [_value(node.left, symbols), _value(node.right, symbols)]
    return _PYTHON[name](*parts)
