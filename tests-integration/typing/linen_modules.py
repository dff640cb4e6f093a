"""Modules as users write them, for the type checker, which reads this file and nothing runs.

Lines that have to be errors are ignored, and an ignored line that is none is an error here.
"""

# pyright: reportUnnecessaryTypeIgnoreComment=true

from collections.abc import Callable
from dataclasses import KW_ONLY, field
from typing import Any, Generic, Protocol, TypeVar, assert_type, runtime_checkable

import fx_linen as nn
import jax
import jax.numpy as jnp

T = TypeVar("T", bound=nn.Module)


class Wrap(nn.Module, Generic[T]):
    inner: T
    scale: float = 1.0

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        assert_type(self.inner, T)
        return self.inner(x) * self.scale


class Deep(Wrap[nn.Dense]):
    depth: int = 2


class Named(Protocol):
    def label(self) -> str: ...


@runtime_checkable
class Scored(Protocol):
    name: str | None

    def score(self, x: jax.Array) -> jax.Array: ...


class Keyword(nn.Module, kw_only=True):
    width: int
    bias: bool = True


class Child(Keyword):
    depth: int


class Marked(nn.Module):
    a: int
    _: KW_ONLY
    b: int = 2
    act: Callable[[jax.Array], jax.Array] = nn.relu
    extra: Any = field(default=None, kw_only=True)


class Labeled(nn.Module, Named):
    width: int

    def label(self) -> str:
        return f"w{self.width}"

    def score(self, x: jax.Array) -> jax.Array:
        return x.sum()


def text(x: Named) -> str:
    return x.label()


def scored(x: Scored) -> None: ...


wrapped = Wrap(nn.Dense(3))
assert_type(wrapped, Wrap[nn.Dense])
assert_type(wrapped.inner, nn.Dense)
assert_type(wrapped.inner.features, int)
deep = Deep(nn.Dense(2), 2.0, depth=3, name="deep")
assert_type(deep.inner, nn.Dense)
Keyword(width=3)
child = Child(3, width=2, name="x", parent=None)
assert_type(child.depth, int)
Marked(1, b=3, act=nn.gelu)
text(Labeled(3))
scored(Labeled(3))
recomputed = nn.remat(Wrap)
assert_type(recomputed(nn.Dense(3)).inner, nn.Dense)
variables = wrapped.init(jax.random.key(0), jnp.ones((1, 3)))
result = wrapped.apply(variables, jnp.ones((1, 3)))
Keyword(3)  # pyright: ignore[reportCallIssue]
Child(width=3)  # pyright: ignore[reportCallIssue]
Marked(1, 2)  # pyright: ignore[reportCallIssue]
text(nn.Dense(3))  # pyright: ignore[reportArgumentType]
