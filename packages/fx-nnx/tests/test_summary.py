import builtins
import re
import sys
import types

import fx_nnx as nnx
import jax
import jax.numpy as jnp
import pytest
import treescope
from fx_core.errors import MissingPackageError
from fx_nnx.errors import InvalidAttributeError

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
    with pytest.raises(InvalidAttributeError, match="Net has no method 'decode'"):
        nnx.tabulate(Net(), jnp.ones((1, 2)), method="decode")
    real = builtins.__import__

    def without_rich(name, *args, **kwargs):
        if name.startswith("rich"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_rich)
    with pytest.raises(MissingPackageError, match=r"pip install 'fx-nnx\[summary\]'"):
        nnx.tabulate(Net(), jnp.ones((1, 2)))


def test_display_prints(capsys):
    nnx.display(nnx.Param(jnp.array(1.0)), {"a": 1})
    assert (
        capsys.readouterr().out == "Param( # 1 (4 B)\n  value=Array(1., dtype=float32, weak_type=True)\n)\n{'a': 1}\n"
    )


def test_variables_and_states_show_numbers_and_models_shapes():
    kernel = nnx.Param(jnp.arange(8.0).reshape(2, 4))
    model = nnx.Dict(kernel=kernel)
    for numbers in (kernel, nnx.state(model)):
        assert "[4., 5., 6., 7.]" in repr(numbers)
    assert "Array(shape=(2, 4), dtype=float32)" in repr(model)
    assert "[4., 5., 6., 7.]" not in repr(model)
    assert len(repr(nnx.Param(jnp.ones((100, 100))))) < 1000


# Treescope looks at numpy.chararray, which newer versions of NumPy warn about.
with_treescope = pytest.mark.filterwarnings("ignore:The chararray class is deprecated:DeprecationWarning")


@with_treescope
def test_display_in_a_notebook(monkeypatch):
    shown = []
    publish = types.SimpleNamespace(display=lambda page, **options: shown.append(page))
    ipython = types.SimpleNamespace(get_ipython=lambda: object(), display=publish)
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setattr(treescope, "display", lambda value, **options: shown.append(treescope.render_to_html(value)))
    nnx.display(Net(), {"a": 1})
    assert len(shown) == 2
    assert all("treescope" in page for page in shown)


class Whole(nnx.Module):
    def __init__(self):
        self.part = nnx.Linear(2, 3, use_bias=False, rngs=nnx.Rngs(0))
        self.again, self.tied, self.me = self.part, self.part.kernel, self
        self.items = nnx.List([nnx.Param(jnp.ones(2)), nnx.Dict(a=nnx.Variable(1), b=nnx.relu)])
        self.rngs = nnx.Rngs(3, dropout=1)
        self.split = nnx.Param(jnp.ones((2, 4)), out_sharding=("rows", None), eager_sharding=False)


@with_treescope
def test_what_treescope_renders():
    model = Whole()
    text = treescope.render_to_text(model)
    lines = [line.strip() for line in text.splitlines()]
    assert lines[0] == "Whole("
    assert re.search(r"^\) # Repeated python obj at 0x\w+ # Param: 16 \(64 B\), RngCount: 2", lines[-1])
    assert re.search(r"me=<cyclic reference to Whole at 0x\w+>", text)
    assert len(re.findall(r"part=Linear\(.*kernel=Param\(value=<jax.Array float32\(2, 3\)", text)) == 1
    assert len([line for line in lines if "Repeated python obj" in line]) >= 4
    squeezed = re.sub(r"\s+", "", text)
    assert "items=List([Param(value=<jax.Array([1.,1.],dtype=float32)>),Dict({'a':Variable(value=1),'b':" in squeezed
    assert "default=RngStream(tag='default', key=RngKey(value=<jax.Array key<fry>()>" in text
    assert "out_sharding=('rows', None)" in text
    assert treescope.render_to_text(nnx.state(model.items)).startswith("State({\n  0: Param(")
    page = treescope.render_to_html(model, compressed=False)
    assert "cyclic reference to" in page
    assert "Param: 16 (64 B)" in page
    assert "GraphDef(Whole" in treescope.render_to_text(nnx.graphdef(model))


def test_repr_of_a_module_counts_its_variables_once():
    assert repr(Whole()).startswith(
        "Whole( # Param: 16 (64 B), RngCount: 2 (8 B), RngKey: 2 (16 B), Variable: 0 (0 B)\n"
    )
    assert "part=Linear(\n" in repr(Whole())


class Inner(nnx.Module):
    def __init__(self):
        self.table = nnx.Param(jnp.ones((2, 3)), role="table", unit=None)

    def encode(self, x, options):
        return x @ self.table[...]

    def decode(self, x, options=None):
        return self.table[...] @ x, options


class Outer(nnx.Module):
    def __init__(self):
        self.inner = Inner()

    def __call__(self, x):
        return self._hidden(self.both(x))

    def both(self, x):
        return self.inner.decode(self.inner.encode(x, {})[0], options=(1, [], None))

    def _hidden(self, x):
        return self.inner.encode(jnp.ones((1, 2)), {}), x


def test_methods_have_rows_of_their_own():
    text = nnx.tabulate(Outer(), jnp.ones((1, 2)), console_kwargs=PLAIN)
    assert text.splitlines()[0].strip() == "Outer Summary"
    table = rows(text)
    assert [row[0] for row in table if row[0]] == ["both", "inner/encode", "inner/decode"]
    assert [row[1] for row in table if row[1]] == ["Outer", "Outer", "Inner", "Inner"]
    assert text.count("table:") == 1  # a module lists its variables once
    assert "role: 'table'" in text
    assert "unit" not in text
    assert "- {}" in text
    assert "- []" in text
    shallow = rows(nnx.tabulate(Outer(), jnp.ones((1, 2)), depth=0, console_kwargs=PLAIN))
    assert [row[0] for row in shallow if row[0]] == ["both"]


def test_operations_of_a_gradient_include_those_of_the_call():
    model = nnx.Linear(2, 3, use_bias=False, rngs=nnx.Rngs(0))
    text = nnx.tabulate(model, jnp.ones((4, 2)), compute_flops=True, compute_vjp_flops=True, console_kwargs=PLAIN)
    flops, with_gradient = map(int, rows(text)[0][4:6])
    assert flops >= 2 * 4 * 2 * 3
    assert with_gradient >= 3 * flops


def test_calls_with_arguments_of_several_shapes_have_rows_of_their_own():
    class Model(nnx.Module):
        def __init__(self):
            self.layer = nnx.Linear(2, 2, rngs=nnx.Rngs(0))

        def choose(self, x, *, mask=None):
            return x

        def __call__(self, x):
            x = self.layer(self.layer(x)) + self.layer(x[:1])
            return self.choose(self.choose(x, mask={}), mask=None)

    text = nnx.tabulate(Model(), jnp.ones((3, 2)), compute_flops=True, console_kwargs=PLAIN)
    table = [row for row in rows(text) if row[0]]
    assert [row[0] for row in table] == ["layer", "layer", "choose", "choose"]
    assert [row[2] for row in table[:2]] == ["float32[3,2]", "float32[1,2]"]
    assert [int(row[4]) for row in table[:2]] == [30, 10]
    assert text.count("kernel: float32[2,2]") == 1
    assert "mask: {}" in text
    assert "mask: None" in text
