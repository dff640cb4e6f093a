"""Networks as tables."""

import sys

import fx_linen as nn
import jax
import jax.numpy as jnp
import pytest
from fx_linen import summary

KEY = jax.random.key(0)
X = jnp.ones((2, 2))
PLAIN = {"width": 140, "force_terminal": False}


class Affine(nn.Module):
    features: int

    @nn.compact
    def __call__(self, x):
        self.variable("stats", "count", lambda: jnp.zeros((3,), jnp.int8))
        return x @ self.param("w", jax.nn.initializers.zeros, (x.shape[-1], self.features))


class Block(nn.Module):
    @nn.compact
    def __call__(self, x, train):
        if train:
            x = Affine(4)(x)
        return Affine(2)(x)


class Net(nn.Module):
    @nn.compact
    def __call__(self, x, train=True):
        block = Block()
        return block(block(x, train), train)


def table(depth=None, show_repeated=False, **options):
    keywords = {"train": True}
    return summary.make_table(
        Net(), KEY, (X,), keywords, depth=depth, show_repeated=show_repeated, mutable=True, **options
    )


def test_rows():
    rows = table()
    assert [row.path for row in rows] == [(), ("Block_0",), ("Block_0", "Affine_0"), ("Block_0", "Affine_1")]
    assert rows.collections == ("params", "stats")
    first = rows[2]
    assert first.module_copy.features == 4
    assert first.module_copy.scope is None
    assert first.inputs.shape == (2, 2)
    assert first.outputs.shape == (2, 4)
    assert first.size_and_bytes(("params", "stats")) == {"params": (8, 32), "stats": (3, 3)}
    assert rows[1].size_and_bytes(("params",)) == {"params": (0, 0)}


def test_depth_counts_what_has_no_row():
    rows = table(depth=1, show_repeated=True)
    assert [row.path for row in rows] == [(), ("Block_0",), ("Block_0",)]
    assert [row.size_and_bytes(("params",))["params"][0] for row in rows] == [0, 16, 0]


def test_operations():
    rows = table(compute_flops=True, compute_vjp_flops=True)
    by_path = {row.path: row for row in rows}
    one, two = by_path["Block_0", "Affine_0"], by_path["Block_0", "Affine_1"]
    assert one.flops == two.flops == 2 * 2 * 2 * 4
    assert by_path["Block_0",].flops == one.flops + two.flops
    assert by_path[()].flops == 2 * by_path["Block_0",].flops
    assert one.vjp_flops >= 2 * one.flops


def test_operations_of_layers():
    class Net(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = nn.Conv(2, (3, 3))(x)
            return nn.MultiHeadDotProductAttention(num_heads=2)(x.reshape((1, -1, 2)))

    options = {"depth": None, "show_repeated": False, "mutable": True, "compute_flops": True, "compute_vjp_flops": True}
    rows = summary.make_table(Net(), KEY, (jnp.ones((1, 4, 4, 3)),), {}, **options)
    assert [row.method for row in rows] == ["__call__"] * len(rows)  # no helpers among them
    assert all(row.flops > 0 and row.vjp_flops > row.flops for row in rows)


def test_text():
    text = Net().tabulate(KEY, X, train=True, console_kwargs=PLAIN, compute_flops=True)
    for part in (
        "Net Summary",
        "Block_0/Affine_1",
        "w: float32[2,4]",
        "8 (32 B)",
        "Total Parameters: 22 (70 B)",
        "flops",
    ):
        assert part in text
    assert nn.tabulate(Net(), KEY, console_kwargs=PLAIN, compute_flops=True)(X, train=True) == text


def test_without_rich(monkeypatch):
    monkeypatch.setitem(sys.modules, "rich", None)
    monkeypatch.setitem(sys.modules, "rich.console", None)
    with pytest.raises(ImportError, match=r"tabulate needs the package rich") as caught:
        Net().tabulate(KEY, X)
    assert "fx-linen[summary]" in str(caught.value)
