"""Every example runs, shortened; interrupted and started again it ends with the bits of the uninterrupted run."""

import sys

import fx_train
import jax
import numpy as np
import pytest
from fx_ckpt import CheckpointManager

RUNS = {
    "digits": (["--steps", "12", "--checkpoint-every", "5"], [""]),
    "capitals": (["--steps", "4"], [""]),
    "lora": (["--steps", "24"], ["base", "tuned-rank-4"]),
    "vae": (["--steps", "24"], [""]),
    "gpt": (["--steps", "4", "--batch", "4"], [""]),
}


def leaves(directory):
    """Bytes by path of the newest checkpoint."""
    tree = CheckpointManager(directory / "checkpoints").restore()
    found = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        if hasattr(leaf, "dtype") and jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            leaf = jax.random.key_data(leaf)
        found[jax.tree_util.keystr(path)] = np.asarray(leaf).tobytes()
    return found


@pytest.mark.parametrize("name", RUNS)
def test_an_example_resumes_to_the_bit(name, example, monkeypatch, tmp_path):
    arguments, parts = RUNS[name]
    program, steps = example(name, "train"), int(arguments[1])
    record, broken = fx_train.Run.record, []

    def start(directory):
        monkeypatch.setattr(sys, "argv", ["train.py", *arguments, "--directory", str(tmp_path / directory)])
        program.main()

    def break_once(run, state, metrics):
        record(run, state, metrics)
        # Not at a step that is saved anyway.
        if run.step == steps // 2 and run.directory.name not in broken:
            broken.append(run.directory.name)
            raise KeyboardInterrupt

    start("whole")
    monkeypatch.setattr(fx_train.Run, "record", break_once)
    for _ in range(8):
        try:
            start("broken")
        except KeyboardInterrupt:
            continue
        break
    assert len(broken) >= len(parts)
    for part in parts:
        one, other = leaves(tmp_path / "whole" / part), leaves(tmp_path / "broken" / part)
        assert len(one) > 5
        assert one == other
