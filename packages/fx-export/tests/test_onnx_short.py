"""Axes of a free size that are shorter than a window: what JAX computes, or an error that names the sizes."""

import fx_export
import jax
import jax.numpy as jnp
import numpy as np
import onnx
import pytest
from fx_export.errors import BundleError
from jax import lax

KERNEL = np.arange(24, dtype=np.float32).reshape(3, 2, 4) - 11
NUMBERS = ("NWC", "WIO", "NWC")


def conv(x, strides=1, padding=(0, 0), **options):
    return lax.conv_general_dilated(x, KERNEL, (strides,), [padding], dimension_numbers=NUMBERS, **options)


def window(x, start, fn, size, step=1, **options):
    return lax.reduce_window(x, np.asarray(start, x.dtype), fn, (1, size, 1), (1, step, 1), "VALID", **options)


NETWORKS = {
    "conv": lambda x: conv(x),
    "strides": lambda x: conv(x, 2),
    "dilated": lambda x: conv(x, padding=(1, 0), rhs_dilation=(3,)),
    "cropped": lambda x: conv(x, padding=(-1, 0)),
    "gaps": lambda x: conv(x, lhs_dilation=(2,)),
    "gaps, strides": lambda x: conv(x, 2, (1, 0), lhs_dilation=(2,)),
    "of nothing": lambda x: conv(x[:, 2:], padding=(2, 2), lhs_dilation=(2,)),
    "two": lambda x: conv(conv(x, 2)[..., :2], 2, (0, 1)),
    "integers": lambda x: lax.conv_general_dilated(
        x.astype("int8"),
        KERNEL.astype("int8"),
        (2,),
        "VALID",
        dimension_numbers=NUMBERS,
        preferred_element_type="int32",
    ),
    "largest": lambda x: window(x, -np.inf, lax.max, 3),
    "least": lambda x: window(x, np.inf, lax.min, 5, 2),
    "with gaps": lambda x: window(x, -np.inf, lax.max, 3, window_dilation=(1, 3, 1)),
    "averages": lambda x: window(conv(x, 2), 0, lax.add, 2, 2).sum(1),
    "sums": lambda x: window(x.astype(jnp.int32), 0, lax.add, 4),
    "any": lambda x: {"any": (conv(x) > 0).any(1), "all": (conv(x) > 0).all((0, 1))},
    "flat": lambda x: jnp.repeat(jnp.repeat(conv(x), 2, 1), 2, 0),
    "resized": lambda x: jax.image.resize(y := conv(x), (y.shape[0], y.shape[1] * 2, 4), "linear"),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_axes_that_are_shorter_than_a_window(tmp_path, name):
    fn = NETWORKS[name]
    net = fx_export.load(
        fx_export.export(
            tmp_path / "net", lambda _, x: fn(x), {}, ["float32[batch, length, 2]"], format="onnx", verify=False
        )
    )
    for batch, length in ((1, 1), (2, 2), (2, 3), (1, 4), (2, 5), (2, 9)):
        x = np.random.default_rng(length).normal(size=(batch, length, 2)).astype(np.float32) * 3
        wanted, found = jax.tree.map(np.asarray, (fn(x), net(x)))
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, 1e-5, 1e-5, strict=True), found, wanted)


def test_a_length_that_is_known_to_be_enough_needs_no_padding(tmp_path):
    inputs = ["float32[batch, length, 2]"]
    for constraints, known in (([], False), (["length >= 3"], True)):
        path = fx_export.export(
            tmp_path / str(known), lambda _, x: conv(x, 2), {}, inputs, format="onnx", constraints=constraints
        )
        operators = {node.op_type for node in onnx.load(path / "data" / "model.onnx").graph.node}
        assert operators.isdisjoint({"Pad", "Slice"}) == known


def test_what_the_runtime_cannot_compute_says_the_sizes_of_the_inputs(tmp_path):
    def last(_, x):
        return lax.scan(lambda c, row: (c + row.sum(), None), jnp.float32(0), x[2:])[0]

    net = fx_export.load(fx_export.export(tmp_path / "net", last, {}, ["float32[n, 2]"], format="onnx", verify=False))
    assert net(np.ones((3, 2), np.float32)) == 2
    with pytest.raises(
        BundleError, match=r'input: float32\[2, 2\](.|\n)*larger sizes(.|\n)*constraints=\["length >= 8"\]'
    ):
        net(np.ones((2, 2), np.float32))
