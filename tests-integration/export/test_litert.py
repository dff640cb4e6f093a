"""LiteRT files: its own interpreter computes what JAX does, in floats and in 8 bits."""

import subprocess
import sys
from pathlib import Path

import fx_export
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fx_export.errors import ArgumentTypeError, UnsupportedProgramError, VerificationError
from networks import NETWORKS, network

pytest.importorskip("tensorflow")
pytest.importorskip("ai_edge_litert")

FACES = [("nnx", jnp.bfloat16), ("linen", jnp.float32)]
SIZES = {"batch": 2, "length": 5}


def save(path, fn, variables, inputs, **options):
    return fx_export.export(path / "net", fn, variables, inputs, format="litert", **options)


CASES = [(name, *FACES[n % 2]) for n, name in enumerate(NETWORKS)]
# A small one in both faces and both dtypes.
CASES += [("MLP", face, dtype) for face in ("linen", "nnx") for dtype in (jnp.float32, jnp.bfloat16)]


@pytest.mark.parametrize(("name", "face", "dtype"), dict.fromkeys(CASES))
def test_networks(name, face, dtype, tmp_path):
    model, variables = network(face, name, dtype)
    path = save(tmp_path, model, variables, NETWORKS[name], sizes=SIZES)
    trials = fx_export.load(path).verification["trials"]
    assert len(trials) == 3
    assert "batch=2" in trials[0]


@pytest.fixture(scope="module")
def layers():
    random = np.random.default_rng(0)
    variables = [random.standard_normal((64, 64)).astype(np.float32) / 8 for _ in range(3)]

    def fn(variables, x):
        for kernel in variables:
            x = jax.nn.relu(x @ kernel)
        return x

    calls = [[random.uniform(-1, 1, (4, 64)).astype(np.float32)] for _ in range(20)]
    return fn, variables, calls


def test_eight_bits(layers, tmp_path):
    fn, variables, calls = layers
    path = save(tmp_path, fn, variables, ["x:float32[4, 64]"], int8=True, representative=calls)
    loaded = fx_export.load(path)
    assert loaded.verification["trials"] == [f"given inputs {n}" for n in range(20)]
    assert 1e-4 < loaded.verification["max_relative_error"] < 0.1
    whole = sum(kernel.nbytes for kernel in variables)
    assert (path / "data/model.tflite").stat().st_size < 0.5 * whole
    with pytest.raises(VerificationError, match="given inputs 0"):
        save(tmp_path / "exact", fn, variables, ["float32[4, 64]"], int8=True, representative=calls, tolerance=1e-5)


def test_weights_in_eight_bits(layers, tmp_path):
    fn, variables, _ = layers
    path = save(tmp_path, fn, variables, ["x:float32[4, 64]"], int8=True)
    assert len(fx_export.load(path).verification["trials"]) == 3
    assert (path / "data/model.tflite").stat().st_size < 0.5 * sum(kernel.nbytes for kernel in variables)


def test_a_process_without_jax_and_fx_serves_it(layers, tmp_path):
    fn, variables, calls = layers
    path = save(tmp_path, fn, variables, ["x:float32[4, 64]"], output_names=["y"])
    np.savez(tmp_path / "inputs.npz", x=calls[0][0])
    served = Path(__file__).with_name("served.py")
    arguments = ["litert", path / "data/model.tflite", tmp_path / "inputs.npz", tmp_path / "outputs.npz"]
    subprocess.run([sys.executable, served, *arguments], check=True, capture_output=True, timeout=300)
    with np.load(tmp_path / "outputs.npz") as results:
        np.testing.assert_allclose(results["y"], fn(variables, jnp.asarray(calls[0][0])), rtol=1e-4, atol=1e-5)


def test_loops_of_narrow_floats(tmp_path):
    """Bits of bfloat16, and loops and branches that carry it."""

    def fn(variables, x):
        x, steps = jax.lax.scan(lambda c, n: (c * jnp.bfloat16(0.5) + n, c), x, variables)
        x = jax.lax.fori_loop(0, 3, lambda i, c: c + jnp.bfloat16(1), x)
        x = jax.lax.cond(x[0] > 0, jnp.negative, jnp.abs, x)
        return jax.lax.bitcast_convert_type(x, jnp.uint16) >> 7, x, steps

    variables = jnp.arange(8, dtype=jnp.bfloat16).reshape(4, 2)
    path = save(tmp_path, fn, variables, ["bfloat16[2]"], verify=False)
    x = jnp.array([1, -2], jnp.bfloat16)
    got, wanted = fx_export.load(path)(x), jax.jit(fn)(variables, x)
    assert [value.dtype for value in got] == [value.dtype for value in wanted]
    for one, other in zip(got, wanted, strict=True):
        np.testing.assert_allclose(one.astype(np.float32), np.asarray(other, np.float32), rtol=2e-2)


def test_free_sizes_have_to_be_given(tmp_path):
    scope = jax.export.SymbolicScope()
    batch, length = (jax.export.symbolic_shape(sizes, scope=scope) for sizes in ("batch", "length, 2"))
    inputs = [jax.ShapeDtypeStruct(batch, jnp.float32), {"x": jax.ShapeDtypeStruct(length, jnp.float32)}]
    with pytest.raises(ArgumentTypeError, match=r"each free size(.|\n)*batch in input 0, length in input 1/x"):
        save(tmp_path, lambda _, x, y: x, {}, inputs)
    with pytest.raises(ArgumentTypeError, match="representative inputs with int8=True only"):
        save(tmp_path, lambda _, x: x, {}, ["float32[2]"], representative=[[np.ones(2, np.float32)]])


def test_what_the_converter_lacks_leaves_nothing_behind(tmp_path):
    with pytest.raises(UnsupportedProgramError, match="sort"):
        save(tmp_path, lambda _, x: jnp.sort(x), {}, ["float32[3]"])
    assert list(tmp_path.iterdir()) == []


def squared(_, x):
    return x * x


def test_what_the_converter_lacks_is_named_with_the_line_of_the_model(tmp_path):
    line = squared.__code__.co_firstlineno + 1
    with pytest.raises(UnsupportedProgramError, match=rf"got: no tfl.mul in these dtypes \({__file__}:{line}\)\n"):
        save(tmp_path, squared, {}, ["int8[3]"])


def test_several_networks_are_signatures_that_share_weights(tmp_path):
    weights = np.random.default_rng(0).standard_normal((500, 40)).astype(np.float32)
    entry_points = {
        "embed": fx_export.EntryPoint(lambda w, t: w[t].sum(1), ["tokens:int32[batch, length]"]),
        "score": fx_export.EntryPoint(lambda w, x: x @ w.T, ["float32[batch, 40]"]),
    }
    sizes = {"batch": 1, "length": 3}
    path = fx_export.export_several(tmp_path / "net", entry_points, weights, format="litert", sizes=sizes)
    network = fx_export.load(path)
    embedded = network["embed"](np.array([[1, 2, 3]], np.int32))
    np.testing.assert_allclose(network["score"](embedded)[0], weights[1:4].sum(0) @ weights.T, rtol=1e-4, atol=1e-4)
    assert (path / "data/model.tflite").stat().st_size < 1.2 * weights.nbytes


@pytest.mark.parametrize("strides", [(2, 2), (3, 2)])
def test_transposed_convolutions_with_uneven_padding(strides, tmp_path):
    kernel = np.random.default_rng(0).standard_normal((3, 3, 2, 4)).astype(np.float32)
    fn = lambda kernel, x: jax.lax.conv_transpose(x, kernel, strides, "SAME")  # noqa: E731
    path = save(tmp_path, fn, kernel, ["float32[2, 5, 7, 2]"])
    assert fx_export.load(path).verification["max_relative_error"] < 1e-5


@pytest.mark.parametrize(
    ("fn", "text"),
    [
        (lambda _, x: (x, jnp.zeros((0, 3))), "Invalid tensor size"),
        (lambda _, x: x.at[x.astype(int)].mul(x), "scatter"),
    ],
)
def test_what_the_runtime_does_not_compute(fn, text, tmp_path):
    with pytest.raises(UnsupportedProgramError, match=rf"does not take what was written\.[\s\S]*{text}"):
        save(tmp_path, fn, None, ["float32[4]"])
    assert not list(tmp_path.iterdir())
