"""Arguments that ask for what JAX has dropped raise; the one that is documented to change nothing changes nothing."""

import inspect

import fx_linen as nn
import jax
import jax.numpy as jnp
import pytest
from fx_core.errors import UnsupportedOperationError

X = jnp.ones((2, 3))


class Inner(nn.Module):
    @nn.compact
    def __call__(self, run, x):
        return run(nn.Dense(1), x)


def applied(run):
    return Inner().init_with_output(jax.random.key(0), run, X)[0]


DROPPED = {
    "grad": lambda **options: applied(lambda m, x: nn.grad(lambda m, x: m(x).sum(), m, x, **options)),
    "value_and_grad": lambda **options: applied(
        lambda m, x: nn.value_and_grad(lambda m, x: m(x).sum(), m, x, **options)
    ),
    "vjp": lambda **options: applied(lambda m, x: nn.vjp(lambda m, x: m(x), m, x, **options)[0]),
    "remat": lambda **options: nn.remat(nn.Dense, **options)(2).init(jax.random.key(0), X),
    "checkpoint": lambda **options: nn.checkpoint(nn.Dense, **options)(2).init(jax.random.key(0), X),
}


@pytest.mark.parametrize("name", DROPPED)
def test_what_jax_has_dropped_raises(name):
    argument, nothing, something = ("concrete", False, True) if name in ("remat", "checkpoint") else (
        "reduce_axes", (), ("batch",)
    )  # fmt: skip
    DROPPED[name](**{argument: nothing})
    # Programs written for Flax catch NotImplementedError.
    with pytest.raises(NotImplementedError, match=f"got {argument}, which JAX has dropped") as caught:
        DROPPED[name](**{argument: something})
    assert isinstance(caught.value, UnsupportedOperationError)


def test_there_are_no_others_of_these_names():
    found = {
        name
        for name in nn.__all__
        if inspect.isfunction(public := getattr(nn, name))
        and {"concrete", "reduce_axes"} & set(inspect.signature(public).parameters)
    }
    assert found == set(DROPPED)
    with pytest.raises(NotImplementedError, match="got concrete"):
        nn.partitioning.remat(nn.Dense, concrete=True)


def test_paths_are_shown_once_either_way():
    class Twice(nn.Module):
        @nn.compact
        def __call__(self, x):
            dense = nn.Dense(3)
            return dense(dense(x))

    shown = [set(Twice().module_paths(jax.random.key(0), X, show_repeated=repeated)) for repeated in (False, True)]
    assert shown == [{"", "Dense_0"}] * 2
