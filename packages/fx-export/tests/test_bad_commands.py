"""Mistakes in the line of ``fx export``: each is an error of fx that names it, and nothing is left behind."""

import os
import sys
import textwrap

import fx_export
import jax
import jax.export
import numpy as np
import pytest
from click.testing import CliRunner
from fx_core.errors import ArgumentError, ArgumentTypeError, DtypeError
from fx_core.testing.faults import FaultyFileSystem, fail_from, no_space
from fx_export.commands import export

IMAGE = ("--input", "image:float32[batch, 3]")


@pytest.fixture
def trained(tmp_path, monkeypatch):
    text = """
        import numpy as np

        def build(run):
            return (lambda kernel, image, scale=1: scale * (image @ kernel)), np.ones((3, 2), np.float32)

        def of_two(run):
            return (lambda kernel, x, y: x.sum() + y.sum()), np.float32(1)

        def of_none(run):
            return (lambda kernel, x: x * kernel), np.float32(2)
    """
    (tmp_path / "network_of_mistakes.py").write_text(textwrap.dedent(text))
    (tmp_path / "run").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path / "run"
    sys.modules.pop("network_of_mistakes", None)


def run(trained, *arguments, model="build", inputs=IMAGE):
    line = [str(trained), "--model", f"network_of_mistakes:{model}", *inputs, *map(str, arguments)]
    return CliRunner().invoke(export, line)


def refused(trained, text, *arguments, **more):
    result = run(trained, *arguments, **more)
    assert isinstance(result.exception, SystemExit), result.exception
    assert result.exit_code in (1, 2)
    assert text in result.output
    assert os.listdir(trained) == []


@pytest.mark.parametrize(
    ("sizes", "text"),
    [
        ("m=[1]", "No input has a free size 'm' to compare at.\n  expected: sizes of batch"),
        *((f"batch={sizes}", "are a list of numbers from 1 on") for sizes in ("[0.5]", "[]", "[0]", "[-1]", '["a"]')),
        *(
            (f"batch={sizes}", "are a list of numbers from 1 on")
            for sizes in ("3", "null", "{}", "[true]", "1,128", "")
        ),
        ("batch=" + "[" * 100_000, "are a list of numbers from 1 on"),
        ("batch=[100000000000000]", "do not fit into memory"),
        ("batch=[99999999999999999999]", "do not fit into memory"),
    ],
)
def test_sizes_to_compare_at(sizes, text, trained):
    refused(trained, text, "--verify-sizes", sizes)


def test_sizes_that_are_named_are_tried_or_refused(trained):
    refused(trained, "'batch' is there twice", "--verify-sizes", "batch=[1]", "--verify-sizes", "batch=[2]")
    refused(trained, "cannot be compared at batch=9", "--verify-sizes", "batch=[1,9]", "--constraint", "batch <= 8")
    assert run(trained, "--verify-sizes", "batch=[1,7,9]").exit_code == 0
    trials = fx_export.load(trained / "exports/stablehlo").verification["trials"]
    assert {trial.rpartition("=")[2] for trial in trials} == {"1", "7", "9"}


@pytest.mark.parametrize(
    ("constraint", "text"),
    [
        *(
            (text, "This is no constraint of sizes")
            for text in ("nonsense", "batch <=", "batch <= 3 <= 4", "", "batch")
        ),
        *((text, "This is no constraint of sizes") for text in ("batch > 2", "batch >= 0.5", "batch != 3", "3 <= 4")),
        *((f"batch <= {size}", "This is no constraint of sizes") for size in ("9" * 30, "2^999999999", "x y", "(((")),
        ("length <= 8", "is about a size that no text of an input has.\n  expected: batch\n  got: length"),
        ("batch <= 0", "No size of 'batch' fits all of its constraints"),
    ],
)
def test_constraints(constraint, text, trained):
    refused(trained, text, "--constraint", constraint)


@pytest.mark.parametrize(
    "pair", [("batch >= 4", "batch <= 2"), ("batch == 3", "batch >= 4"), ("2*batch >= 7", "batch <= 3")]
)
def test_constraints_that_no_size_fits(pair, trained):
    text = f"expected: constraints that some size from 1 on fits\n  got: {'; '.join(pair)}"
    refused(trained, text, "--constraint", pair[0], "--constraint", pair[1])


@pytest.mark.parametrize("constraint", ["batch >= 100", "mod(batch, 37) == 0", "batch <= 2", "batch == 5"])
def test_a_network_is_compared_where_its_constraints_let_it(constraint, trained):
    result = run(trained, "--constraint", constraint)
    assert result.exit_code == 0, result.output
    assert fx_export.load(trained / "exports/stablehlo").verification["trials"]


@pytest.mark.parametrize(
    "shape",
    [
        *(
            "-1",
            "0.5",
            "-2*batch + batch^2, -3",
            "9" * 20,
            "x y",
            "1e3",
            "...",
            "*",
            ",",
            "b,,3",
            "lambda: 0",
            "'a'",
            "0x10",
        ),
        *(
            "True",
            "None",
            "class",
            "max",
            "ﬁ",
            "b//2",
            "1;2",
            "(" * 9999,
            "n+" * 9999 + "n",
            "1," * 100,
            "n^99999999999",
        ),
    ],
)
def test_shapes(shape, trained):
    refused(trained, "This describes no input", inputs=("--input", f"image:float32[{shape}]"))


@pytest.mark.parametrize(
    "text",
    [
        *(
            ":float32[3]",
            "a b:float32[3]",
            "x:float99[3]",
            "x:float32",
            "x:float32[3",
            "x:float32[3]]",
            "",
            "x",
            "x::int32[3]",
        ),
        *("../x:float32[3]", "x\x1b[31m:float32[3]", "x:str[3]", "x:object[3]", "x" * 10_000),
    ],
)
def test_texts_of_inputs(text, trained):
    refused(trained, "This describes no input", inputs=("--input", text))


def test_more_about_inputs(trained):
    two = ("--input", "x:float32[n]", "--input")
    refused(trained, "2 different names", inputs=(*two, "x:float32[n]"), model="of_two")
    refused(trained, "Some inputs have names, and others have none", inputs=(*two, "float32[n]"), model="of_two")
    refused(trained, "missing a required argument: 'y'", inputs=two[:2], model="of_two")
    refused(trained, "too many positional arguments", inputs=(*two, "y:float32[n]"), model="of_none")
    refused(trained, "computes with float32 in place of float64", inputs=("--input", "x:float64[n]"), model="of_none")
    refused(trained, "cannot be compared at any size", inputs=("--input", "x:float32[-n]"), model="of_none")
    assert run(trained, inputs=("--input", "x:float32[n-4, 0]"), model="of_none").exit_code == 0


@pytest.mark.parametrize(
    "option",
    [
        "inputs=[1]",
        "model=3",
        "tolerance=1",
        "call={}",
        "format=onnx",
        "path=x",
        "key=abc",
        "verify=false",
        "overwrite=true",
    ],
)
def test_options_are_the_formats_own(option, trained):
    refused(trained, "options of the format; the command has its own", "--option", option)


@pytest.mark.parametrize(
    ("option", "text"),
    [
        ("metadata={}", "the command has its own"),
        ("directory=3", "options out of platforms"),
        ("opset=21", "options out of platforms"),
        ("platforms=3", "platforms out of cpu, cuda, rocm, tpu"),
        ("platforms=[[1]]", "platforms out of cpu, cuda, rocm, tpu"),
        ("platforms=null", "platforms out of cpu, cuda, rocm, tpu"),
        ("stablehlo=99.0.0", "a version from"),
        ("stablehlo=0.0.1", "a version from"),
        ("stablehlo=1.10", "a version such as"),
        ('input_names=["a", "b"]', "names do not fit the arrays.\n  expected: input_names: 1 different names"),
    ],
)
def test_values_of_options(option, text, trained):
    refused(trained, text, "--option", option)


def test_other_mistakes(trained):
    refused(trained, "got an unexpected keyword argument 'nope'", "--call", "nope=3")
    refused(trained, "multiple values for argument 'image'", "--call", "image=3")
    for tolerance in ("nan", "-1"):
        refused(trained, "A tolerance is a number from 0 on", "--tolerance", tolerance)
    refused(trained, "There is no exporter 'ONNX'", "--format", "ONNX")


def test_what_fails_late_leaves_no_directories(trained):
    with FaultyFileSystem(trained, fail_from(6, no_space())):
        result = run(trained, "--output", trained / "a/b/c")
    assert result.exit_code == 1
    assert "No space left" in result.output
    assert os.listdir(trained) == []
    (trained / "a").mkdir()
    with FaultyFileSystem(trained, fail_from(6, no_space())):
        run(trained, "--output", trained / "a/b/c")
    assert [os.listdir(trained), os.listdir(trained / "a")] == [["a"], []]


def test_paths_of_odd_characters(trained):
    result = run(trained, "--output", trained / "a\x1b[31mb")
    assert "a\\x1b[31mb: stablehlo bundle" in result.output
    assert (
        "\\x1b[31mb: stablehlo bundle, all bytes"
        in CliRunner().invoke(export, ["verify", str(trained / "a\x1b[31mb")]).output
    )
    (trained / "link").symlink_to("nowhere")
    result = run(trained, "--output", trained / "link/net")
    assert "a symbolic link to nowhere, where a directory is to be" in result.output


def test_equal_weights_and_constraints_are_renewed(tmp_path):
    weights = {name: np.ones((2, 2), np.float32) for name in ("a", "b")}
    entries = {
        "first": fx_export.EntryPoint(lambda w, x: x @ w["a"] @ w["b"], ["float32[n, 2]"], constraints=["n >= 7"]),
        "second": fx_export.EntryPoint(lambda w, x: x @ w["b"], ["float32[m, 2]"]),
    }
    path = fx_export.export_several(tmp_path / "several", entries, weights)
    fx_export.renew(path)
    assert fx_export.load(path)["first"](np.ones((7, 2), np.float32))[0].tolist() == [4, 4]
    one = fx_export.export(
        tmp_path / "one", lambda w, x: x @ w["a"] @ w["b"], weights, ["float32[k, 2]"], constraints=["mod(k, 4) == 0"]
    )
    again = CliRunner().invoke(export, ["renew", str(one), "--verify-sizes", "k=[8]"])
    assert again.exit_code == 0, again.output
    assert fx_export.load(one)(np.ones((4, 2), np.float32))[0].tolist() == [4, 4]
    for sizes, text in (("k=[2]", "cannot be compared at k=2"), ("q=[2]", "sizes of k"), ("k=[0]", "from 1 on")):
        result = CliRunner().invoke(export, ["renew", str(one), "--verify-sizes", sizes])
        assert result.exit_code == 1
        assert text in result.output


def test_inputs_of_python(tmp_path):
    for inputs, text in (
        ([{"x": "float32[3]"}], r"a text for an input as a whole\n  got: 'float32\[3\]' at \[0\]\['x'\]"),
        ([object()], "examples of arrays"),
        ([jax.ShapeDtypeStruct((3,), np.int64)], "computes with int32 in place of int64"),
    ):
        with pytest.raises((ArgumentTypeError, DtypeError), match=text):
            fx_export.export(tmp_path / "net", lambda w, x: x, None, inputs)
    own = jax.ShapeDtypeStruct(jax.export.symbolic_shape("n", constraints=["n >= 9"]), np.float32)
    path = fx_export.export(tmp_path / "net", lambda w, x: x * w, np.float32(2), [own])
    assert fx_export.load(path).verification["sizes"] == {"n": [9, 18]}
    for constraints, text in (
        (["n >= 3"], "is about a size that no text of an input has"),
        ("n >= 3", "list of texts"),
    ):
        with pytest.raises(ArgumentError, match=text):
            fx_export.export(tmp_path / "b", lambda w, x: x, None, [own], constraints=constraints)
    assert os.listdir(tmp_path) == ["net"]
