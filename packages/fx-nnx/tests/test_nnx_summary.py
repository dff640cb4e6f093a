import builtins
import re

import fx_nnx as nnx
import jax
import jax.numpy as jnp
import pytest
from fx_core.errors import NoSuchMethodError, SummaryExtraMissingError

PLAIN = {"force_terminal": False, "width": 160}


class Net(nnx.Module):
    def __init__(self):
        rngs = nnx.Rngs(0)
        self.first = nnx.Linear(2, 3, rngs=rngs)
        self.body = nnx.Sequential(nnx.BatchNorm(3, rngs=rngs), nnx.relu, nnx.Dropout(0.5, rngs=rngs))
        self.tied = self.first

    def __call__(self, x, *, extra=None):
        return {"y": self.body(self.first(x)), "z": self.tied(x)}

    def encode(self, x):
        return self.first(x)


def rows(text):
    lines = [line for line in text.splitlines() if line.startswith("│")]
    return [[cell.strip() for cell in line.strip("│").split("│")] for line in lines]


def test_a_row_per_module_and_a_column_per_kind():
    model = Net()
    text = nnx.tabulate(model, jnp.ones((1, 2)), extra=jnp.ones(3), console_kwargs=PLAIN)
    assert "Net Summary" in text
    assert re.search("path.*type.*inputs.*outputs.*BatchStat.*Param.*RngState", text)
    table = rows(text)
    assert [row[0] for row in table if row[0]] == ["first", "body", "body/layers/0", "body/layers/2"]
    root = table[0]
    assert root[1:3] == ["Net", "- float32[1,2]"]
    assert root[4:] == ["6 (24 B)", "15 (60 B)", "2 (12 B)"]
    assert table[-1][3:] == ["Total", "6 (24 B)", "15 (60 B)", "2 (12 B)"]
    assert "kernel: float32[2,3]" in text
    assert "Total Parameters: 23 (96 B)" in text
    assert int(model.body.layers[2].rngs.count[...]) == 0
    assert (model.body.layers[0].mean[...] == 0).all()


def test_depth_method_filter_and_operations():
    model, x = Net(), jax.ShapeDtypeStruct((1, 2), jnp.float32)
    shallow = rows(nnx.tabulate(model, x, depth=1, console_kwargs=PLAIN))
    assert [row[0] for row in shallow if row[0]] == ["first", "body"]
    encode = rows(nnx.tabulate(model, x, method="encode", console_kwargs=PLAIN))
    assert [row[0] for row in encode if row[0]] == ["first"]
    only = nnx.tabulate(model, x, row_filter=lambda row: row.type is nnx.BatchNorm, console_kwargs=PLAIN)
    assert [row[0] for row in rows(only) if row[0]] == ["body/layers/0"]
    counted = nnx.tabulate(model, x, compute_flops=True, compute_vjp_flops=True, console_kwargs=PLAIN)
    assert re.search("flops.*vjp_flops", counted)
    first = next(row for row in rows(counted) if row[0] == "first")
    assert int(first[4]) >= 12
    assert int(first[5]) > int(first[4])


def test_errors(monkeypatch):
    with pytest.raises(NoSuchMethodError, match="Net has no method 'decode'"):
        nnx.tabulate(Net(), jnp.ones((1, 2)), method="decode")
    real = builtins.__import__

    def without_rich(name, *args, **kwargs):
        if name.startswith("rich"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_rich)
    with pytest.raises(SummaryExtraMissingError, match=r"pip install 'fx-nnx\[summary\]'"):
        nnx.tabulate(Net(), jnp.ones((1, 2)))


def test_display_prints(capsys):
    nnx.display(nnx.Param(jnp.array(1.0)), {"a": 1})
    assert capsys.readouterr().out == "Param( # 1\n  value=Array(1., dtype=float32, weak_type=True)\n)\n{'a': 1}\n"


def test_display_in_a_notebook(monkeypatch):
    import sys
    import types

    shown = []
    ipython = types.SimpleNamespace(get_ipython=lambda: object())
    treescope = types.SimpleNamespace(display=lambda value, **options: shown.append(value))
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "treescope", treescope)
    nnx.display(1, 2)
    assert shown == [1, 2]
