"""Mistakes around scopes, variable collections, RNG streams and frozen dictionaries."""

from collections.abc import Sequence
from typing import Any

from fx_core.errors._base import FxError


class ApplyScopeInvalidVariablesTypeError(FxError):
    """The variables given to ``apply`` or ``bind`` are not a dictionary of collections.

    Wrong::

        apply(fn)([kernel, bias], x)
        apply(fn)({"params": kernel}, x)

    Right::

        apply(fn)({"params": {"kernel": kernel, "bias": bias}}, x)
    """

    def __init__(self, got: Any = None, path: str | None = None):
        super().__init__(
            "The variables must be a dictionary of collections, each of them a dictionary with string keys.",
            path=path,
            expected='something like {"params": {"kernel": ...}}',
            got=got,
            fix="Pass the variables as `init` returned them.",
        )


class ApplyScopeInvalidVariablesStructureError(FxError):
    """The variables have the collection ``params`` inside the collection ``params``.

    Wrong::

        variables = init(fn)(key, x)
        apply(fn)({"params": variables}, x)

    Right::

        apply(fn)({"params": variables["params"]}, x)
    """

    def __init__(self, variables: Any):
        inner = variables.get("params") if hasattr(variables, "get") else None
        names = sorted(map(str, inner)) if inner is not None else None
        super().__init__(
            "The variables have an extra layer: there is a 'params' inside of 'params'.",
            collection="params",
            expected='{"params": {...}}',
            got=f'{{"params": {{...}}}} inside of "params", whose names are {names}',
            fix='Pass {"params": variables["params"]}, or `variables` itself.',
        )


class ImmutableVariableError(FxError):
    """A variable that must not change was written to."""

    def __init__(self, message: str, *, fix: str = "Make its collection mutable, or write to another variable."):
        super().__init__(message, fix=fix)


class InvalidFilterError(FxError):
    """Something was given as a filter of collections that is none.

    Wrong::

        apply(fn, mutable=3)

    Right::

        apply(fn, mutable=["batch_stats"])
    """

    def __init__(self, filter_like: Any, reason: str | None = None):
        super().__init__(
            reason or "This is not a filter of collections.",
            expected="True, False, a name, a list or set of names, or DenyList(names)",
            got=repr(filter_like),
            fix='Name the collections, such as mutable=["batch_stats"].',
        )


class InvalidRngError(FxError, ValueError):
    """An RNG stream is missing, or what was given as one is no key.

    Wrong::

        apply(dropout_layer)(variables, x)

    Right::

        apply(dropout_layer)(variables, x, rngs={"dropout": jax.random.key(0)})
    """

    def __init__(self, msg: str, path: str | None = None, expected: Any = None, got: Any = None):
        super().__init__(
            msg,
            path=path,
            expected=expected,
            got=got,
            fix='Pass one `jax.random.key` per stream, such as rngs={"params": key, "dropout": key2}.',
        )


class InvalidScopeError(FxError):
    """A scope was used after its life had ended: it leaked out of the function it was made for.

    Wrong::

        scope = apply(lambda scope: scope)(variables)
        scope.put_variable("state", "count", 0)

    Right::

        apply(lambda scope: scope.put_variable("state", "count", 0), mutable=["state"])(variables)
    """

    def __init__(self, scope_name: str | None, path: str | None = None):
        super().__init__(
            f"The scope {scope_name or '/'!r} is no longer valid.",
            path=path,
            expected="a scope inside of the call it was made for",
            got="a scope whose `init`, `apply` or `temporary` has ended",
            fix="Return values, not scopes, and keep no scope outside of its function; `bind` makes one that lasts.",
        )


class JaxTransformError(FxError):
    """A scope was changed inside a JAX transform that it does not take part in, or after its own has ended.

    JAX transforms work on pure functions. A variable written or created there from values that are known in the middle
    of the transform only would leak a tracer. Variables may be read, and created from nothing but a key.

    Wrong::

        def f(scope, x):
            return jax.vmap(lambda x: batch_norm(scope, x))(x)

    Right::

        def f(scope, x):
            return lift.vmap(batch_norm, variable_axes={"batch_stats": 0}, split_rngs={})(scope, x)
    """

    def __init__(self, path: str | None = None, action: str | None = None):
        super().__init__(
            f"A scope cannot {action or 'be changed'} in another JAX trace than the one it was made in.",
            path=path,
            expected="the trace that the scope was made in",
            got="an inner or a finished trace (jit, grad, vmap, scan, cond, remat, ...)",
            fix="Use the lifted transform of the same name, from `fx_transforms.lift` or `fx_linen.transforms`, or do "
            "this outside of the transformed function and pass values in.",
        )


class LazyInitError(FxError):
    """A variable depends on an argument of ``lazy_init`` of which only shape and dtype are known.

    Wrong::

        lazy_init(lambda scope, x: scope.param("scale", lambda key: x + 1))(key, jax.ShapeDtypeStruct((3,), "float32"))

    Right::

        init(lambda scope, x: scope.param("scale", lambda key: x + 1))(key, jnp.ones(3))
    """

    def __init__(self, partial_val: Any, path: str | None = None, collection: str | None = None):
        super().__init__(
            "A variable needs the value of an argument that was given by shape and dtype only.",
            path=path,
            collection=collection,
            expected="variables that depend on keys and concrete arguments alone",
            got=f"a value computed from an abstract argument: {partial_val}",
            fix="Give that argument as an array, or do not use it to initialize variables.",
        )


class ModifyScopeVariableError(FxError):
    """A variable was written in a collection that is immutable.

    Wrong::

        y = apply(batch_norm)(variables, x)

    Right::

        y, updates = apply(batch_norm, mutable=["batch_stats"])(variables, x)

    Args:
      col: the collection.
      variable_name: the variable.
      scope_path: where it is.
      mutable: the filter that says what may be written.
    """

    def __init__(self, col: str, variable_name: str, scope_path: str, mutable: Any = False):
        super().__init__(
            f"Cannot update variable {variable_name!r} because collection {col!r} is immutable.",
            path=scope_path,
            collection=col,
            expected=f"a mutable collection {col!r}",
            got=f"a write, with mutable={mutable!r}" if mutable else "a write",
            fix=f"Call apply(..., mutable=[{col!r}]) and take the updated collection from its result.",
        )


class NameInUseError(FxError, ValueError):
    """A name was given to two things in one scope or module.

    Wrong::

        scope.param("kernel", ones, (2,))
        scope.push("kernel")

    Right::

        scope.param("kernel", ones, (2,))
        scope.push("kernel_net")
    """

    def __init__(self, key_type: str, value: str, module_name: str, collection: str | None = None):
        super().__init__(
            f"Could not create {key_type} {value!r}: the name is in use already.",
            path=module_name,
            collection=collection,
            expected="a new name",
            got=repr(value),
            fix="Choose another name, or keep the first thing of that name and use it again.",
        )


class ScopeCollectionNotFound(FxError):  # noqa: N818 (the reference API's name)
    """A variable was wanted from a collection that is empty and immutable.

    Wrong::

        apply(dense)({}, x)

    Right::

        _, variables = init(dense)(key, x)
        apply(dense)(variables, x)
    """

    def __init__(self, col_name: str, var_name: str, scope_path: str, given: Sequence[str] = ()):
        fix = f"Pass the collection {col_name!r} that `init` made, or make it mutable."
        if col_name == "params" and given:
            fix = 'Pass all that `init` made, or {"params": params}: the parameters alone are no collections.'
        super().__init__(
            f"There is no variable {var_name!r}, since the collection {col_name!r} is empty.",
            path=scope_path,
            collection=col_name,
            expected=f"{var_name!r} in the collection {col_name!r}",
            got=f"the collections {sorted(given)}" if given else "no such collection, or an empty one",
            fix=fix,
        )


class ScopeParamNotFoundError(FxError):
    """A parameter does not exist and must not be created, as the collection ``params`` is immutable.

    Wrong::

        _, variables = init(one_layer)(key, x)
        apply(two_layers)(variables, x)

    Right::

        _, variables = init(two_layers)(key, x)
        apply(two_layers)(variables, x)
    """

    def __init__(self, param_name: str, scope_path: str, got: Any = None):
        super().__init__(
            f"Could not find parameter {param_name!r}.",
            path=scope_path,
            collection="params",
            expected=f"a parameter {param_name!r}",
            got=got,
            fix="Initialize again with the function you apply, or look for a renamed layer.",
        )


class ScopeParamShapeError(FxError):
    """A parameter has another shape than its initializer makes.

    Wrong::

        _, variables = init(dense)(key, jnp.ones((1, 3)))
        apply(dense)(variables, jnp.ones((1, 4)))

    Right::

        apply(dense)(variables, jnp.ones((1, 3)))
    """

    def __init__(self, param_name: str, scope_path: str, value_shape: Any, init_shape: Any):
        super().__init__(
            f"Parameter {param_name!r} has another shape than its initializer makes.",
            path=scope_path,
            collection="params",
            expected=init_shape,
            got=value_shape,
            fix="Apply to inputs of the size that the parameters were made for, or initialize again.",
        )


class ScopeVariableNotFoundError(FxError):
    """A variable does not exist and cannot be created.

    Wrong::

        apply(fn)({"state": {}}, x)

    Right::

        y, updates = apply(fn, mutable=["state"])({}, x)
    """

    def __init__(self, name: str, col: str, scope_path: str, got: Any = None):
        super().__init__(
            f"There is no variable {name!r} in the collection {col!r}.",
            path=scope_path,
            collection=col,
            expected=f"a variable {name!r}",
            got=got,
            fix=f"Pass the collection that `init` made, or give an init function and make {col!r} mutable.",
        )


class TraceContextError(FxError):
    """Something mutable was changed in another trace than the one it was made in."""

    def __init__(self, message: str, **fields: Any):
        fix = "Change it in the trace it was made in, or pass it into the transformed function."
        super().__init__(message, **{"fix": fix, **fields})
