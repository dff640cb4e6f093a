"""Exports that are killed, or run out of disk, leave the old bundle or none, and nothing in its place."""

import errno
import os
import signal
import subprocess
import sys
import textwrap

import fx_export
import numpy as np
import pytest
from fx_core.errors import FxError
from fx_core.testing.disks import RecordedDisk
from fx_core.testing.faults import CHANGES, FaultyFileSystem, fail_from, no_space
from fx_export import EntryPoint
from fx_export.torch import from_torch, to_torch

X = np.ones((1, 2), np.float32)


def one(path, factor, format):
    inputs = ["float32[1, 2]"]
    fx_export.export(
        path, lambda w, x: x * w, np.full((1, 2), factor, np.float32), inputs, format=format, overwrite=True
    )


def several(path, factor, format):
    entries = {"a": EntryPoint(lambda w, x: x * w, [X]), "b": EntryPoint(lambda w, x: x + w, [X])}
    fx_export.export_several(
        path, entries, np.full((1, 2), factor, np.float32), format=format, overwrite=True, verify=False
    )


def renewed(path, factor, format):
    if path.exists():
        fx_export.renew(path)
    else:
        one(path, factor, format)


def for_torch(path, factor, format):
    to_torch({"w": np.full(2, factor, np.float32)}, path)


WAYS = {"one": one, "several": several, "renewed": renewed}
CASES = [("one", "stablehlo"), ("one", "onnx"), ("several", "stablehlo"), ("several", "onnx"), ("renewed", "stablehlo")]


def found(path):
    """The number of the bundle at a path, None where nothing is; everything else is an error."""
    if not path.exists():
        return None
    loaded = fx_export.load(path)
    return float((loaded["a"] if loaded.entry_points else loaded)(X)[0, 0])


@pytest.mark.parametrize(("way", "format"), CASES)
def test_a_full_disk_leaves_nothing_behind(way, format, tmp_path):
    root = tmp_path / "disk"
    root.mkdir()
    with FaultyFileSystem(root) as system:
        WAYS[way](root / "net", 2, format)
    changes = [call.index for call in system.calls if call.kind in CHANGES and call.kind not in ("unlink", "rmdir")]
    # Every third, and the last ones, where the bundle appears.
    for index in [*changes[:-4:3], *changes[-4:]]:
        where = tmp_path / f"new-{index}"
        where.mkdir()
        kinds = CHANGES - {"unlink", "rmdir", "exchange"}
        with FaultyFileSystem(where, fail_from(index, no_space(), kinds)), pytest.raises((OSError, FxError)) as caught:
            WAYS[way](where / "net", 2, format)
        if isinstance(caught.value, OSError):
            assert caught.value.errno == errno.ENOSPC
        assert where.name in str(caught.value)
        # The last flush may fail after the bundle has appeared.
        assert os.listdir(where) in ([], ["net"])
        assert found(where / "net") in (None, 2)


@pytest.mark.parametrize(("way", "format"), [("one", "stablehlo"), ("one", "onnx"), ("several", "stablehlo")])
def test_a_kill_at_any_call_leaves_the_old_or_the_new(way, format, tmp_path):
    root = tmp_path / "disk"
    root.mkdir()
    WAYS[way](root / "net", 2, format)
    with RecordedDisk(root) as disk:
        WAYS[way](root / "net", 3, format)
    states = list(disk.kills())
    assert len(states) > 8
    # Every fourth, and the last ones, where the bundle appears.
    states = [*states[:-5:4], *states[-5:]]
    seen = set()
    for number, state in enumerate(states):
        state.write(tmp_path / str(number))
        seen.add(found(tmp_path / str(number) / "net"))
        visible = [name for name in os.listdir(tmp_path / str(number)) if not name.startswith(".")]
        assert visible == ["net"]
    assert seen == {2, 3}
    # Whoever comes next removes what the killed one left.
    half = tmp_path / str(len(states) // 2)
    WAYS[way](half / "net", 4, format)
    assert os.listdir(half) == ["net"]
    assert found(half / "net") == 4


def test_weights_for_pytorch_on_a_full_disk(tmp_path):
    target = tmp_path / "m.safetensors"
    for_torch(target, 2, "")
    for kind in ("open-write", "write", "fsync", "replace"):
        fault = lambda call, kind=kind: no_space() if call.kind == kind else None  # noqa: E731
        with FaultyFileSystem(tmp_path, fault), pytest.raises(OSError, match="No space left"):
            for_torch(target, 3, "")
        assert os.listdir(tmp_path) == ["m.safetensors"]
        assert from_torch(target, {"w": np.zeros(2, np.float32)})["w"][0] == 2


@pytest.mark.slow
def test_processes_that_are_killed_or_stopped_by_a_limit(tmp_path):
    program = """
        import os, resource, signal, sys
        import fx_export, numpy as np
        import fx_export.weights

        os.chdir(sys.argv[1])
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        weights = np.arange(40_000, dtype=np.float32).reshape(1, -1)
        for format in ("stablehlo", "onnx"):
            try:
                fx_export.export("net", lambda w, x: x * w, weights, [weights], format=format)
            except OSError as error:
                print(format, error.errno, os.listdir("."))
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

        def killed(*_):
            os.kill(os.getpid(), signal.SIGKILL)

        fx_export.stablehlo.write_weights = killed
        fx_export.export("net", lambda w, x: x * w, weights[:, :2], [weights[:, :2]])
    """
    command = [sys.executable, "-c", textwrap.dedent(program), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout.splitlines() == [f"{format} {errno.EFBIG} []" for format in ("stablehlo", "onnx")], done.stderr
    assert done.returncode == -signal.SIGKILL
    assert all(name.startswith(".net.fx-new-") for name in os.listdir(tmp_path))
    one(tmp_path / "net", 2, "stablehlo")
    assert os.listdir(tmp_path) == ["net"]
