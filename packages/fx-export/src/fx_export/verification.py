"""Verification: what was exported computes what the model computes, on inputs of every kind."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from fx_export.errors import ArgumentError, InputMismatchError, VerificationError
from fx_export.inputs import spec_of, text_of
from fx_export.keys import is_key, random_keys, words_of
from fx_export.sizes import evaluated, is_fixed
from fx_export.trial_sizes import free_sizes, sizes_to_try

_TOLERANCES = {"float64": 1e-9, "float32": 1e-4, "float16": 2e-2, "bfloat16": 5e-2}
_KINDS = ("random", "zeros", "large")


@dataclasses.dataclass(frozen=True)
class Trial:
    """Inputs to compare with.

    Attributes:
      label: what is special about them.
      inputs: the inputs.
      sizes: the size of each symbol.
    """

    label: str
    inputs: Sequence[Any]
    sizes: Mapping[str, int]


def verified(
    program: Callable[..., Any],
    fn: Callable[..., Any],
    variables: Any,
    inputs: Sequence[Any],
    *,
    tolerance: float | None = None,
    sizes: Mapping[str, Sequence[int]] | None = None,
    given: Sequence[Sequence[Any]] = (),
) -> dict[str, Any]:
    """Compares a loaded program with the function that it was made of.

    Args:
      program: what was exported, as a function of the inputs.
      fn: the function of variables and inputs.
      variables: its variables.
      inputs: examples or descriptions; integers are sampled from the range of an example, and are 0 or 1 without one.
      tolerance: largest difference, relative to one plus the largest number of an output; by default by the
        coarsest dtype that the function computes in. Integers are equal in any case.
      sizes: sizes to try for a symbol, by default 1 and 3, or small ones that fit what is known about it.
      given: inputs of calls to compare with, in place of random ones.

    Returns:
      What was found, as JSON.

    Raises:
      VerificationError: an output differs by more, or the program refuses what it is to be compared with.
      ArgumentError: sizes break a constraint, or inputs of them do not fit into memory.
    """
    reference = jax.jit(fn)
    specs = [jax.tree.map(spec_of, value) for value in inputs]
    dtypes = _dtypes_in(reference.trace(variables, *specs).jaxpr.jaxpr)
    # What is computed in bfloat16 anywhere is no more exact than that.
    coarsest = max((_TOLERANCES.get(name, 0.0) for name in dtypes), default=0.0)
    report: dict[str, Any] = {"trials": [], "max_absolute_error": 0.0, "max_relative_error": 0.0}
    calls = (Trial(f"given inputs {number}", call, {}) for number, call in enumerate(given))
    tried: list[Mapping[str, int]] = []
    refused: list[tuple[Trial, InputMismatchError]] = []
    for trial in calls if given else _trials(inputs, sizes or {}):
        try:
            got = program(*trial.inputs)
        except InputMismatchError as error:
            # Sizes that break a constraint which is not known here, as in programs that were read.
            refused.append((trial, error))
            continue
        expected = reference(variables, *trial.inputs)
        absolute, relative = _compared(expected, got, trial.label, coarsest if tolerance is None else tolerance)
        report["trials"].append(trial.label)
        report["max_absolute_error"] = max(report["max_absolute_error"], absolute)
        report["max_relative_error"] = max(report["max_relative_error"], relative)
        tried.append(trial.sizes)
    _check_tried(tried, {} if given else sizes or {}, refused)
    free = free_sizes(inputs) if not given else []
    return {**report, **({"sizes": {name: sorted({each[name] for each in tried}) for name in free}} if free else {})}


def _check_tried(
    tried: Sequence[Mapping[str, int]],
    named: Mapping[str, Sequence[int]],
    refused: Sequence[tuple[Trial, InputMismatchError]],
) -> None:
    """Refuses a comparison without trials, or without one of the sizes that were asked for."""
    for trial, error in refused:
        missed = [f"{n}={size}" for n, size in trial.sizes.items() if size in named.get(n, ())]
        missed = [each for each in missed if all(each not in (f"{n}={s}" for n, s in one.items()) for one in tried)]
        if missed or not tried:
            raise VerificationError(
                "The exported network could not be compared with the model: it refuses the inputs of the trial.",
                expected=f"a trial with {', '.join(missed)}" if missed else "at least one trial",
                got=f"{trial.label}: {error}",
                fix="Name sizes that fit in verify_sizes.",
            ) from error


def _dtypes_in(jaxpr: Any) -> set[str]:
    """Names of all dtypes in a program, those of the programs inside of it included."""
    found = {str(v.aval.dtype) for v in [*jaxpr.invars, *jaxpr.constvars] if hasattr(v.aval, "dtype")}
    for eqn in jaxpr.eqns:
        found |= {str(v.aval.dtype) for v in eqn.outvars if hasattr(v.aval, "dtype")}
        for value in eqn.params.values():
            for inner in value if isinstance(value, (tuple, list)) else (value,):
                inner = getattr(inner, "jaxpr", inner)
                if hasattr(inner, "eqns"):
                    found |= _dtypes_in(inner)
    return found


def _trials(inputs: Sequence[Any], sizes: Mapping[str, Sequence[int]]) -> Iterator[Trial]:
    leaves, treedef = jax.tree.flatten(list(inputs))
    specs = [spec_of(leaf) for leaf in leaves]
    random = np.random.default_rng(0)
    for chosen in sizes_to_try(inputs, sizes):
        named = "".join(f", {name}={size}" for name, size in chosen.items())
        for kind in _KINDS:
            try:
                arrays = [_array(kind, spec, leaf, chosen, random) for spec, leaf in zip(specs, leaves)]
            # NumPy raises ValueError for more bytes than any machine has.
            except (MemoryError, ValueError) as error:
                raise ArgumentError(
                    "Inputs to compare with do not fit into memory.",
                    got=f"{', '.join(map(text_of, specs))}{named}: {error}",
                    fix="Name smaller sizes in verify_sizes, or leave out verification: verify=False.",
                ) from error
            yield Trial(f"{kind} inputs{named}", jax.tree.unflatten(treedef, arrays), chosen)


def _array(
    kind: str, spec: jax.ShapeDtypeStruct, leaf: Any, sizes: Mapping[str, int], random: np.random.Generator
) -> Any:
    shape = tuple(size if is_fixed(size) else evaluated(size, sizes) for size in spec.shape)
    if is_key(spec):
        return random_keys(spec, shape, random)
    dtype = np.dtype(spec.dtype)
    if spec.weak_type and not shape:
        # JAX takes an array for one of its dtype.
        strong = jax.ShapeDtypeStruct(shape, dtype)
        return _array(kind, strong, leaf, sizes, random).item()
    if kind == "zeros":
        return np.zeros(shape, dtype)
    if dtype.kind in "iub":
        known = np.asarray(leaf) if not isinstance(leaf, jax.ShapeDtypeStruct) else np.zeros(0, dtype)
        low, high = (int(known.min()), int(known.max())) if known.size else (0, 1)
        wide = np.uint64 if dtype == np.uint64 else np.int64
        return random.integers(low, high, size=shape, dtype=wide, endpoint=True).astype(dtype)
    return (random.standard_normal(shape) * (30 if kind == "large" else 1)).astype(dtype)


def _compared(expected: Any, got: Any, label: str, tolerance: float) -> tuple[float, float]:
    wanted, given = jax.tree_util.tree_leaves_with_path(expected), jax.tree.leaves(got)
    if len(wanted) != len(given):
        raise _verification("all outputs", label, f"{len(wanted)} arrays", f"{len(given)} arrays")
    worst = (0.0, 0.0)
    for (path, one), other in zip(wanted, given):
        name = jax.tree_util.keystr(path, simple=True, separator="/") or "the output"
        one, other = np.asarray(words_of(one)), np.asarray(words_of(other))
        if (one.shape, one.dtype) != (other.shape, other.dtype):
            raise _verification(name, label, f"{one.dtype}{one.shape}", f"{other.dtype}{other.shape}")
        allowed = tolerance if one.dtype.kind not in "iub" else 0.0
        absolute, relative = _difference(one, other)
        if not relative <= allowed:
            found = f"a difference of {absolute:.3g}, relatively {relative:.3g}"
            raise _verification(name, label, f"a relative difference of at most {allowed:g}", found)
        worst = max(worst[0], absolute), max(worst[1], relative)
    return worst


def _difference(one: np.ndarray, other: np.ndarray) -> tuple[float, float]:
    """Largest difference, and the same relative to one plus the largest number; infinite where NaN differ."""
    if not one.size:
        return 0.0, 0.0
    wide = np.complex128 if one.dtype.kind == "c" else np.float64
    a, b = one.astype(wide), other.astype(wide)
    if not np.array_equal(np.isnan(a), np.isnan(b)):
        return np.inf, np.inf
    same = (a == b) | np.isnan(a)
    if np.all(same):
        return 0.0, 0.0
    with np.errstate(invalid="ignore"):
        absolute = float(np.max(np.abs(np.where(same, 0, a - b))))
    finite = np.abs(a[np.isfinite(a)])
    return absolute, absolute / (1 + float(finite.max(initial=0)))


def _verification(path: str, case: str, expected: str, got: str) -> VerificationError:
    return VerificationError(
        f"The exported network computes something else than the model, for {case}.",
        path=path,
        expected=expected,
        got=got,
        fix="Raise the tolerance if that is close enough, or report it: nothing was written.",
    )
