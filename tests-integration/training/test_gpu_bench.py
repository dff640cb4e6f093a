"""The benchmark for GPUs, on toy sizes: its parts give rows for all that is here."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "gpu/bench.py"


PARTS = ["decode", "attention", "fp8"]  # those that compile quickly


@pytest.mark.slow
def test_parts_give_their_rows():
    command = [sys.executable, SCRIPT, "--tiny", *(word for part in PARTS for word in ("--part", part))]
    run = subprocess.run(command, capture_output=True, text=True, timeout=900)
    assert run.returncode == 0, run.stdout + run.stderr
    rows = [json.loads(line) for line in run.stdout.splitlines() if line.startswith("{")]
    measured = {(row["what"], row["library"]) for row in rows[1:]}
    assert {("decode, a layer", face) for face in ("fx_linen", "fx_nnx")} <= measured
    assert {("attention", "raw"), ("attention", "fx_linen"), ("product, fp8 for fx", "fx_linen")} <= measured
    assert all(row["tokens_per_s"] > 0 for row in rows if row.get("what") == "decode, a layer")
