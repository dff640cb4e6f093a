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
    assert one.vjp_flops == 3 * one.flops  # the product itself, and one for each of its factors


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


class Inner(nn.Module):
    @nn.compact
    def __call__(self, x):
        self.variable("stats", "count", lambda: jnp.zeros((), jnp.int32))
        return nn.Dense(4, use_bias=False)(x)


def forward(module, x):
    return module(x)


def loop(module, x):
    step = nn.scan(lambda m, c, _: (m(c), None), variable_broadcast=True, split_rngs={}, length=3)
    return step(module, module(x), None)[0]


def customized(module, x):
    return nn.custom_vjp(forward, lambda m, x: nn.vjp(forward, m, x), lambda pull, g: pull(g))(module, x)


def while_loop(module, x):
    step = lambda m, c: (c[0] + 1, m(c[1]))  # noqa: E731
    return nn.while_loop(lambda m, c: c[0] < 3, step, module, (0, module(x)), broadcast_variables=True)[1]


ONE = 2 * 2 * 4 * 4
LIFTED = {
    "jit": (lambda m, x: nn.jit(forward)(m, x), 1),
    "remat": (lambda m, x: nn.remat(forward)(m, x), 1),
    "vmap": (lambda m, x: nn.vmap(forward, variable_axes={True: None}, split_rngs={})(m, m(x)), 2),
    "scan": (loop, 4),
    "while": (while_loop, 2),
    "cond": (lambda m, x: nn.cond(True, forward, forward, m, m(x)), 2),
    "switch": (lambda m, x: nn.switch(0, [forward, forward], m, m(x)), 2),
    "grad": (lambda m, x: nn.value_and_grad(lambda m, x: m(x).sum(), m, x)[0] * x, 1),
    "vjp": (lambda m, x: nn.vjp(forward, m, x)[0], 1),
    "jvp": (lambda m, x: nn.jvp(forward, m, (x,), (x,), variable_tangents={})[0], 1),
    "custom_vjp": (customized, 1),
    "map_variables": (lambda m, x: nn.map_variables(forward, "params", init=True, mutable=True)(m, x), 1),
    "named_call": (lambda m, x: nn.named_call(forward)(m, x), 1),
}


@pytest.mark.parametrize("kind", LIFTED)
def test_lifted_functions(kind):
    """Rows are calls of modules, not of functions that transforms run; operations are those of all steps."""
    run, calls = LIFTED[kind]

    class Around(nn.Module):
        @nn.compact
        def __call__(self, x):
            return run(Inner(), x)

    options = {"depth": None, "show_repeated": True, "mutable": True, "compute_flops": True, "compute_vjp_flops": True}
    rows = summary.make_table(Around(), KEY, (jnp.ones((2, 4)),), {}, **options)
    assert {(row.path, row.method) for row in rows} == {
        ((), "__call__"), (("Inner_0",), "__call__"), (("Inner_0", "Dense_0"), "__call__"),
    }  # fmt: skip
    assert all(row.flops <= ONE for row in rows[1:])
    assert rows[0].flops // ONE == calls, rows[0].flops
    assert kind == "while" or rows[0].vjp_flops > rows[0].flops


@pytest.mark.parametrize(
    ("layer", "inner", "call", "steps"),
    [
        (lambda: nn.RNN(nn.LSTMCell(3)), "LSTMCell", {}, 5),
        (lambda: nn.Bidirectional(nn.RNN(nn.GRUCell(3)), nn.RNN(nn.GRUCell(3))), "GRUCell", {}, 10),
        (lambda: nn.WeightNorm(nn.Dense(3)), "Dense", {}, 1),
        (lambda: nn.SpectralNorm(nn.Dense(3)), "Dense", {"update_stats": True}, 1),
    ],
)
def test_layers_around_layers(layer, inner, call, steps):
    class Around(nn.Module):
        @nn.compact
        def __call__(self, x):
            return layer()(x, **call)

    options = {"depth": None, "show_repeated": False, "mutable": True, "compute_flops": True, "compute_vjp_flops": True}
    rows = summary.make_table(Around(), KEY, (jnp.ones((2, 5, 4)),), {}, **options)
    assert {row.method for row in rows} == {"__call__"}
    one = next(row for row in rows if type(row.module_copy).__name__ == inner)
    whole, wrapper = rows[:2]
    assert whole.flops == wrapper.flops  # wherever the inner layer's variables live
    assert steps * one.flops <= whole.flops < steps * one.flops + 500  # initializers would take thousands
    assert whole.vjp_flops > whole.flops


def test_a_function_in_place_of_a_method():
    def twice(module, x):
        return module(module(x))

    options = {"depth": None, "show_repeated": True, "mutable": True, "compute_flops": True}
    rows = summary.make_table(nn.Dense(4), KEY, (jnp.ones((2, 4)),), {"method": twice}, **options)
    assert [(row.method, row.flops) for row in rows] == [("__call__", 2 * 2 * 4 * 4 + 8)] * 2


@pytest.mark.parametrize("names", [("embed", "mlp"), (None, ("mlp", "heads"))])
def test_names_of_axes(names):
    shown = str(names).replace("'", "")
    for box in (nn.with_partitioning, nn.with_logical_partitioning):
        layer = nn.Dense(4, kernel_init=box(jax.nn.initializers.zeros, names))
        text = layer.tabulate(KEY, X, console_kwargs=PLAIN)
        assert f"kernel: float32[2,4] P{shown}" in text
        assert "bias: float32[4] " in text
        assert "12 (48 B)" in text


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
