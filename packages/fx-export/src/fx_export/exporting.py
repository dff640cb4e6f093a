"""Exporting: from a model to a bundle that was compared with it."""

import datetime
import functools
import inspect
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from numbers import Real
from pathlib import Path
from typing import Any

import jax
from fx_core.digests import BLOCKS, digest_by_blocks
from fx_core.errors import ArgumentError, ArgumentTypeError, FxError
from fx_core.files import AtomicDirectory, canonical_json, files_below, local_path
from fx_core.plugins import Exporter

from fx_export._version import __version__
from fx_export.bundle import DATA, FORMAT, VERSION, StrPath, exporter_named
from fx_export.errors import BundleError, PlatformError, exporter_option, refused_by_runtime
from fx_export.free_sizes import sizes_stay_free
from fx_export.inputs import input_specs, listed, names_in
from fx_export.models import as_function
from fx_export.trial_sizes import check_sizes, sizes_to_try
from fx_export.verification import verified


def export(
    path: StrPath,
    model: Any,
    variables: Any = None,
    inputs: Sequence[Any] = (),
    *,
    format: str = "stablehlo",
    call: Mapping[str, Any] | None = None,
    metadata: Mapping[str, Any] | None = None,
    overwrite: bool = False,
    key: bytes | None = None,
    constraints: Sequence[str] = (),
    verify: bool = True,
    verify_sizes: Mapping[str, Sequence[int]] | None = None,
    tolerance: float | None = None,
    **options: Any,
) -> Path:
    """Writes a model as a bundle that runs without the code that made it, and compare it with the model.

    Args:
      path: the directory to make; it appears whole or not at all.
      model: a Linen module, an NNX module, a method of one, a training state of NNX or with ``apply_fn`` and
        ``params``, or a pure function of the variables and the inputs. Of a training state the parameters are written
        and the other collections, never an average of the parameters; ``apply_fn`` takes them by collection, as the
        ``apply`` of a Linen module does: where it takes ``params`` alone, give it with those in place of the state.
      variables: a pytree of arrays: the weights. None where the model has its own; for the averages of a training state
        ``{"params": state.ema, **state.variables}``.
      inputs: an example, a `jax.ShapeDtypeStruct`, or a text such as ``"float32[batch, 3]"`` for each input; sizes
        from `jax.export.symbolic_shape`, and names in texts, stay free.
      format: name of the exporter: ``"stablehlo"``, ``"onnx"``, or a plugin's.
      call: keyword arguments of the model's call, such as ``{"train": False}``; ``method`` chooses another method.
      metadata: what else to keep, as JSON: labels, preprocessing, where it comes from.
      overwrite: replace a bundle at ``path``; nothing else is ever replaced.
      key: signs the bundle (HMAC-SHA256), for whoever loads it with the same key.
      constraints: what is known about sizes in texts, such as ``"length <= 128"``.
      verify: run what was written, with random, zero and large inputs of several sizes, and compare.
      verify_sizes: sizes to try, by symbol; by default 1 and 3, or small ones that fit the constraints. Name the
        longest sequence here.
      tolerance: largest difference, relative to one plus the largest number of an output; by default 1e-4 for
        float32 and 5e-2 for what computes in bfloat16.
      **options: for the exporter; see its ``export``.

    Returns:
      The path.

    Raises:
      ArgumentTypeError: the model is none of those above, or its variables are missing.
      UnsupportedProgramError: the function has effects or callbacks, takes or returns custom containers, or needs a
        number where the inputs have a free size; the text says where. Or the runtime of the format does not take what
        was written.
      ArgumentTypeError: a variable is no array of numbers.
      VerificationError: what was written computes something else.
      ArgumentTypeError: the exporter does not take an option, the inputs are no list, the function takes other ones, or
        an argument is of another type than it says.
      ArgumentTypeError: the key is no bytes, or empty.
      ArgumentError: free sizes are of several scopes, a text describes no input, a constraint or a size to try is
        malformed or fits nothing, or the tolerance is no positive number.
      DtypeError: a text asks for 64 bits where JAX computes with 32.
      AlreadyExistsError: there is something at the path.
      ArgumentError: the path is the URL of another place, or no name of a file.
      ArgumentError: JSON cannot hold the metadata.
      UnknownEntryError: there is no such exporter.

    Example:
      >>> import tempfile, jax.numpy as jnp
      >>> from fx_export import load
      >>> path = export(tempfile.mkdtemp() + "/net", lambda w, x: x @ w, jnp.ones((3, 2)), ["float32[batch, 3]"])
      >>> load(path)(jnp.ones((4, 3))).shape
      (4, 2)
    """
    check_call(format, call)
    check_flags(format, overwrite=overwrite, verify=verify)
    writer = exporter_named(format)
    check_options(format, writer.export, (None, None, ()), options)
    specs = input_specs(format, inputs, constraints)
    options = {**_names(writer, inputs), **options}
    settings = verification_settings(writer, specs, tolerance, verify_sizes, options)
    fn, weights = as_function(model, variables, call or {})
    check_arguments(fn, weights, specs)
    if verify:
        # Mistakes are to be found before anything is computed.
        sizes_to_try(specs, settings["sizes"])
    with new_bundle(path, format, metadata, overwrite, key) as new:
        data = new.directory / DATA
        with sizes_stay_free(specs):
            writer.export(data, fn, weights, specs, metadata=new.manifest["metadata"], **options)
        new.manifest["inputs"] = listed(specs, options.get("input_names"))
        if verify:
            new.manifest["verification"] = _verified(writer, data, fn, weights, specs, settings)
    return new.path


@contextmanager
def new_bundle(
    path: StrPath, format: str, metadata: Mapping[str, Any] | None, overwrite: bool, key: bytes | None
) -> Iterator[AtomicDirectory]:
    """Makes a bundle with an empty directory for the exporter's files; what is raised within leaves nothing behind.

    Args:
      path: where it appears when the block ends.
      format: name of the exporter.
      metadata: what else to keep.
      overwrite: replace a bundle.
      key: signs the bundle.

    Raises:
      ArgumentError: JSON cannot hold the metadata, or the path is no name of a file here.
      AlreadyExistsError: there is something at the path.
      OSError: the disk is full, or fails; it names the path.
    """
    if not isinstance(metadata or {}, Mapping):
        raise exporter_option(format, "metadata: a dictionary", repr(metadata)[:200])
    kept = dict(metadata or {})
    canonical_json(kept, "metadata")
    parents = local_path(path).parents
    made = [parent for parent in parents if not os.path.lexists(parent)]
    try:
        with AtomicDirectory(path, format=FORMAT, version=VERSION, overwrite=overwrite, key=key) as new:
            (new.directory / DATA).mkdir()
            new.manifest.update(exporter=format, metadata=kept)
            yield new
            new.digests.update({name: digest_by_blocks(new.directory / name) for name in files_below(new.directory)})
            # Readers of version 1 know no digests by blocks: to them such a file would be damaged.
            by_blocks = any(digest.startswith(BLOCKS) for digest in new.digests.values())
            new.manifest.update(
                version=VERSION if by_blocks else 1,
                created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
                written_by={"fx-export": __version__, "jax": jax.__version__},
            )
    except OSError as error:
        # A write that fails does not say where, as one that cannot open a file does.
        if error.filename is None and not isinstance(error, FxError):
            error.filename = os.fspath(path)
        raise
    finally:
        # Parents that were made for it; those of a bundle that is there are not empty.
        for parent in made:
            with suppress(OSError):
                os.rmdir(parent)


def _names(writer: Exporter, inputs: Sequence[Any]) -> dict[str, Any]:
    """Names in the texts of inputs, for an exporter that can use them."""
    texts = [value for value in inputs if isinstance(value, str)]
    names = names_in(texts) if texts and len(texts) == len(inputs) else None
    known = "input_names" in inspect.signature(writer.export).parameters
    return {"input_names": names} if names and known else {}


def verification_settings(
    writer: Exporter, inputs: Sequence[Any], tolerance: Any, sizes: Any, options: Mapping[str, Any]
) -> dict[str, Any]:
    """Returns how to verify: as the exporter says for its options, where it says anything, and as the caller does.

    Args:
      writer: the exporter.
      inputs: examples or descriptions of the inputs.
      tolerance: as in `export`.
      sizes: as in `export`.
      options: of the exporter.

    Raises:
      ArgumentError: the tolerance is no positive number, or sizes are not of the inputs, or break a constraint.
    """
    if tolerance is not None and (
        isinstance(tolerance, bool) or not isinstance(tolerance, Real) or not float(tolerance) >= 0
    ):
        raise ArgumentError(
            "A tolerance is a number from 0 on.", got=repr(tolerance)[:200], fix="Leave it out for the usual one."
        )
    named = check_sizes(inputs, sizes)
    own: Any = getattr(writer, "verification", None)
    settings = dict(own(**options)) if own else {}
    if tolerance is not None:
        settings["tolerance"] = float(tolerance)
    settings["sizes"] = {**settings.get("sizes", {}), **named}
    return settings


def check_arguments(fn: Callable[..., Any], variables: Any, inputs: Sequence[Any]) -> None:
    """Refuses to call a function with other arguments than it takes.

    Raises:
      ArgumentTypeError: there are more or fewer inputs, or keyword arguments that it does not have.
    """
    call: Mapping[str, Any] = {}
    # The signature of a partial function says less about what is wrong.
    if type(fn) is functools.partial and not fn.args:
        fn, call = fn.func, fn.keywords
    try:
        signature = inspect.signature(fn)
    except (ValueError, TypeError):
        return
    try:
        signature.bind(variables, *inputs, **call)
    except TypeError as error:
        named = "".join(f", {name}={value!r}" for name, value in call.items())
        raise ArgumentTypeError(
            f"The model does not take these arguments: {error}.",
            expected=f"variables and inputs for {signature}",
            got=f"variables and {len(inputs)} inputs{named}",
            fix="Give an input for each argument after the variables, and keyword arguments by call.",
        ) from None


def _verified(
    writer: Exporter,
    data: Path,
    fn: Callable[..., Any],
    variables: Any,
    inputs: Sequence[Any],
    settings: Mapping[str, Any],
) -> dict[str, Any] | None:
    try:
        program = writer.load(data)
        return verified(program, fn, variables, inputs, **settings)
    except PlatformError:
        # A program for other hardware cannot be tried here.
        return None
    except BundleError as error:
        raise refused_by_runtime(error) from error


def check_call(name: str, call: Any) -> None:
    """Refuses keyword arguments of a call that are no dictionary.

    Raises:
      ArgumentTypeError: they are something else.
    """
    if not isinstance(call or {}, Mapping):
        raise exporter_option(name, 'call: a dictionary such as {"train": False}', repr(call)[:200])


def check_flags(name: str, **flags: Any) -> None:
    """Refuses what is neither True nor False: the text "no" would count as True, and replace a bundle.

    Raises:
      ArgumentTypeError: one of them is something else.
    """
    for flag, value in flags.items():
        if not isinstance(value, bool):
            raise exporter_option(name, f"{flag}: True or False", repr(value)[:200])


def check_options(name: str, write: Callable[..., None], arguments: Sequence[Any], options: Mapping[str, Any]) -> None:
    """Checks options against what a method of an exporter takes.

    Args:
      name: of the exporter.
      write: the method.
      arguments: stand-ins for what it takes after the directory.
      options: the options.

    Raises:
      ArgumentTypeError: it does not take them.
    """
    signature = inspect.signature(write)
    known = {n: p for n, p in list(signature.parameters.items())[1 + len(arguments) :] if n != "metadata"}
    taken = ", ".join(f"{n}={p.default!r}" for n, p in known.items() if p.default is not p.empty)
    unknown = sorted(options.keys() - known.keys())
    if unknown and all(p.kind is not p.VAR_KEYWORD for p in known.values()):
        raise exporter_option(name, f"options out of {taken}" if taken else "no options", ", ".join(unknown))
    for option, value in options.items():
        if option in known and isinstance(known[option].default, bool):
            check_flags(name, **{option: value})
    try:
        signature.bind(Path(), *arguments, metadata={}, **options)
    except TypeError as error:
        raise exporter_option(name, str(signature), str(error)) from None
