"""Modules as dataclasses."""

import dataclasses
from collections.abc import Callable
from typing import Any, dataclass_transform

from fx_nnx.objects.fields import data, static

__all__ = ["dataclass"]


@dataclass_transform(field_specifiers=(dataclasses.field, data, static))
def dataclass(
    cls: Any = None,
    *,
    init: bool = True,
    eq: bool = True,
    order: bool = False,
    unsafe_hash: bool = False,
    match_args: bool = True,
    kw_only: bool = False,
    slots: bool = False,
    weakref_slot: bool = False,
) -> Any:
    """Creates a dataclass of a `fx_nnx.Pytree` or `fx_nnx.Module`; the arguments are those of `dataclasses.dataclass`.

    The ``repr`` stays that of modules. `fx_nnx.data` and `fx_nnx.static` take the place of `dataclasses.field`.

    >>> import fx_nnx as nnx
    >>> @dataclass
    ... class Block(nnx.Module):
    ...     width: int
    ...     layers: list = data(default_factory=list)
    >>> Block(3).width
    3
    """
    decorate: Callable[[Any], Any] = dataclasses.dataclass(
        init=init,
        repr=False,
        eq=eq,
        order=order,
        unsafe_hash=unsafe_hash,
        frozen=False,
        match_args=match_args,
        kw_only=kw_only,
        slots=slots,
        weakref_slot=weakref_slot,
    )
    return decorate if cls is None else decorate(cls)
