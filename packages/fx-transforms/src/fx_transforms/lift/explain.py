"""Errors of scopes inside a transform, as errors about what was not lifted."""

import functools
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

from fx_core.errors.scope import (
    InvalidRngError,
    ModifyScopeVariableError,
    ScopeCollectionNotFound,
    ScopeParamNotFoundError,
    ScopeVariableNotFoundError,
)
from fx_core.scope import in_filter

from fx_transforms.errors import AxisSizeError, CollectionNotLiftedError, RngNotLiftedError
from fx_transforms.scope_carrier import ScopeCarrier, ScopeTree

__all__ = ["explained", "explaining"]

_MISSING = (ScopeCollectionNotFound, ScopeParamNotFoundError, ScopeVariableNotFoundError)


def explained(carrier: ScopeCarrier, call: Callable[..., Any]) -> Callable[..., Any]:
    """Wraps a lifted function ``call(scopes, *args)`` in `explaining`."""

    @functools.wraps(call)
    def wrapper(scopes: Any, /, *args: Any, **kwargs: Any) -> Any:
        with explaining(carrier, scopes):
            return call(scopes, *args, **kwargs)

    return wrapper


@contextmanager
def explaining(carrier: ScopeCarrier, scopes: Any) -> Generator[None]:
    """Converts "not found", "immutable" and "no key" into "not lifted" where the outer scopes have what is asked for.

    Raises:
      AxisSizeError: the same as inside, with the path.
      CollectionNotLiftedError: a collection that the transform leaves outside.
      RngNotLiftedError: a stream that the transform leaves outside.
    """
    try:
        yield
    except AxisSizeError as error:
        roots = ScopeTree(scopes).roots
        if error.path is not None or not roots:
            raise
        raise error.at(roots[0].path_text) from None
    except _MISSING as error:
        if _outside(carrier.ins, scopes, error.collection, written=False):
            raise _not_lifted(carrier, carrier.ins, error) from error
        raise
    except ModifyScopeVariableError as error:
        if _outside(carrier.outs, scopes, error.collection, written=True):
            raise _not_lifted(carrier, carrier.outs, error) from error
        raise
    except InvalidRngError as error:
        streams = {s for scope in ScopeTree(scopes).roots for s in scope.rngs if not _any(carrier.rngs, s)}
        if streams:
            raise RngNotLiftedError(carrier.name or "it", sorted(streams), error.path, _first_line(error)) from error
        raise


def _any(filters: tuple[Any, ...], name: str) -> bool:
    return any(in_filter(f, name) for f in filters)


def _outside(filters: tuple[Any, ...], scopes: Any, collection: str | None, written: bool) -> bool:
    """Whether the outer scopes have the collection, or may create it, and no filter lets it through."""
    if collection is None or _any(filters, collection):
        return False
    roots = ScopeTree(scopes).roots
    if any(scope.is_mutable_collection(collection) for scope in roots):
        return True
    return not written and any(collection in scope.variables() for scope in roots)


def _not_lifted(carrier: ScopeCarrier, filters: tuple[Any, ...], error: Any) -> CollectionNotLiftedError:
    lifted = ", ".join(_text(f) for f in filters if f is not False) or "none"
    return CollectionNotLiftedError(carrier.name or "it", error.collection, error.path, lifted, _first_line(error))


def _text(filter: Any) -> str:
    return ", ".join(sorted(map(repr, filter))) if isinstance(filter, frozenset | set | list | tuple) else repr(filter)


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
