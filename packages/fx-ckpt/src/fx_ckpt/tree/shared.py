"""What is one object in a target, such as tied parameters of a module, is one object again when it was restored."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from fx_core.identity import identity_of

from fx_ckpt.errors import RestoreMismatchError
from fx_ckpt.tree.nodes import open_node
from fx_ckpt.tree.structure import Path, render, step_of

__all__ = ["Shared"]


class Shared:
    """The nodes of a target whose identity counts, with what was restored for them.

    Places share what one object has in both, or several objects that stand beside each other. The same object given
    twice, as in ``{"params": model, "averages": model}``, is two targets that look alike.
    """

    def __init__(self) -> None:
        self._made: dict[int, tuple[Path, Any]] = {}
        self._outermost: set[int] = set()
        self._memo = self._made
        self._depth = 0
        self._different: list[str] = []

    def once(self, target: Any, path: Path, make: Callable[[], Any]) -> Any:
        """Returns what was made for a node of the target, made now if it is the first time, or if it is no
        shared one.
        """
        identity = identity_of(target)
        if identity is None or (identity == "variable" and not self._depth):
            return make()
        if not self._depth:
            self._memo = {} if id(target) in self._outermost else self._made
            self._outermost.add(id(target))
        self._depth += 1
        try:
            made = make()
        finally:
            self._depth -= 1
        first_path, first = self._memo.setdefault(id(target), (path, made))
        if first is not made:
            same = f"{render(first_path)}, which is the same object"
            if target is first or target is made:
                self._different.append(f"{render(path)}: restore both or none of it and {same}")
            elif not _equal(first, made):
                self._different.append(f"{render(path)}: another value than {same}")
        return first

    def kept(self, target: Any, path: Path) -> Any:
        """Returns a part of the target that is not restored, and note what in it is shared."""
        self.once(target, path, lambda: target)
        opened = open_node(target)
        if opened is not None:
            self._depth += identity_of(target) is not None
            for key, child in zip(opened.keys, opened.children):
                self.kept(child, (*path, step_of(opened.kind, key)))
            self._depth -= identity_of(target) is not None
        return target

    def check(self) -> None:
        """Refuses a checkpoint that holds different values for what is one object.

        Raises:
          RestoreMismatchError: it does.
        """
        if self._different:
            raise RestoreMismatchError("the target", [], [], self._different)


def _equal(one: Any, other: Any) -> bool:
    ones, others = jax.tree.leaves(one), jax.tree.leaves(other)
    return len(ones) == len(others) and all(map(_same_bits, ones, others))


def _same_bits(one: Any, other: Any) -> bool:
    if isinstance(one, jax.Array) and isinstance(other, jax.Array):
        if jnp.issubdtype(one.dtype, jax.dtypes.prng_key):
            one, other = jax.random.key_data(one), jax.random.key_data(other)
        pairs = list(zip(one.addressable_shards, other.addressable_shards, strict=True))
        return one.dtype == other.dtype and all(_bytes(a.data) == _bytes(b.data) for a, b in pairs)
    return type(one) is type(other) and _bytes(one) == _bytes(other)


def _bytes(value: Any) -> Any:
    return np.asarray(value).tobytes() if isinstance(value, jax.Array | np.ndarray | np.generic) else repr(value)
