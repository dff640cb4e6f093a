"""Exports through TensorFlow that run out of disk or are killed leave nothing, among temporary files neither."""

import os
import signal
import subprocess
import sys
import textwrap

import fx_export
import numpy as np
import pytest

pytest.importorskip("tensorflow")
pytest.importorskip("ai_edge_litert")

PROGRAM = """
    import os, resource, signal, sys
    import fx_export, numpy as np
    import tensorflow
    from fx_export.interface import Interface
    from fx_export.litert import exporter

    format, directory = sys.argv[1:]
    os.chdir(directory)
    weights = np.arange(40_000, dtype=np.float32).reshape(1, -1)

    def save(weights):
        fx_export.export("net", lambda w, x: x * w, weights, [weights], format=format, verify=False)

    # What a disk without room does to a large file; the system would end the process otherwise.
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, resource.RLIM_INFINITY))
    try:
        save(weights)
    except OSError as error:
        print("TensorFlow cannot write" in str(error), os.listdir("."))
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))

    def killed(*_, **__):
        print(any(files for _, _, files in os.walk(".")), flush=True)
        os.kill(os.getpid(), signal.SIGKILL)

    exporter._converted = killed
    if format == "savedmodel":
        Interface.write = killed
    save(weights[:, :2])
"""


@pytest.mark.slow
@pytest.mark.parametrize("format", ["savedmodel", "litert"])
def test_a_full_disk_and_a_kill(format, tmp_path):
    temporary, directory = tmp_path / "temporary", tmp_path / "bundles"
    temporary.mkdir()
    directory.mkdir()
    command = [sys.executable, "-c", textwrap.dedent(PROGRAM), format, str(directory)]
    environment = {**os.environ, "TMPDIR": str(temporary)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=500)
    # The killed one had written files.
    assert done.stdout.splitlines() == ["True []", "True"], done.stderr[-3000:]
    assert done.returncode == -signal.SIGKILL
    # Beside files of TensorFlow's own.
    assert list(temporary.rglob("saved_model.pb")) == []
    assert os.listdir(directory)
    assert all(name.startswith(".net.fx-new-") for name in os.listdir(directory))
    # Whoever comes next removes what the killed one left.
    fx_export.export(directory / "net", lambda w, x: x * w, np.float32(2), [np.float32(1)], verify=False)
    assert os.listdir(directory) == ["net"]
