"""SavedModels: TensorFlow computes what JAX does, and needs neither JAX nor fx for it."""

import subprocess
import sys
from pathlib import Path

import fx_export
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fx_export import EntryPoint
from fx_export.errors import InputMismatchError, UnsupportedProgramError
from networks import NETWORKS, network

tf = pytest.importorskip("tensorflow")


def save(path, fn, variables, inputs, **options):
    return fx_export.export(path / "net", fn, variables, inputs, format="savedmodel", **options)


# Most networks of one face only: the programs are nearly the same, and TensorFlow compiles them once more than JAX.
FACES = [("linen", jnp.bfloat16), ("nnx", jnp.float32)]
CASES = [(name, *FACES[n % 2]) for n, name in enumerate(NETWORKS)]
# A small one in both faces and both dtypes.
CASES += [("MLP", face, dtype) for face in ("linen", "nnx") for dtype in (jnp.float32, jnp.bfloat16)]


@pytest.mark.parametrize(("name", "face", "dtype"), dict.fromkeys(CASES))
def test_networks(name, face, dtype, tmp_path):
    model, variables = network(face, name, dtype)
    sizes = {symbol: [size] for symbol, size in (("batch", 2), ("length", 3)) if symbol in str(NETWORKS[name])}
    path = save(tmp_path, model, variables, NETWORKS[name], platforms=["cpu"], verify_sizes=sizes)
    assert len(fx_export.load(path).verification["trials"]) == 3


@pytest.fixture(scope="module")
def tied(tmp_path_factory):
    """A network with one array in two places, and names for its inputs and outputs."""
    shared = jnp.arange(9.0).reshape(3, 3)
    variables = {"embed": {"table": shared}, "head": {"kernel": shared, "bias": jnp.ones((1, 3))}}

    def fn(variables, tokens, scale):
        x = variables["embed"]["table"][tokens]
        return {
            "logits": x @ variables["head"]["kernel"].T + variables["head"]["bias"],
            "kept": tokens,
            "twice": 2 * scale,
        }

    inputs = ["tokens:int32[batch]", "scale:bool[batch, 2]"]
    return save(tmp_path_factory.mktemp("tied"), fn, variables, inputs), fn, variables


def test_weights_are_variables_that_are_saved_once(tied):
    path, _, _ = tied
    found = {
        name: shape
        for name, shape in tf.train.list_variables(str(path / "data/model/variables/variables"))
        if name.startswith("weights")
    }
    assert sorted(found.values()) == [[1, 3], [3, 3]]
    names = {v.name for v in tf.saved_model.load(str(path / "data/model")).weights}
    assert names == {"embed/table:0", "head/bias:0"}


def test_the_signature_has_the_names(tied):
    path, _, _ = tied
    signature = tf.saved_model.load(str(path / "data/model")).signatures["serving_default"]
    inputs = signature.structured_input_signature[1]
    assert {name: spec.shape.as_list() for name, spec in inputs.items()} == {"tokens": [None], "scale": [None, 2]}
    assert set(signature.structured_outputs) == {"output_logits", "output_kept", "output_twice"}
    assert inputs["tokens"].dtype == tf.int32
    assert signature.structured_outputs["output_twice"].dtype == tf.int32


def test_a_process_without_jax_and_fx_serves_it(tied, tmp_path):
    path, fn, variables = tied
    feeds = {"tokens": np.array([0, 2, 1, 1, 0], np.int32), "scale": np.ones((5, 2), bool)}
    np.savez(tmp_path / "inputs.npz", **feeds)
    served = Path(__file__).with_name("served.py")
    arguments = ["savedmodel", path / "data/model", tmp_path / "inputs.npz", tmp_path / "outputs.npz"]
    subprocess.run([sys.executable, served, *arguments], check=True, capture_output=True, timeout=300)
    with np.load(tmp_path / "outputs.npz") as results:
        for name, expected in fn(variables, *feeds.values()).items():
            np.testing.assert_allclose(results[f"output_{name}"], expected, rtol=1e-6)


def test_free_sizes_stay_one_size(tied):
    loaded = fx_export.load(tied[0])
    with pytest.raises(InputMismatchError, match="where batch is 3"):
        loaded(np.zeros(3, np.int32), np.zeros((2, 2), bool))


def test_keys_go_in_and_out_as_words(tmp_path):
    def fn(variables, state, x):
        key, other = jax.random.split(state["key"])
        return {"key": key}, x + jax.random.normal(other, x.shape)

    state = {"key": jax.random.key(3)}
    path = save(tmp_path, fn, None, [state, "float32[n]"], platforms=["cpu"])
    loaded = fx_export.load(path)
    (new, noise), (wanted, wanted_noise) = (
        loaded(state, np.zeros(4, np.float32)),
        fn(None, state, np.zeros(4, np.float32)),
    )
    assert jax.random.key_data(new["key"]).tolist() == jax.random.key_data(wanted["key"]).tolist()
    np.testing.assert_allclose(noise, wanted_noise, rtol=1e-5)
    with pytest.raises(InputMismatchError, match="key<fry>"):
        loaded({"key": jax.random.key_data(state["key"])}, np.zeros(4, np.float32))


def test_what_tensorflow_lacks_leaves_nothing_behind(tmp_path):
    with pytest.raises(UnsupportedProgramError, match="lapack"):
        save(tmp_path, lambda _, x: jnp.linalg.eigvalsh(x), {}, ["float32[3, 3]"])
    with pytest.raises(UnsupportedProgramError, match="'small' has the dtype int4"):
        save(tmp_path, lambda v, x: x * v["small"].astype(x.dtype), {"small": jnp.ones((), jnp.int4)}, ["float32[3]"])
    assert list(tmp_path.iterdir()) == []


def test_operations_that_are_too_new_for_a_version(tmp_path):
    with pytest.raises(UnsupportedProgramError, match=r"StableHLO 0\.9\.0 does not have"):
        save(tmp_path, lambda _, x: jnp.tan(x), {}, ["float32[3]"], stablehlo_version="0.9.0", platforms=["cpu"])


def test_several_networks_are_signatures_that_share_variables(tmp_path):
    table = {"table": jnp.arange(24.0).reshape(6, 4), "scale": jnp.ones(4)}
    entry_points = {
        "prefill": EntryPoint(lambda w, t: w["table"][t].sum(1), ["tokens:int32[batch, length]"]),
        "decode": EntryPoint(lambda w, s, t: (s + w["table"][t]) @ w["table"].T, ["float32[batch, 4]", "int32[batch]"]),
    }
    path = fx_export.export_several(tmp_path / "net", entry_points, table, format="savedmodel", platforms=["cpu"])
    network = fx_export.load(path)
    state = network["prefill"](np.array([[1, 2, 3]], np.int32))
    expected = (table["table"][1:5].sum(0)) @ table["table"].T
    np.testing.assert_allclose(network["decode"](state, np.array([4], np.int32))[0], expected)
    model = tf.saved_model.load(str(path / "data/model"))
    assert set(model.signatures) == {"prefill", "decode"}
    assert sorted(v.name for v in model.weights) == ["scale:0", "table:0"]
