"""What every checkpoint backend has to do."""

import copy
import itertools
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fx_core.files import AtomicDirectory, read_manifest, verify_files
from fx_core.plugins.interfaces import CheckpointBackend
from fx_core.testing.disks import RecordedDisk
from fx_core.testing.faults import Call, FaultyFileSystem, no_space
from fx_core.testing.states import DTYPES, KEYS, array_of, describe_difference, states

# One property runs for every subclass, which hypothesis would rather not see.
_PROPERTY = settings(
    max_examples=25, deadline=None, database=None, suppress_health_check=[HealthCheck.differing_executors]
)

_SCALARS = {
    "none": None,
    "true": True,
    "int": -(2**63),
    "one": 1,
    "float": 0.1,
    "whole float": 1.0,
    "nan": float("nan"),
    "infinity": float("-inf"),
    "text": "naïve\n\0",
    "empty": "",
}


def _raises(act: Callable[[], object]) -> bool:
    try:
        act()
    except Exception:
        return True
    return False


class CheckpointBackendSuite:
    """The contract of `fx_core.plugins.interfaces.CheckpointBackend`: subclass it and say how to make the backend.

    Attributes:
      dtypes: what the backend stores. Leave out only what its format cannot hold, and test that it refuses those.
    """

    dtypes: Sequence[Any] = DTYPES

    def make(self) -> CheckpointBackend:
        """Creates the backend under test."""
        raise TypeError(f"{type(self).__name__} does not say how to make its backend: define make(self).")

    def round_trip(self, directory: Path, state: Mapping[str, Any]) -> dict[str, Any]:
        """Saves, then restores with another instance, as another process would."""
        directory.mkdir(exist_ok=True)
        self.make().save(directory, state)
        return self.make().restore(directory)

    def check(self, directory: Path, state: Mapping[str, Any]) -> None:
        """Fails unless ``state`` comes back to the bit."""
        assert describe_difference(state, self.round_trip(directory, state)) is None

    def test_fulfils_the_protocol(self):
        assert isinstance(self.make(), CheckpointBackend)

    def test_empty_state(self, tmp_path: Path):
        self.check(tmp_path, {})

    def test_empty_containers_survive(self, tmp_path: Path):
        self.check(tmp_path, {"a": {}, "b": {"c": {}, "d": np.zeros(1)}})

    def test_python_scalars_keep_value_and_type(self, tmp_path: Path):
        self.check(tmp_path, {"scalars": _SCALARS})

    def test_every_dtype_to_the_bit(self, tmp_path: Path):
        self.check(tmp_path, {str(np.dtype(dtype)): array_of(dtype) for dtype in self.dtypes})

    def test_arrays_without_axes_and_without_elements(self, tmp_path: Path):
        shapes = [(), (0,), (3, 0, 2), (1,)]
        self.check(tmp_path, {str(shape): array_of(np.float32, shape) for shape in shapes})

    def test_arrays_that_are_not_contiguous(self, tmp_path: Path):
        base = np.arange(24.0).reshape(4, 6)
        self.check(tmp_path, {"transposed": base.T, "strided": base[::2, 1::2], "reversed": base[::-1]})

    def test_jax_arrays(self, tmp_path: Path):
        arrays = {"f32": jnp.arange(6.0).reshape(2, 3), "bf16": jnp.ones(3, jnp.bfloat16), "scalar": jnp.int32(7)}
        self.check(tmp_path, {"arrays": arrays})

    def test_keys_are_not_file_names(self, tmp_path: Path):
        self.check(tmp_path, {key: {key: np.full(2, i)} for i, key in enumerate(KEYS)})

    def test_keys_that_are_alike_stay_apart(self, tmp_path: Path):
        self.check(tmp_path, {"a": {"b": np.zeros(1)}, "A": np.ones(1), "a/b": np.full(1, 2.0), "a.b": 1, "a ": 2})

    def test_saving_leaves_the_state_alone(self, tmp_path: Path):
        state = {"a": {"b": np.arange(3), "c": 1}}
        before = copy.deepcopy(state)
        self.make().save(tmp_path, state)
        assert describe_difference(before, state) is None

    def test_what_comes_back_is_independent_of_the_files(self, tmp_path: Path):
        (tmp_path / "one").mkdir()
        (tmp_path / "two").mkdir()
        backend = self.make()
        backend.save(tmp_path / "one", {"a": np.zeros(3)})
        backend.save(tmp_path / "two", {"a": np.ones(3)})
        assert describe_difference({"a": np.zeros(3)}, backend.restore(tmp_path / "one")) is None
        assert describe_difference({"a": np.ones(3)}, backend.restore(tmp_path / "two")) is None

    def test_writes_nothing_outside_its_directory(self, tmp_path: Path):
        inside = tmp_path / "inside"
        inside.mkdir()
        self.make().save(inside, {"../outside": np.zeros(1), "/outside": {"..": np.zeros(1)}})
        assert [path.name for path in tmp_path.iterdir()] == ["inside"]
        assert any(inside.iterdir())

    def test_restore_like_places_arrays(self, tmp_path: Path):
        state = {"a": np.arange(4.0, dtype=np.float32), "b": {"c": jnp.ones((2, 2), jnp.bfloat16), "n": 3}}
        self.make().save(tmp_path, state)
        sharding = jax.sharding.SingleDeviceSharding(jax.devices()[0])

        def abstract(leaf: Any) -> Any:
            return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding) if hasattr(leaf, "dtype") else leaf

        restored = self.make().restore(tmp_path, jax.tree.map(abstract, state))
        assert describe_difference(state, restored) is None

    def test_an_error_of_the_disk_is_raised(self, tmp_path: Path):
        """A half-written file would be sealed as whole; who goes on after a failure has tried again, with success."""
        state = {"a": np.arange(1000.0), "b": {"c": "text", "d": 1}}
        for index in range(100):
            directory = tmp_path / str(index)
            directory.mkdir()
            writes = itertools.count()

            def fault(call: Call, writes: Iterator[int] = writes, index: int = index) -> OSError | None:
                return no_space() if call.kind in ("open-write", "write") and next(writes) == index else None

            with FaultyFileSystem(directory, fault) as system:
                raised = _raises(lambda directory=directory: self.make().save(directory, state))
            if not raised and not system.failed:
                break
            if not raised:
                lost = describe_difference(state, self.make().restore(directory))
                assert lost is None, f"{system.failed[0]} failed, and save returned as if it had not: {lost}"
        else:
            raise AssertionError("save fails for ever")

    def test_a_loss_of_power_leaves_nothing_or_all(self, tmp_path: Path):
        """The directory, its digests and its appearance are the caller's; what is in it is the backend's."""
        state = {"a": np.arange(7), "b": {"c": "text", "d": array_of(jnp.bfloat16)}}
        (tmp_path / "disk").mkdir()
        with RecordedDisk(tmp_path / "disk") as disk:  # noqa: SIM117
            with AtomicDirectory(tmp_path / "disk/x", format="test", version=1) as new:
                self.make().save(new.directory, state)
        end = list(disk.kills())[-1]
        for index, after in enumerate([*itertools.islice(disk.power_losses(samples=1), 0, None, 7), end]):
            path = tmp_path / str(index) / "x"
            after.write(path.parent)
            assert after is not end or path.exists()
            if path.exists():
                verify_files(path, read_manifest(path, format="test", version=1))
                assert describe_difference(state, self.make().restore(path)) is None

    def test_a_part_is_there_when_only_that_is_wanted(self, tmp_path: Path):
        state = {"a": {"b": np.arange(3), "c": 1, "d": {}}, "e": np.ones(2), "f": None}
        self.make().save(tmp_path, state)
        restored = self.make().restore(tmp_path, {"a": {"b": None, "d": {}}, "f": None})
        assert describe_difference(state["a"]["b"], restored["a"]["b"]) is None
        assert restored["a"]["d"] == {}
        assert restored["f"] is None

    def test_arrays_larger_than_buffers(self, tmp_path: Path):
        large = np.arange(3 * 2**20 + 5, dtype=np.int32)
        self.check(tmp_path, {"before": 1, "large": large, "after": np.ones(3), "turned": large[:12].reshape(3, 4).T})

    def test_digests_are_of_files_that_are_there(self, tmp_path: Path):
        digests = self.make().save(tmp_path, {"a": np.arange(3)})
        for name, digest in (digests or {}).items():
            assert (tmp_path / name).is_file()
            assert ":" in digest

    def test_restoring_from_nothing_raises(self, tmp_path: Path):
        backend = self.make()
        with pytest.raises(Exception, match=r"."):
            backend.restore(tmp_path)

    @_PROPERTY
    @given(data=st.data())
    def test_any_state_comes_back(self, data: st.DataObject):
        state = data.draw(states(self.dtypes))
        with tempfile.TemporaryDirectory() as directory:
            self.check(Path(directory), state)
