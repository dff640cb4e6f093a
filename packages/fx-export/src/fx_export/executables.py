"""What JAX compiled, kept in a directory for later processes."""

import hashlib
import logging
import os
import secrets
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import jax
import jax.core
import jax.export
import numpy as np
from fx_core.compat import jax as compat
from fx_core.files import make_directory

from fx_export.sizes import is_fixed

_LOG = logging.getLogger("fx.export")
_DIGEST = 32


class Executables:
    """Calls a program with executables from a directory, and puts there what is missing.

    A file is found by the program, the sizes of the inputs, the versions of JAX and its compiler, and the hardware;
    what does not load is compiled anew.

    Args:
      directory: where they are; whoever can write there can run code here.
      program: the program.
      call: it as a function that JAX has compiled.
      weights: the first argument of each call.

    Raises:
      AlreadyExistsError: the directory is a file.
    """

    def __init__(self, directory: str, program: jax.export.Exported, call: Any, weights: Sequence[Any]):
        self._directory, self._program, self._call, self._weights = Path(directory), program, call, list(weights)
        make_directory(self._directory)
        self._device = self._weights[0].device if self._weights else jax.devices()[0]
        self._known: dict[Any, Callable[..., Any]] = {}
        self._prepared: dict[Any, Callable[..., Any]] = {}
        settings = [compat.compiler_version(self._device), _processor(), os.environ.get("XLA_FLAGS", "")]
        self._version = hashlib.sha256(program.mlir_module_serialized + repr(settings).encode())

    def prepare(self, inputs: Sequence[Any]) -> None:
        """Loads what is there for inputs of these shapes and dtypes, so that the first call has it at hand.

        Args:
          inputs: descriptions; nothing is known where one has a free size.
        """
        leaves = jax.tree.leaves(list(inputs))
        if all(is_fixed(size) for leaf in leaves for size in leaf.shape):
            # A call tries again, and says what is wrong.
            with suppress(Exception):
                executable = self._loaded(self._path(leaves), inputs)
                if executable is not None:
                    self._prepared[_kind(leaves)] = executable

    def __call__(self, inputs: Sequence[Any]) -> Any:
        """Computes."""
        leaves, treedef = jax.tree.flatten(list(inputs))
        if not all(map(self._is_here, leaves)):
            return self._call(self._weights, *inputs)
        leaves = [leaf if isinstance(leaf, jax.Array) else np.asarray(leaf) for leaf in leaves]
        kind = _kind(leaves)
        inputs = jax.tree.unflatten(treedef, leaves)
        if kind in self._known:
            return self._known[kind](self._weights, *inputs)
        path = self._path(leaves)
        try:
            executable = self._prepared.pop(kind, None) or self._loaded(path, inputs)
            result = None if executable is None else executable(self._weights, *inputs)
        # What JAX raises here has many classes, and compiling is always possible.
        except Exception as error:
            _LOG.warning("%s does not load, and is compiled anew: %s", path, error)
            executable = result = None
        if executable is None:
            executable = compat.compiled_anew(self._call.lower(self._weights, *inputs))
            _write(path, compat.executable_bytes(executable))
            result = executable(self._weights, *inputs)
        self._known[kind] = executable
        return result

    def _path(self, leaves: Sequence[Any]) -> Path:
        name = self._version.copy()
        name.update(repr(_kind(leaves)).encode())
        return self._directory / f"{name.hexdigest()}.executable"

    def _is_here(self, leaf: Any) -> bool:
        """Whether an executable for one device takes an array: not if it is traced, or lies elsewhere."""
        if isinstance(leaf, jax.core.Tracer):
            return False
        return not isinstance(leaf, jax.Array) or leaf.devices() == {self._device}

    def _loaded(self, path: Path, inputs: Sequence[Any]) -> Callable[..., Any] | None:
        try:
            content = path.read_bytes()
        except OSError:
            return None
        payload = content[_DIGEST:]
        if hashlib.sha256(payload).digest() != content[:_DIGEST]:
            _LOG.warning("%s is damaged, and is compiled anew", path)
            return None
        in_tree = jax.tree.structure(((self._weights, *inputs), {}))
        return compat.executable_of(payload, in_tree, self._program.out_tree, self._device)


def _kind(leaves: Sequence[Any]) -> tuple[Any, ...]:
    return tuple((tuple(leaf.shape), str(leaf.dtype)) for leaf in leaves)


def _write(path: Path, payload: bytes) -> None:
    """Write a file that appears whole; a disk that is full only means that it is compiled again."""
    hidden = path.with_name(f".{path.name}-{secrets.token_hex(4)}")
    try:
        try:
            hidden.write_bytes(hashlib.sha256(payload).digest() + payload)
            os.replace(hidden, path)
        finally:
            hidden.unlink(missing_ok=True)
    except OSError as error:
        _LOG.warning("what was compiled is not kept in %s: %s", path.parent, error)


def _processor() -> str:
    """Returns which instructions this processor has, where the system says so."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    features = [line for line in lines if line.startswith(("flags", "Features"))]
    return repr([os.uname().machine if hasattr(os, "uname") else os.name, *features[:1]])
