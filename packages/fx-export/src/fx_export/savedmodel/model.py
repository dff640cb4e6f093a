"""A network as a module of TensorFlow, saved and run."""

import dataclasses
import errno
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from fx_export.errors import input_mismatch, refused_by_format, unreadable_bundle
from fx_export.interface import Interface, Port
from fx_export.savedmodel.program import static, tensorflow

CPU = "/device:CPU:0"


def tensorflow_names(ports: Sequence[Port]) -> list[str]:
    """Returns names that arguments of TensorFlow's functions may have: letters, digits and underscores.

    >>> tensorflow_names([Port("input/h", (), np.dtype("int32")), Port("input_h", (), np.dtype("int32"))])
    ['input_h', 'input_h_1']
    """
    names: list[str] = []
    for port in ports:
        stem = re.sub(r"\W", "_", port.name, flags=re.ASCII)
        stem = stem if stem[:1].isalpha() else f"x{stem}"
        name, count = stem, 0
        while name in names:
            count += 1
            name = f"{stem}_{count}"
        names.append(name)
    return names


@dataclasses.dataclass(frozen=True)
class Signature:
    """A computation of a SavedModel.

    Attributes:
      op: returns the outputs for the weights and the inputs.
      places: for each weight that the operation takes, which variable of the model it is.
      interface: names, shapes and dtypes of inputs and outputs.
    """

    op: Callable[[Sequence[Any]], Sequence[Any]]
    places: Sequence[int]
    interface: Interface


def save_model(directory: Path, weights: Sequence[tuple[str, np.ndarray]], signatures: Mapping[str, Signature]) -> None:
    """Writes a SavedModel: weights as variables, and computations as signatures that share them.

    Args:
      directory: where to write.
      weights: names and arrays.
      signatures: the computations by name.

    Raises:
      UnsupportedProgramError: TensorFlow does not take a program.
      OSError: TensorFlow cannot write there, such as on a full disk.
    """
    tf = tensorflow()
    module = tf.Module()
    try:
        with tf.device(CPU):
            module.weights = [tf.Variable(array, name=_variable_name(name)) for name, array in weights]
            functions = {name: _function(module, signature) for name, signature in signatures.items()}
            _save(module, directory, functions)
    except (tf.errors.OpError, ValueError, TypeError, NotImplementedError) as error:
        raise refused_by_format(_problem(error)) from error


def _save(module: Any, directory: Path, functions: Mapping[str, Any]) -> None:
    tf = tensorflow()
    try:
        tf.saved_model.save(module, str(directory), signatures=functions)
    # As which TensorFlow raises what the system says of files.
    except (
        tf.errors.ResourceExhaustedError,
        tf.errors.OutOfRangeError,
        tf.errors.PermissionDeniedError,
        tf.errors.UnknownError,
    ) as error:
        code = errno.ENOSPC if isinstance(error, tf.errors.ResourceExhaustedError) else errno.EIO
        raise OSError(code, f"TensorFlow cannot write: {_problem(error)}", str(directory)) from error


def _function(module: Any, signature: Signature) -> Any:
    """A computation on the variables of a module as a function of TensorFlow."""
    tf, interface = tensorflow(), signature.interface

    def computed(**arrays: Any) -> dict[str, Any]:
        inputs = [arrays[port.name] for port in interface.inputs]
        results = signature.op([*(module.weights[place] for place in signature.places), *inputs])
        return {port.name: result for port, result in zip(interface.outputs, results, strict=True)}

    specs = {port.name: tf.TensorSpec(static(port.shape), port.dtype) for port in interface.inputs}
    return tf.function(computed, autograph=False).get_concrete_function(**specs)


def load_model(directory: Path) -> Any:
    """Loads a SavedModel on the CPU.

    Raises:
      BundleError: TensorFlow does not load it.
    """
    tf = tensorflow()
    try:
        with tf.device(CPU):
            return tf.saved_model.load(str(directory))
    # TensorFlow raises classes of its own, KeyError and whatever its parsers stumble upon.
    except Exception as error:
        raise unreadable_bundle(str(directory), "TensorFlow does not load the model.", got=_problem(error)) from error


def _variable_name(path: str) -> str:
    """A path as a name of TensorFlow's, which has fewer letters."""
    name = re.sub(r"[^\w./-]", "_", path, flags=re.ASCII).strip("/") or "variables"
    return name if name[0].isalnum() or name[0] == "." else f"x{name}"


class SavedModel:
    """A loaded SavedModel; call it with the inputs.

    Args:
      model: what `load_model` returned.
      interface: of the network.
      signature: which to call.
      path: where it is, for errors.

    Attributes:
      inputs: shapes and dtypes of the inputs.

    Raises:
      BundleError: the model has no such signature.
    """

    def __init__(self, model: Any, interface: Interface, signature: str, path: Path):
        self._interface, self.inputs = interface, interface.specs
        # Its variables live as long as it does.
        self._model, self._tf = model, tensorflow()
        if signature not in model.signatures:
            raise unreadable_bundle(
                str(path), f"the model has no signature {signature!r}.", got=", ".join(model.signatures)
            )
        self._function = model.signatures[signature]

    def __call__(self, *inputs: Any) -> Any:
        """Computes.

        Raises:
          InputMismatchError: the inputs are not those that were exported.
          UnsupportedProgramError: TensorFlow lacks a function that JAX has, such as a decomposition of matrices.
        """
        arrays, tf = self._interface.arrays(inputs), self._tf
        try:
            with tf.device(CPU):
                results: Mapping[str, Any] = self._function(**{name: tf.constant(x) for name, x in arrays.items()})
        except tf.errors.InvalidArgumentError as error:
            # Shapes are checked; what is left are sizes that break the symbolic constraints.
            if "polymorphic shapes specification" not in str(error):
                raise refused_by_format(_problem(error)) from error
            raise input_mismatch("all inputs", self.inputs, _problem(error)) from error
        except tf.errors.OpError as error:
            raise refused_by_format(_problem(error)) from error
        return self._interface.results([results[port.name].numpy() for port in self._interface.outputs])


def _problem(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error)[:500]}"


def unique(variables: Any) -> list[int]:
    """For each leaf of the variables, which of the arrays it is: one array in several places is one.

    >>> shared = np.zeros(2)
    >>> unique({"a": shared, "b": np.zeros(2), "c": shared})
    [0, 1, 0]
    """
    numbers: dict[Any, int] = {}
    # Equal numbers of Python are one object, too, which means nothing.
    keys = [id(leaf) if hasattr(leaf, "shape") else (n,) for n, leaf in enumerate(jax.tree.leaves(variables))]
    return [numbers.setdefault(key, len(numbers)) for key in keys]
