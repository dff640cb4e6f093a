"""The tutorial about scaling, started as it says: on one device, on eight, and as two processes with four each."""

import re
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
TUTORIAL = Path(__file__).parents[2] / "docs/tutorial_scaling.md"


def test_the_tutorial_gives_the_same_losses_on_other_meshes(starter, tmp_path):
    program = tmp_path / "scaling.py"
    program.write_text("\n".join(re.findall(r"^```python\n(.*?)^```$", TUTORIAL.read_text(), re.MULTILINE | re.DOTALL)))
    launcher = ["-m", "fx_train.distributed.launch", "--processes", 2]
    starts = [(1, []), (8, []), (4, launcher)]
    running = [starter.start([sys.executable, *how, program], devices=devices) for devices, how in starts]
    said = []
    for outcome, processes in zip(starter.finish(*running), (1, 1, 2)):
        assert outcome.code == 0, outcome.errors
        assert f"of {processes} processes" in outcome.output
        said.append(sorted(re.findall(r"(Linen|NNX) on .*: ([0-9.]+)", outcome.output)))
    assert len(said[0]) == 2
    for other in said[1:]:
        assert [name for name, _ in other] == ["Linen", "NNX"]
        assert [float(loss) for _, loss in other] == pytest.approx([float(loss) for _, loss in said[0]], abs=2e-4)
