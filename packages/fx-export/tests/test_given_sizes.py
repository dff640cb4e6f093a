"""Numbers for the free sizes of a call: each fits the others and the constraints, in every format."""

import json
from pathlib import Path

import fx_export
import jax
import numpy as np
import pytest
from fx_export.errors import BundleError, InputMismatchError
from fx_export.inputs import InputCheck
from jax.core import max_dim

FORMATS = pytest.mark.parametrize("format", ["stablehlo", "onnx"])


def loaded(path, fn, inputs, format, **options):
    return fx_export.load(fx_export.export(path, fn, {}, inputs, format=format, **options))


@FORMATS
def test_a_free_size_is_one_or_larger(tmp_path, format):
    net = loaded(tmp_path / "net", lambda _, x, y: x.sum() + y, ["float32[n, 3]", "float32[n + 2]"], format)
    assert net(np.ones((1, 3), np.float32), np.ones(3, np.float32)).tolist() == [4, 4, 4]
    with pytest.raises(
        InputMismatchError, match=r"input 0, axis 0 of float32\[n, 3\]\n  expected: at least 1\n  got: 0"
    ):
        net(np.ones((0, 3), np.float32), np.ones(2, np.float32))


@FORMATS
def test_sizes_fit_each_other(tmp_path, format):
    inputs = ["float32[2*n]", "float32[n*m]", "float32[m + 1]", "float32[9 - n]", "float32[max(n, 3)]"]
    net = loaded(
        tmp_path / "net", lambda _, *xs: sum(x.sum() for x in xs), inputs, format, verify_sizes={"n": [2], "m": [3]}
    )
    right = (4, 6, 4, 7, 3)
    assert net(*(np.ones(size, np.float32) for size in right)) == sum(right)
    for sizes, text in (
        ((5, 6, 4, 7, 3), r"input 0, axis 0 of float32\[2\*n\]\n  expected: 2\*n for a whole number\n  got: 5"),
        ((0, 6, 4, 7, 3), r"float32\[2\*n\]\n  expected: at least 2\n  got: 0"),
        ((4, 6, 1, 7, 3), r"float32\[m \+ 1\]\n  expected: 4, where m is 3\n  got: 1"),
        ((4, 7, 4, 7, 3), r"input 1, axis 0 of float32\[m\*n\]|input 1, axis 0 of float32\[n\*m\]"),
        ((4, 8, 4, 7, 3), r"input 2, axis 0 of float32\[m \+ 1\]\n  expected: 5, where m is 4\n  got: 4"),
        ((4, 6, 4, 6, 3), r"expected: 7, where n is 2\n  got: 6"),
        ((4, 6, 4, 7, 2), r"expected: 3, where n is 2\n  got: 2"),
    ):
        with pytest.raises(InputMismatchError, match=text):
            net(*(np.ones(size, np.float32) for size in sizes))


@FORMATS
def test_constraints_hold_in_each_call(tmp_path, format):
    """The program is simplified by them: beyond the limit, eight rows would come out for nine."""

    def rows(_, x):
        return jax.numpy.zeros(max_dim(x.shape[0], 8)) + x.sum()

    net = loaded(tmp_path / "limit", rows, ["float32[n]"], format, constraints=["n <= 8"])
    assert net(np.ones(8, np.float32)).shape == (8,)
    with pytest.raises(
        InputMismatchError, match=r"axis 0 of float32\[n\]\n  expected: n ?<= ?8\n  got: 9, where n is 9"
    ):
        net(np.ones(9, np.float32))
    net = loaded(tmp_path / "even", lambda _, x: x * 2, ["float32[n]"], format, constraints=["mod(n, 2) == 0"])
    for _ in range(2):
        assert net(np.ones(4, np.float32)).shape == (4,)
        with pytest.raises(InputMismatchError, match="got: 3, where n is 3"):
            net(np.ones(3, np.float32))


def test_sizes_from_which_nothing_is_computed():
    a, b = jax.export.symbolic_shape("a, b")
    check = InputCheck([jax.ShapeDtypeStruct((a * b,), np.float32), jax.ShapeDtypeStruct((8 - a,), np.float32)])
    check([np.zeros(6, np.float32), np.zeros(6, np.float32)])
    with pytest.raises(InputMismatchError, match="at most 7"):
        check([np.zeros(6, np.float32), np.zeros(9, np.float32)])
    ratio = InputCheck([jax.ShapeDtypeStruct(jax.export.symbolic_shape("n, mod(4, n - 1)"), np.float32)])
    ratio([np.zeros((4, 1), np.float32)])
    with pytest.raises(InputMismatchError, match="no size, where n is 1"):
        ratio([np.zeros((1, 1), np.float32)])
    for size in range(2, 602, 2):
        check([np.zeros(size, np.float32), np.zeros(6, np.float32)])
    with pytest.raises(InputMismatchError):
        check([np.zeros(6, np.float32), np.zeros(9, np.float32)])


def test_renewed_bundles_keep_their_constraints(tmp_path):
    path = fx_export.export(tmp_path / "net", lambda _, x: x * 2, {}, ["float32[n]"], constraints=["n <= 8"])
    for _ in range(2):
        fx_export.renew(path)
        with pytest.raises(InputMismatchError, match="got: 9, where n is 9"):
            fx_export.load(path)(np.ones(9, np.float32))


@FORMATS
@pytest.mark.parametrize("found", ["n <= 8", ["n"], [3], {"n": 8}])
def test_constraints_of_an_index_that_are_none(tmp_path, format, found):
    path = fx_export.export(tmp_path / "net", lambda _, x: x * 2, {}, ["float32[n]"], format=format)
    index = json.loads((path / "data" / "index.json").read_text())
    assert "constraints" not in index
    (path / "data" / "index.json").write_text(json.dumps({**index, "constraints": found}))
    exporter = fx_export.bundle.exporter_named(format)
    with pytest.raises(BundleError, match="constraints of sizes are malformed"):
        exporter.load(Path(path / "data"))
