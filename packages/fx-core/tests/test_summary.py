"""What the tables of networks share."""

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import pytest
import rich.console
from fx_core.summary import count_flops, draw

X, W = jax.ShapeDtypeStruct((4, 8), "float32"), jax.ShapeDtypeStruct((8, 8), "float32")
ONE = 2 * 4 * 8 * 8


def scan(x, w, length, unroll=1):
    return jax.lax.scan(lambda c, _: (c @ w, None), x, length=length, unroll=unroll)[0]


@pytest.mark.parametrize("unroll", [1, 2, 3, 4, 7, True])
@pytest.mark.parametrize("length", [1, 5, 6])
def test_steps_of_scans(length, unroll):
    assert count_flops(lambda x, w: scan(x, w, length, unroll), X, W) // ONE == length


@pytest.mark.parametrize(
    ("run", "products"),
    [
        (lambda x, w: jax.lax.scan(lambda c, _: (scan(c, w, 3, 2), None), x, length=4, unroll=3)[0], 12),
        (lambda x, w: jax.jit(scan, static_argnums=2)(jax.checkpoint(lambda x: scan(x, w, 2))(x), w, 3), 5),
        (lambda x, w: jax.lax.cond(x[0, 0] > 0, lambda x: scan(x, w, 2), lambda x: scan(x, w, 9), x), 9),
        (lambda x, w: jax.lax.fori_loop(0, 6, lambda _, c: c @ w, x), 6),
        (lambda x, w: jax.vmap(lambda row: scan(row, w, 5))(x), 5),
        (lambda x, w: jax.value_and_grad(lambda w: scan(x, w, 5).sum())(w), 15),
    ],
)
def test_scans_inside(run, products):
    assert products * ONE <= count_flops(run, X, W) < (products + 1) * ONE


def test_keys_and_integers():
    def run(key, n):
        return jax.random.uniform(key, (4,)) * n, n

    assert count_flops(run, jax.eval_shape(lambda: jax.random.key(0)), jax.ShapeDtypeStruct((), jnp.int32)) > 0


CELLS = [
    "",
    "Conv",
    "float32[1,224,224,3]",
    "kernel: float32[7,7,3,64]\n\n9,408 (37.6 KB)",
    "-\n  a: x",
    "[bold]x[/bold]",
]
CELLS += [
    "x" * 30,
    "日本語 テキスト",
    "\n",
    "ends in blanks   ",
    "  five words of a text",
    "a\tb",
    "\x1b[1m",
    "a\x0bb",
    "e\u0301",
]


@hypothesis.settings(deadline=None)
@hypothesis.given(
    rows=st.integers(1, 7).flatmap(
        lambda n: st.lists(st.lists(st.sampled_from(CELLS), min_size=n, max_size=n), min_size=1, max_size=6)
    ),
    head=st.sampled_from(["path", "a column of words", "RngState"]),
    foot=st.sampled_from(["", "Total", "1,000 (3.4 KB)"]),
    width=st.sampled_from([None, 5, 20, 31, 40, 60, 80, 100, 200]),
)
def test_joined_rows_are_those_of_rich(rows, head, foot, width):
    heads, feet = [[text] * len(rows[0]) for text in (head, foot)]
    options = {} if width is None else {"width": width, "force_terminal": width % 20 == 0}
    drawn = draw("fx", "A Summary", heads, rows, feet, "\nTotal: 1", console_kwargs=options)
    given_title = {"title": "A Summary"}  # which rich draws, with all cells
    assert drawn == draw(
        "fx", "A Summary", heads, rows, feet, "\nTotal: 1", console_kwargs=options, table_kwargs=given_title
    )


def test_rich_lays_out_as_many_cells_for_many_rows(monkeypatch):
    laid_out = 0
    plain = rich.console.Console.render_lines

    def counted(*args, **kwargs):
        nonlocal laid_out
        laid_out += 1
        return plain(*args, **kwargs)

    monkeypatch.setattr(rich.console.Console, "render_lines", counted)
    counts = []
    for size in (2, 100):
        laid_out = 0
        text = draw("fx", "A Summary", ["a", "b"], [[f"row {n}", "x"] for n in range(size)], ["", ""], "caption")
        counts.append(laid_out)
        assert text.count("row ") == size
    assert counts[0] == counts[1]
