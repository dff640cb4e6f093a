"""Programs, modules and tests that are run with fx in the place of Flax."""

import json
import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow  # about processes, and no part of it depends on versions

PROGRAM = """
import json, pickle, sys
from flax import core, struct
from neighbor import VALUE


@struct.dataclass
class Pair:
    a: int


again = pickle.loads(pickle.dumps(Pair(VALUE)))
assert isinstance(again, Pair)
print(json.dumps([core.FrozenDict.__module__, sys.argv, __name__, again.a]))
"""


@pytest.fixture
def program(tmp_path):
    (tmp_path / "neighbor.py").write_text("VALUE = 3\n")
    file = tmp_path / "program.py"
    file.write_text(PROGRAM)
    return file


def run(*arguments, **options):
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, env=environment, **options)


def test_a_program_runs_with_its_arguments_beside_its_neighbors(program):
    done = run("-m", "fx_flax", str(program), "--flag", "x", cwd="/")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == ["fx_core.frozen_dict", [str(program), "--flag", "x"], "__main__", 3]


def test_a_module_runs_from_the_working_directory(program):
    done = run("-m", "fx_flax", "-m", "program", "y", cwd=program.parent)
    assert done.returncode == 0, done.stderr
    module, argv, name, value = json.loads(done.stdout)
    assert (module, argv[1:], name, value) == ("fx_core.frozen_dict", ["y"], "__main__", 3)


def test_the_command_of_fx_runs_a_program(program):
    done = run("-c", "from fx_core.cli.main import main; main()", "run-flax", str(program), "--help", cwd="/")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)[1] == [str(program), "--help"]


def test_nothing_to_run_prints_the_usage():
    done = run("-m", "fx_flax")
    assert done.returncode == 1
    assert done.stderr.startswith("usage: python -m fx_flax program.py")


def test_the_plugin_of_pytest_runs_tests_and_their_conftest(tmp_path):
    (tmp_path / "conftest.py").write_text(
        "import flax\nassert flax.core.FrozenDict.__module__ == 'fx_core.frozen_dict'\n"
    )
    (tmp_path / "test_it.py").write_text("from flax import struct\n\n\ndef test_it():\n    assert struct.field\n")
    done = run("-m", "pytest", "-p", "fx_flax.pytest", "-c", os.devnull, "--rootdir", str(tmp_path), str(tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "flax: fx, with the names of Flax 0.12" in done.stdout


SPAWNING = """
import multiprocessing
from flax.core import FrozenDict


def inside(queue):
    from flax import core

    queue.put([FrozenDict.__module__, core.freeze({}).__class__.__module__])


if __name__ == "__main__":
    context = multiprocessing.get_context("spawn")
    queue = context.SimpleQueue()
    process = context.Process(target=inside, args=(queue,))
    process.start()
    process.join()
    assert process.exitcode == 0
    print(queue.get())
"""


def test_processes_that_a_program_spawns_have_fx_as_well(tmp_path):
    file = tmp_path / "program.py"
    file.write_text(SPAWNING)
    done = run("-m", "fx_flax", str(file))
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "['fx_core.frozen_dict', 'fx_core.frozen_dict']"
