"""Whatever happens to a save, the newest step is the old or the new one, to the bit, and the next save works."""

import os
import signal

import pytest
from fx_ckpt import CheckpointManager
from fx_ckpt.running.preemption import Preempted
from fx_ckpt.testing.crashes import ERRORS, failing_calls, interrupted, killed_processes, power_losses
from fx_ckpt.testing.scenarios import SCENARIOS, tree_of
from fx_core.testing.faults import FaultyFileSystem
from fx_core.testing.states import describe_difference

pytestmark = pytest.mark.slow

by_scenario = pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
NEXT, REPLACED = SCENARIOS[1], SCENARIOS[3]


@by_scenario
def test_loss_of_power_after_any_call(tmp_path, scenario):
    found = power_losses(scenario, "msgpack", tmp_path)
    assert found["old"] >= 5
    assert found["new"] >= 1


@pytest.mark.parametrize(("backend", "every"), [("safetensors", 1), ("orbax", 9)])
@pytest.mark.parametrize("scenario", [NEXT, REPLACED], ids=["next step", "overwrite"])
def test_loss_of_power_with_other_backends(tmp_path, backend, every, scenario):
    found = power_losses(scenario, backend, tmp_path, every)
    assert found["old"] >= 5
    assert found["new"] >= 1


@by_scenario
def test_processes_killed_at_every_call(tmp_path, scenario):
    found = killed_processes(scenario, "msgpack", tmp_path, every=3)
    assert found["old"] >= 5
    assert found["new"] >= 1


@pytest.mark.parametrize(("backend", "every"), [("safetensors", 4), ("orbax", 11)])
def test_processes_killed_with_other_backends(tmp_path, backend, every):
    found = killed_processes(NEXT, backend, tmp_path, every=every)
    assert found["old"] >= 5
    assert found["new"] >= 1


def test_sigterm_without_a_handler_at_every_call(tmp_path):
    found = killed_processes(NEXT, "msgpack", tmp_path, signal.SIGTERM, every=3)
    assert found["old"] >= 5
    assert found["new"] >= 1


@pytest.mark.parametrize("in_background", [False, True], ids=["at once", "in the background"])
def test_sigterm_with_a_manager_saves_once_more_and_ends(tmp_path, in_background):
    """The signal comes at each call of a save in turn; that save ends well, and the next one is the last."""
    count = 0
    for fatal in range(0, 1000, 2):
        run = tmp_path / str(fatal)

        def terminate(call, fatal=fatal):
            if call.index == fatal:
                os.kill(os.getpid(), signal.SIGTERM)

        with CheckpointManager(run, "msgpack", keep=1, save_interval=10, async_=in_background) as manager:
            with FaultyFileSystem(run, before=terminate) as system:
                manager.save(10, tree_of(1))
                manager.wait()
            if len(system.calls) <= fatal:
                break
            with pytest.raises(Preempted, match="step 13 is saved") as ended:
                manager.save(13, tree_of(2))
            assert ended.value.code == 128 + signal.SIGTERM
        assert describe_difference(tree_of(2), CheckpointManager(run).restore(13)) is None
        assert os.listdir(run) == ["step_00000013"]
        count += 1
    assert count > 15


@pytest.mark.parametrize("lasting", [False, True], ids=["once", "from then on"])
@pytest.mark.parametrize("error", ERRORS)
@by_scenario
def test_failing_calls(tmp_path, scenario, error, lasting):
    found = failing_calls(scenario, "msgpack", tmp_path, ERRORS[error], lasting, every=3)
    assert found["raised, old"] >= 5


@pytest.mark.parametrize("error", ["ENOSPC", "EIO"])
@pytest.mark.parametrize(("backend", "every"), [("safetensors", 5), ("orbax", 13)])
def test_failing_calls_with_other_backends(tmp_path, error, backend, every):
    found = failing_calls(NEXT, backend, tmp_path, ERRORS[error], lasting=True, every=every)
    assert found["raised, old"] >= 5


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_interrupts_at_every_call(tmp_path, error):
    found = interrupted(NEXT, "msgpack", tmp_path, error)
    assert found["old"] >= 20
    assert found["new"] >= 5
