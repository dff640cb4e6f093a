"""Models without what only training needs."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from fx_core.plugins import registry
from fx_core.typing import Dtype

from fx_compress.adapters import adapters_of, merge
from fx_compress.errors import CompressError
from fx_compress.fold import NotFoldedError, fold, norms_of
from fx_compress.parameters import map_parameters, parameters
from fx_compress.program import pure, trace

__all__ = ["Change", "InferenceReport", "Parts", "difference_of", "for_inference", "parts_of"]

# Of training states and of variables by collection.
_FIELDS = ("opt_state", "tx", "dynamic_scale", "key", "ema")
_COLLECTIONS = ("opt_state", "intermediates", "perturbations", "losses", "observers")
_KINDS = ("OptState", "OptArray", "OptVariable", "RngState", "RngKey", "RngCount", "Intermediate", "Observer")


@dataclasses.dataclass(frozen=True)
class Change:
    """One thing that was done, or could not be.

    Attributes:
      path: where.
      what: in words.
      done: False where it could not be done, and ``what`` says why.

    >>> import fx_compress
    >>> fx_compress.Change("params/norm", "folded into params/conv").done
    True
    """

    path: str
    what: str
    done: bool = True


@dataclasses.dataclass(frozen=True)
class InferenceReport:
    """What `for_inference` did; as text it is a list.

    Attributes:
      changes: in order.
      difference: the largest difference of results on the sample inputs, over the largest result; None without them.

    >>> import fx_compress
    >>> change = fx_compress.Change("params/norm", "folded into params/conv")
    >>> print(fx_compress.InferenceReport((change,), difference=1e-7))
    params/norm: folded into params/conv
    results on the sample inputs differ by 1.0e-07 of the largest
    """

    changes: tuple[Change, ...]
    difference: float | None = None

    def __str__(self) -> str:
        lines = [f"{'' if c.done else 'left: '}{c.path or '(model)'}: {c.what}" for c in self.changes]
        if self.difference is not None:
            lines.append(f"results on the sample inputs differ by {self.difference:.1e} of the largest")
        return "\n".join(lines)


@dataclasses.dataclass(frozen=True)
class Parts:
    """A model as its parts.

    Attributes:
      tree: its arrays.
      function: computes it; None where it was not given.
      whole: makes the caller's kind of object of a tree.
      changes: what was done to it so far.
      resize: lets a tree that is a module take its sizes from its parameters.
      rebind: gives ``function`` and ``whole`` for another module; None where there is none beside the tree.
    """

    tree: Any
    function: Callable[..., Any] | None
    whole: Callable[[Any], Any]
    changes: list[Change]
    resize: Callable[[Any], None] | None = None
    rebind: Callable[[Any], Any] | None = None


def for_inference(
    model: Any,
    *inputs: Any,
    function: Callable[..., Any] | None = None,
    cast: Any = None,
    **call: Any,
) -> tuple[Any, InferenceReport]:
    """Creates a model ready to be served: without what only training needs, and with norms and adapters merged.

    - Optimizer states, RNG streams, intermediates and the like are removed.
    - Layers are set to evaluation: no dropout, running averages in norms.
    - ``LoRA`` and ``LoRALinear`` of fx-nnx become the linear layers that compute the same. With sample inputs, other
      adapters, such as ``LoRA`` of fx-linen, and around convolutions, are merged into the kernel whose product they are
      added to, as the traced program shows it; they stay in the model with a ``lora_b`` of 0. A convolution has to have
      windows that step by one and meet the position of their result, as with ``"SAME"`` and ``"CAUSAL"``.
    - With sample inputs, batch normalization is folded into the linear layer or convolution before it. Which one that
      is comes from the traced program and never from names; a norm stays, and the report says why, where its input
      has other users, where something not affine lies between, or where a weight is shared. A folded norm stays in the
      model with a mean of 0 and a variance and a scale of 1.

    Args:
      model: an NNX module; a Linen module with its variables, as a tuple; a training state with ``apply_fn`` and
        ``params``; or a tree of variables, such as an NNX state.
      *inputs: of one call, to trace the model with; a batch of one or two will do.
      function: computes a tree of variables: ``function(tree, *inputs)``. For the other kinds it is known.
      cast: dtype that float parameters get, or a function of the tree, such as ``Policy(...).to_compute`` of fx-train.
      **call: keyword arguments of each call of a module, such as ``train=False``.

    Returns:
      An object of the same kind, and what was done. The model itself stays as it is.

    Raises:
      CompressError: the model cannot be traced in evaluation mode, or computes something else afterwards.

    >>> import fx_compress, jax.numpy as jnp
    >>> state = {"params": {"kernel": jnp.ones((2, 2))}, "opt_state": {"mu": jnp.ones((2, 2))}}
    >>> view, report = fx_compress.for_inference(state, cast=jnp.bfloat16)
    >>> view["params"]["kernel"].dtype.name, list(view)
    ('bfloat16', ['params'])
    >>> print(report)
    opt_state: removed
    (model): float parameters cast to bfloat16
    """
    parts = parts_of(model, function, call)
    tree, changes = parts.tree, list(parts.changes)
    wanted = _results(parts.function, tree, inputs) if inputs else None
    if inputs:
        assert parts.function is not None
        tree = _folded(parts.function, tree, inputs, changes)
    else:
        found = list(parameters(tree))
        norms = norms_of(found)
        changes += [
            Change(a, "adapter not merged: there are no sample inputs to trace", False) for a in adapters_of(found)
        ]
        changes += [Change(norm.path, "not folded: there are no sample inputs to trace", False) for norm in norms]
    difference = None if wanted is None else difference_of(wanted, _results(parts.function, tree, inputs), tree)
    if cast is not None:
        by_hand = callable(cast) and not isinstance(cast, type)
        dtype: Any = cast
        tree = cast(tree) if by_hand else _cast(tree, cast)
        name = getattr(cast, "__name__", "a function") if by_hand else jnp.dtype(dtype).name
        changes.append(Change("", f"float parameters cast {'by' if by_hand else 'to'} {name}"))
    return parts.whole(tree), InferenceReport(tuple(changes), difference)


def parts_of(model: Any, function: Callable[..., Any] | None, call: Mapping[str, Any], *, keep: bool = False) -> Parts:
    """Takes a model of any kind apart.

    Args:
      model: as for `for_inference`.
      function: as for `for_inference`.
      call: keyword arguments of each call.
      keep: whether the tree is to have what training needs; the function evaluates it all the same.
    """
    pair = isinstance(model, tuple) and len(model) == 2
    module, variables = model if pair else (model, None)
    entry = _entry(module)
    found = None if entry is None else entry.load_inference()
    if entry is not None and found is not None:
        given = variables
        made, variables, did = found(module, given)
        changes = [Change(path, what, "not merged" not in what) for path, what in did]
        if variables is None and keep:
            return Parts(model, lambda m, *x: found(m, None)[0](*x, **call), lambda m: m, [], entry.load_resize())
        if variables is None:
            return Parts(made, lambda m, *x: m(*x, **call), lambda m: m, changes, entry.load_resize())

        def bind(module: Any) -> Any:
            return (lambda v, *x: module.apply(v, *x, **call)), (lambda v: (module, v))

        run, whole = bind(made)
        return Parts(given, run, bind(module)[1], [], rebind=bind) if keep else Parts(variables, run, whole, changes)
    if call:
        raise CompressError("Only modules take keyword arguments.", got=", ".join(call), fix="bind them in function=")
    if hasattr(model, "apply_fn") and hasattr(model, "params"):
        return _state(model, function)
    tree, changes = _stripped(model)
    return Parts(tree, function, lambda tree: tree, changes)


def _entry(module: Any) -> Any:
    names = {f"{cls.__module__}:{cls.__qualname__}" for cls in type(module).__mro__}
    entries = [entry for entry in registry().models.values() if entry.type in names]
    return entries[0] if entries else None


def _state(state: Any, function: Callable[..., Any] | None) -> Parts:
    gone = [name for name in _FIELDS if getattr(state, name, None) is not None]
    stripped, names = state.replace(**dict.fromkeys(gone)), ["params"]
    names += [name for name in registry().collections if name != "params" and getattr(state, name, None) is not None]
    names += ["variables"] if getattr(state, "variables", None) is not None else []

    def run(state: Any, *inputs: Any) -> Any:
        held = {name: getattr(state, name) for name in names if name != "variables"}
        more = getattr(state, "variables", None) or {}
        return state.apply_fn({**held, **more}, *inputs)

    return Parts(stripped, function or run, lambda tree: tree, [Change(name, "removed") for name in gone])


def _stripped(tree: Any) -> tuple[Any, list[Change]]:
    """Variables without those that only training has: by collection, or by the type of variables of fx-nnx."""
    changes: list[Change] = []

    def visit(node: Any, path: tuple[str, ...]) -> Any:
        if not isinstance(node, Mapping):
            return node
        kept = {}
        for key, value in node.items():
            here = (*path, str(key))
            kinds = {cls.__name__ for cls in type(value).__mro__}
            if (not path and key in _COLLECTIONS) or (hasattr(value, "get_metadata") and kinds & set(_KINDS)):
                changes.append(Change("/".join(here), "removed"))
            else:
                kept[key] = visit(value, here)
        return node if len(kept) == len(node) and all(kept[k] is node[k] for k in kept) else type(node)(kept)  # type: ignore[call-arg]

    return visit(tree, ()), changes


def _folded(function: Callable[..., Any], tree: Any, inputs: tuple[Any, ...], changes: list[Change]) -> Any:
    found = list(parameters(tree))
    left = {change.path: change for change in changes if not change.done}
    norms, adapters = norms_of(found), adapters_of(found, left)
    if not norms and not adapters:
        return tree
    program = trace(function, tree, inputs)
    weights: dict[str, Any] = {p.path: p.value for p in found if p.path in program.weights}
    for adapter in adapters:
        if adapter in left:
            changes.remove(left[adapter])
        try:
            kernel, made = merge(program, adapter, weights)
            weights |= made
            changes.append(Change(adapter, f"adapter merged into {kernel}"))
        except NotFoldedError as reason:
            changes.append(Change(adapter, f"adapter not merged: {reason}", False))
    for norm in norms:
        try:
            kernel, made = fold(program, norm, weights)
            weights |= made
            changes.append(Change(norm.path, f"folded into {kernel}"))
        except NotFoldedError as reason:
            changes.append(Change(norm.path, f"not folded: {reason}", False))
    return map_parameters(lambda p: weights.get(p.path, p.value), tree)


def _results(function: Callable[..., Any] | None, tree: Any, inputs: tuple[Any, ...]) -> Any:
    if function is None:
        raise CompressError(
            "Sample inputs need a function to call with them.",
            got=f"variables in a {type(tree).__name__}",
            fix="pass function=lambda variables, *inputs: ..., or the module beside its variables",
        )
    try:
        run, weights = pure(function, tree)
        return jax.jit(run)(weights, inputs)
    except Exception as error:
        raise CompressError(
            "The model does not run on the sample inputs, in evaluation mode and without RNG streams.",
            got=f"{type(error).__name__}: {error}".partition("\n")[0],
            fix="pass the arguments that make its call deterministic, such as train=False",
        ) from error


def difference_of(wanted: Any, got: Any, tree: Any = None) -> float:
    """Returns the largest difference of two results over the largest number in them.

    Args:
      wanted: results of the model.
      got: results of the changed model.
      tree: the changed parameters: those of 16 bits are rounded more coarsely than float32 results show.

    Raises:
      CompressError: it is more than rounding explains.
    """
    pairs = [
        (np.asarray(a, np.float64), np.asarray(b, np.float64))
        for a, b in zip(jax.tree.leaves(wanted), jax.tree.leaves(got), strict=True)
        if jnp.issubdtype(jnp.result_type(a), jnp.floating)
    ]
    # Equal infinities, such as those of a mask, do not differ; what is not a number in one of them only does.
    differences = [
        np.abs(np.subtract(a, b, where=~same, out=np.zeros_like(a))).max()
        / max(np.abs(a[np.isfinite(a)]).max(initial=0), 1e-30)
        for a, b in pairs
        if a.size
        for same in [(a == b) | (np.isnan(a) & np.isnan(b))]
    ]
    largest = float(np.max(differences, initial=0.0))
    dtypes = [*map(jnp.result_type, jax.tree.leaves(wanted))]
    dtypes += [p.value.dtype for p in parameters(tree) if jnp.issubdtype(p.value.dtype, jnp.floating)]
    narrow = any(jnp.dtype(dtype).itemsize < 4 for dtype in dtypes)
    if not largest < (0.05 if narrow else 1e-3):
        raise CompressError(
            "The model computes something else than before.",
            expected="results that differ by rounding",
            got=f"a difference of {largest:.1e} of the largest result",
            fix="for_inference without sample inputs leaves norms as they are",
        )
    return largest


def _cast(tree: Any, dtype: Dtype) -> Any:
    def cast(parameter: Any) -> Any:
        value = parameter.value
        return value.astype(dtype) if jnp.issubdtype(value.dtype, jnp.floating) else value

    return map_parameters(cast, tree)
