"""How the arrays of a file go together with the inputs and outputs of a network."""

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from fx_core.compat import jax as compat
from fx_core.errors import ArgumentError
from fx_core.files import canonical_json
from fx_core.stored_dtypes import NUMBERS

from fx_export.constraints import UNREADABLE, constraint
from fx_export.errors import other_names, unreadable_bundle
from fx_export.inputs import InputCheck, spec_of
from fx_export.keys import key_spec, kind_of, words_of
from fx_export.sizes import is_fixed
from fx_export.trees import described, rebuilt
from fx_export.weights import weight_specs


@dataclasses.dataclass(frozen=True)
class Port:
    """An array that goes into a file's network or comes out of it.

    Attributes:
      name: in the file.
      shape: sizes, symbolic ones included; of the words, where it holds PRNG keys.
      dtype: of its elements.
      keys: the implementation of PRNG keys whose words it holds; empty for numbers.
    """

    name: str
    shape: tuple[Any, ...]
    dtype: np.dtype
    keys: str = ""


def interface_of(
    fn: Callable[..., Any],
    variables: Any,
    inputs: Sequence[Any],
    input_names: Sequence[str] | None = None,
    output_names: Sequence[str] | None = None,
) -> "Interface":
    """Returns the interface of ``fn(variables, *inputs)``.

    Args:
      fn: a function of arrays.
      variables: a pytree of arrays of numbers.
      inputs: examples or `jax.ShapeDtypeStruct`.
      input_names: a name for each array of the inputs; by default ``input``, or ``input_0`` and so on, with paths.
      output_names: the same of the outputs; by default ``output`` with paths.

    Raises:
      ArgumentTypeError: there are more names or fewer, or two are the same.
      UnsupportedProgramError: inputs or outputs are custom containers.
      ArgumentTypeError: a variable is no array of numbers.
    """
    specs = [jax.tree.map(spec_of, value) for value in inputs]
    weights = jax.tree.unflatten(jax.tree.structure(variables), weight_specs(variables))
    out = jax.eval_shape(fn, weights, *specs)
    stems = ["input"] if len(specs) == 1 else [f"input_{number}" for number in range(len(specs))]
    names = [name for stem, spec in zip(stems, specs) for name in _names(stem, spec)]
    return Interface(
        _given_ports("input_names", input_names, names, specs),
        _given_ports("output_names", output_names, _names("output", out), out),
        described(specs),
        described(out),
    )


def _names(stem: str, tree: Any) -> list[str]:
    """Name the leaves of an input or of the outputs by their paths."""
    paths = [path for path, _ in jax.tree_util.tree_leaves_with_path(tree)]
    texts = [jax.tree_util.keystr(path, simple=True, separator="/") for path in paths]
    return [f"{stem}/{text}" if text else stem for text in texts]


def are_names(given: Any, count: int) -> bool:
    """Returns whether these are as many different names, as texts in a sequence."""
    if isinstance(given, str) or not isinstance(given, Sequence) or len(given) != count:
        return False
    return all(isinstance(name, str) and name for name in given) and len(set(given)) == count


def _given_ports(option: str, given: Sequence[str] | None, own: Sequence[str], tree: Any) -> list[Port]:
    if given is not None and not are_names(given, len(own)):
        raise other_names(option, f"{len(own)} different names, for {', '.join(own)}", given)
    leaves = jax.tree.leaves(tree)
    words = [words_of(leaf) for leaf in leaves]
    found = zip(own if given is None else given, words, leaves, strict=True)
    return [Port(name, tuple(w.shape), np.dtype(w.dtype), kind_of(leaf)) for name, w, leaf in found]


class Interface:
    """Puts the arguments of a call into arrays by name, and results back together.

    Args:
      inputs: what goes in, flat.
      outputs: what comes out, flat.
      in_tree: how the inputs go together, see `fx_export.trees.described`.
      out_tree: the same of the outputs.
      path: the file that it comes from, for errors.

    Attributes:
      inputs: see above.
      outputs: see above.
      specs: a pytree of shapes and dtypes for each input.
    """

    def __init__(self, inputs: Sequence[Port], outputs: Sequence[Port], in_tree: Any, out_tree: Any, path: str = ""):
        self.inputs, self.outputs, self._path = list(inputs), list(outputs), path
        self._in_tree, self._out_tree = in_tree, out_tree
        words = [jax.ShapeDtypeStruct(port.shape, port.dtype) for port in inputs]
        flat = [key_spec(port.keys, word) if port.keys else word for port, word in zip(inputs, words)]
        self.specs = rebuilt(in_tree, flat, path)
        self._check = InputCheck(self.specs)

    def renamed(self, inputs: Sequence[str], outputs: Sequence[str]) -> "Interface":
        """Returns the same interface under other names, one for each port."""
        taken, given = (
            [dataclasses.replace(port, name=name) for port, name in zip(ports, names, strict=True)]
            for ports, names in ((self.inputs, inputs), (self.outputs, outputs))
        )
        return Interface(taken, given, self._in_tree, self._out_tree, self._path)

    def write(self, path: Path, **more: Any) -> None:
        """Writes the index of a file's data, with more entries."""
        index = {"in_tree": self._in_tree, "out_tree": self._out_tree, **more}
        index |= constraint_entry(self.inputs)
        for which in ("inputs", "outputs"):
            index[which] = [_described_port(port) for port in getattr(self, which)]
        path.write_text(canonical_json(index, "index"))

    @classmethod
    def read(cls, path: Path) -> tuple["Interface", Mapping[str, Any]]:
        """Reads what `write` wrote: the interface, and the whole index.

        Raises:
          BundleError: it is something else.
        """
        index = read_index(path)
        fields = {"inputs": list, "outputs": list, "in_tree": dict}
        if any(not isinstance(index.get(k), t) for k, t in fields.items()):
            raise unreadable_bundle(str(path), "the index lacks inputs or outputs.", got=str(index)[:100])
        if "out_tree" not in index:
            raise unreadable_bundle(str(path), "the index lacks the structure of the outputs.", got=str(index)[:100])
        scope = constraint_scope(index, str(path))
        inputs, outputs = (_ports(index, which, scope, str(path)) for which in ("inputs", "outputs"))
        return cls(inputs, outputs, index["in_tree"], index["out_tree"], str(path)), index

    def arrays(self, inputs: Sequence[Any]) -> dict[str, np.ndarray]:
        """Returns the inputs of a call by name.

        Raises:
          InputMismatchError: the inputs are not those that were exported.
        """
        leaves = jax.tree.leaves(self._check(inputs))
        return {port.name: np.asarray(words_of(leaf)) for port, leaf in zip(self.inputs, leaves)}

    def results(self, arrays: Sequence[Any]) -> Any:
        """Puts the outputs of a call together, in the order of the ports."""
        leaves = [
            jax.random.wrap_key_data(array, impl=port.keys) if port.keys else array
            for port, array in zip(self.outputs, arrays)
        ]
        return rebuilt(self._out_tree, leaves, self._path)


def _described_port(port: Port) -> dict[str, Any]:
    keys = {"keys": port.keys} if port.keys else {}
    return {"name": port.name, "shape": ", ".join(map(str, port.shape)), "dtype": port.dtype.name, **keys}


def constraint_entry(inputs: Sequence[Any]) -> dict[str, list[str]]:
    """Returns what an index says about the free sizes of arrays.

    A network is simplified by what is known of its sizes: other ones would be computed wrong.

    Args:
      inputs: arrays or their descriptions, with shapes.
    """
    sizes = [size for value in inputs for size in value.shape if not is_fixed(size)]
    texts = dict.fromkeys(text for size in sizes for text in compat.size_constraints(size))
    return {"constraints": list(texts)} if texts else {}


def constraint_scope(index: Mapping[str, Any], path: str) -> jax.export.SymbolicScope:
    """Returns a scope of symbols with the constraints that an index has.

    Raises:
      BundleError: they are malformed.
    """
    texts = index.get("constraints", [])
    try:
        if not isinstance(texts, list):
            raise ValueError("they are no list")
        return jax.export.SymbolicScope(tuple(constraint(text).text for text in texts))
    except (ArgumentError, *UNREADABLE) as error:
        raise unreadable_bundle(path, "the constraints of sizes are malformed.", got=str(texts)[:100]) from error


def _ports(index: Mapping[str, Any], which: str, scope: jax.export.SymbolicScope, path: str) -> list[Port]:
    try:
        return [
            Port(
                str(port["name"]),
                tuple(jax.export.symbolic_shape(str(port["shape"]), scope=scope)) if port["shape"] else (),
                NUMBERS[port["dtype"]],
                str(port.get("keys", "")),
            )
            for port in index[which]
        ]
    # The parser of sizes raises whatever it stumbles upon.
    except Exception as error:
        raise unreadable_bundle(path, f"the {which} are malformed.", got=f"{type(error).__name__}: {error}") from error


def read_index(path: Path, read: Callable[[Path], Any] = Path.read_bytes) -> dict[str, Any]:
    """Returns what is in an index.

    Args:
      path: the file.
      read: gives its bytes.

    Raises:
      BundleError: it is missing, or no object of JSON.
    """
    try:
        index = json.loads(bytes(read(path)))
    except (OSError, ValueError, RecursionError) as error:
        raise unreadable_bundle(str(path), "the index is missing or no JSON.", got=error) from error
    if not isinstance(index, dict):
        raise unreadable_bundle(str(path), "the index is no object.", got=type(index).__name__)
    return index


def signature_of(index: Mapping[str, Any], path: Path) -> str:
    """Returns the name of the signature that an index names.

    Raises:
      BundleError: it names none.
    """
    signature = index.get("signature")
    if not isinstance(signature, str):
        raise unreadable_bundle(str(path), "the index lacks the signature.", got=str(signature)[:100])
    return signature
