"""What every exporter has to do."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest

from fx_core.plugins.interfaces import Exporter


def _network(variables: Mapping[str, Any], x: jax.Array) -> jax.Array:
    hidden = jnp.tanh(x @ variables["first"]["kernel"] + variables["first"]["bias"].reshape(1, -1))
    return hidden @ variables["second"]["kernel"]


class ExporterSuite:
    """The contract of `fx_core.plugins.interfaces.Exporter`: subclass it and say how to make the exporter.

    Attributes:
      rtol: how far the loaded function may be from the original, relatively.
      symbolic: whether it takes inputs whose first axis is symbolic.
      several: whether it takes several inputs and gives pytrees back.
    """

    rtol: float = 1e-5
    symbolic: bool = True
    several: bool = True

    def make(self) -> Exporter:
        """Creates the exporter under test."""
        raise TypeError(f"{type(self).__name__} does not say how to make its exporter: define make(self).")

    def variables(self) -> Any:
        """Weights of a small network of two layers."""
        kernel = np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4)
        return {"first": {"kernel": kernel, "bias": np.ones(4, np.float32)}, "second": {"kernel": kernel.T}}

    def round_trip(
        self, directory: Path, fn: Callable[..., Any], variables: Any, inputs: Sequence[Any]
    ) -> Callable[..., Any]:
        """Exports, then loads with another instance, as another process would."""
        self.make().export(directory, fn, variables, inputs, metadata={"purpose": "test", "numbers": [1, 2.5, None]})
        return self.make().load(directory)

    def test_fulfils_the_protocol(self):
        assert isinstance(self.make(), Exporter)

    def test_loaded_function_equals_the_original(self, tmp_path: Path):
        x = np.linspace(0, 1, 6, dtype=np.float32).reshape(2, 3)
        loaded = self.round_trip(tmp_path, _network, self.variables(), [x])
        np.testing.assert_allclose(loaded(x), _network(self.variables(), jnp.asarray(x)), rtol=self.rtol, atol=1e-6)

    def test_abstract_inputs_are_enough(self, tmp_path: Path):
        loaded = self.round_trip(tmp_path, _network, self.variables(), [jax.ShapeDtypeStruct((2, 3), jnp.float32)])
        assert np.shape(loaded(np.zeros((2, 3), np.float32))) == (2, 3)

    def test_symbolic_batch(self, tmp_path: Path):
        if self.symbolic:
            (batch,) = jax.export.symbolic_shape("batch")
            shapes, sizes = jax.ShapeDtypeStruct((batch, 3), jnp.float32), (1, 5)
        else:
            shapes, sizes = jax.ShapeDtypeStruct((2, 3), jnp.float32), (2,)
        loaded = self.round_trip(tmp_path, _network, self.variables(), [shapes])
        for size in sizes:
            x = np.full((size, 3), 0.5, np.float32)
            expected = _network(self.variables(), jnp.asarray(x))
            np.testing.assert_allclose(loaded(x), expected, rtol=self.rtol, atol=1e-6)

    def test_several_inputs_and_a_tree_of_outputs(self, tmp_path: Path):
        def fn(variables: Any, x: jax.Array, y: jax.Array) -> Any:
            return {"sum": x + y, "scaled": x * variables["scale"]} if self.several else x + y

        x, y = jnp.arange(3.0), jnp.ones(3)
        variables = {"scale": np.float32(2)}
        out = self.round_trip(tmp_path, fn, variables, [x, y])(x, y)
        for expected, got in zip(jax.tree.leaves(fn(variables, x, y)), jax.tree.leaves(out), strict=True):
            np.testing.assert_allclose(got, expected, rtol=self.rtol)

    def test_what_was_exported_does_not_follow_later_changes(self, tmp_path: Path):
        variables = {"scale": np.full(3, 2, np.float32)}
        loaded = self.round_trip(tmp_path, lambda v, x: x * v["scale"], variables, [np.ones(3, np.float32)])
        variables["scale"][:] = 0
        np.testing.assert_allclose(loaded(np.ones(3, np.float32)), np.full(3, 2, np.float32), rtol=self.rtol)

    def test_writes_only_into_its_directory(self, tmp_path: Path):
        inside = tmp_path / "inside"
        inside.mkdir()
        self.round_trip(inside, _network, self.variables(), [np.zeros((2, 3), np.float32)])
        assert [path.name for path in tmp_path.iterdir()] == ["inside"]
        assert any(inside.iterdir())

    def test_loading_from_nothing_raises(self, tmp_path: Path):
        exporter = self.make()
        with pytest.raises(Exception, match=r"."):
            exporter.load(tmp_path)
