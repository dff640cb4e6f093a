"""The quickstart: train on real images, kill the process, resume, export, serve in two formats, check every step.

Run by `nox -s quickstart` in an environment that has only the needed packages, installed from wheels. What it trained
stays in `quickstart-run`, to look at.
"""

import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "digits"
RUN = ROOT / "quickstart-run"
# Says that the directory was made here, so that the next quickstart may replace it.
MARK = ".made-by-quickstart"
STEPS, EVERY = 400, 100
KILL_AFTER = 200
TIME_LIMIT = 300


def say(text: str) -> None:
    print(f"\n\033[1m{text}\033[0m" if sys.stdout.isatty() else f"\n{text}", flush=True)


def training(directory: Path) -> subprocess.Popen:
    program = [sys.executable, str(EXAMPLE / "train.py"), "--directory", str(directory)]
    return subprocess.Popen([*program, "--steps", str(STEPS), "--checkpoint-every", str(EVERY)])


def finish(process: subprocess.Popen) -> None:
    code = process.wait(timeout=TIME_LIMIT)
    if code:
        raise SystemExit(f"the training program ended with {code}")


def kill_in_the_middle(directory: Path) -> int:
    """Start training and kill it without warning once a checkpoint is there; return the step of that checkpoint."""
    from fx_ckpt import CheckpointManager

    process, manager = training(directory), CheckpointManager(directory / "checkpoints")
    limit = time.monotonic() + TIME_LIMIT
    while (step := manager.latest_step() or 0) < KILL_AFTER:
        if process.poll() is not None or time.monotonic() > limit:
            raise SystemExit("the training program ended before it could be killed")
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    print(f"\nkilled; the newest checkpoint is of step {step}", flush=True)
    return step


def leaves(directory: Path) -> list:
    import jax
    from fx_ckpt import CheckpointManager

    # Without a target a checkpoint comes back as plain containers: nothing of the training program is needed.
    tree = CheckpointManager(directory / "checkpoints").restore(STEPS)
    return [(jax.tree_util.keystr(path), leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(tree)]


def assert_same_bits(one: list, other: list) -> None:
    import jax

    assert [path for path, _ in one] == [path for path, _ in other]
    for (path, a), (_, b) in zip(one, other):
        if hasattr(a, "dtype") and jax.dtypes.issubdtype(a.dtype, jax.dtypes.prng_key):
            a, b = jax.random.key_data(a), jax.random.key_data(b)
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes(), f"{path} differs"
    print(f"{len(one)} leaves of the final checkpoints are equal to the bit")


def served_accuracy(bundle: Path) -> float:
    """Test accuracy of the bundle in a process that must not load any training code."""
    # The registry imports the plugin module of every installed package; a server has fx-core and fx-export only.
    environment = {**os.environ, "FX_DISABLE_PLUGINS": "fx-linen,fx-train,fx-ckpt"}
    program = f"""
import sys
sys.path.insert(0, {str(EXAMPLE)!r})
import fx_export, numpy as np
from data import load
_, test = load()
predictions = np.asarray(fx_export.load({str(bundle)!r})(test.images)).argmax(-1)
loaded = {{"network", "fx_linen", "fx_train", "fx_ckpt", "optax"}} & set(sys.modules)
assert not loaded, f"training code was loaded: {{loaded}}"
print((predictions == test.labels).mean())
"""
    return float(subprocess.check_output([sys.executable, "-c", program], env=environment, text=True))


def onnx_accuracy(model: Path) -> float:
    """Test accuracy of the ONNX model in a process that has neither JAX nor fx loaded."""
    program = f"""
import sys
sys.path.insert(0, {str(EXAMPLE)!r})
import onnxruntime
from data import load
_, test = load()
session = onnxruntime.InferenceSession({str(model / "data/model.onnx")!r}, providers=["CPUExecutionProvider"])
(predictions,) = session.run(None, {{"image": test.images}})
loaded = [name for name in sys.modules if name.partition(".")[0] in ("jax", "jaxlib") or name.startswith("fx_")]
assert not loaded, f"these were loaded: {{loaded}}"
print((predictions.argmax(-1) == test.labels).mean())
"""
    return float(subprocess.check_output([sys.executable, "-c", program], text=True))


def empty_run() -> Path:
    """The directory of the run, without what an earlier quickstart left there."""
    if RUN.exists() and not (RUN / MARK).exists():
        raise SystemExit(f"{RUN} exists and is not of an earlier quickstart: move it away, then start again.")
    shutil.rmtree(RUN, ignore_errors=True)
    RUN.mkdir()
    (RUN / MARK).touch()
    return RUN


def next_commands(run: Path) -> list[tuple[list[str], str]]:
    """What to try next, each with what it shows."""
    here, fx = Path.cwd(), Path(sys.executable).parent / "fx"
    program, shown = (str(path.relative_to(here)) if path.is_relative_to(here) else str(path) for path in (fx, run))
    return [
        ([program, "ckpt", "ls", shown], "its checkpoints, with their metrics"),
        ([program, "report", shown], f"writes {shown}/report.html: curves, evaluations, the confusion matrix"),
        ([program, "export", "inspect", f"{shown}/bundle"], "what is shipped"),
    ]


def main() -> None:
    started = time.monotonic()
    run = empty_run()
    say("1. Train a CNN on handwritten digits, and kill the process in the middle")
    kill_in_the_middle(run)
    say("2. Start it again: it resumes from its last checkpoint")
    finish(training(run))
    say("3. Train in one go, to compare")
    with tempfile.TemporaryDirectory() as scratch:
        whole = Path(scratch, "whole")
        finish(training(whole))
        assert_same_bits(leaves(run), leaves(whole))
    say("4. Serve the exported bundle without the training code")
    subprocess.run([sys.executable, str(EXAMPLE / "serve.py"), str(run / "bundle")], check=True)
    accuracy = served_accuracy(run / "bundle")
    assert accuracy >= 0.98, f"test accuracy {accuracy:.2%} is below 98 %"
    say("5. Serve the exported ONNX model by ONNX Runtime, without JAX")
    assert onnx_accuracy(run / "onnx") == accuracy, "the ONNX model has another accuracy"
    for command, _ in next_commands(run):
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    say(f"Done in {time.monotonic() - started:.0f} s: test accuracy {accuracy:.2%}. The run is kept in {run}. Next:")
    for command, shows in next_commands(run):
        print(f"  {shlex.join(command):<60} # {shows}")


if __name__ == "__main__":
    main()
