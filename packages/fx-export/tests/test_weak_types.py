"""Numbers of Python, and arrays that are made of them: JAX takes their dtype from what they are computed with."""

import fx_export
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fx_export.errors import InputMismatchError

HALF = jnp.full((2, 3), 1.5, jnp.bfloat16)
FORMATS = pytest.mark.parametrize("format", ["stablehlo", "onnx"])


@FORMATS
@pytest.mark.parametrize(
    "factor", [2.0, jnp.asarray(2.0), jnp.full((3,), 2.0), 3], ids=["number", "array", "row", "int"]
)
def test_weights_of_weak_types_leave_the_dtype_to_the_network(format, factor, tmp_path):
    def scaled(weights, x):
        return x * jnp.broadcast_to(weights["factor"], x.shape)

    weights = {"factor": factor}
    path = fx_export.export(tmp_path / "net", scaled, weights, ["bfloat16[batch, 3]"], format=format)
    got, expected = fx_export.load(path)(HALF), scaled(weights, HALF)
    assert got.dtype == expected.dtype == jnp.bfloat16
    np.testing.assert_array_equal(np.asarray(got, np.float32), np.asarray(expected, np.float32))


@FORMATS
def test_strong_weights_do_not(format, tmp_path):
    weights = np.float32(2)
    path = fx_export.export(tmp_path / "net", lambda factor, x: x * factor, weights, [HALF], format=format)
    assert fx_export.load(path)(HALF).dtype == jnp.float32


@FORMATS
@pytest.mark.parametrize(("x", "number"), [(HALF, 2.5), (np.full((2,), 3, np.int8), 3), (np.ones(2, np.float16), 3)])
def test_inputs_may_be_numbers(format, x, number, tmp_path):
    def scaled(_, x, factor):
        return x * factor

    network = fx_export.load(fx_export.export(tmp_path / "net", scaled, (), [x, number], format=format))
    expected = scaled((), jnp.asarray(x), number)
    for given in (number, jnp.asarray(number)):
        got = network(x, given)
        assert got.dtype == expected.dtype == x.dtype
        np.testing.assert_array_equal(np.asarray(got, np.float32), np.asarray(expected, np.float32))


@FORMATS
def test_numbers_become_what_the_network_takes(format, tmp_path):
    specs = [jax.ShapeDtypeStruct((), dtype) for dtype in (jnp.bfloat16, jnp.uint8, jnp.float32, jnp.bool_)]
    path = fx_export.export(tmp_path / "net", lambda _, *inputs: inputs, (), specs, format=format)
    network = fx_export.load(path)
    assert [np.asarray(each).item() for each in network(1.5, 255, 3, True)] == [1.5, 255, 3.0, True]
    for number, text in ((256, r"got: int64\[\]"), (-1, r"got: int64\[\]"), (1.5, r"got: float64\[\]")):
        with pytest.raises(InputMismatchError, match=text) as caught:
            network(1.5, number, 3.0, True)
        assert (caught.value.path, caught.value.expected) == ("input 1", "uint8[]")
    with pytest.raises(InputMismatchError, match="got: int64"):
        network(1.5, 255, 3.0, 1)


def test_numbers_where_executables_are_kept(tmp_path):
    path = fx_export.export(tmp_path / "net", lambda _, x, factor: x * factor, (), [HALF, 2.5])
    for _ in range(2):
        network = fx_export.load(path, compiled=tmp_path / "compiled")
        assert np.asarray(network(HALF, 2.5), np.float32)[0, 0] == 3.75
    assert len(list((tmp_path / "compiled").iterdir())) == 1


def test_examples_of_weak_types_stand_for_arrays_of_their_dtype(tmp_path):
    example = jnp.full((3,), 2.0)
    assert example.weak_type
    path = fx_export.export(tmp_path / "net", lambda _, x, y: x * y, (), [HALF[0], example])
    assert fx_export.load(path)(HALF[0], np.ones(3, np.float32)).dtype == jnp.float32
