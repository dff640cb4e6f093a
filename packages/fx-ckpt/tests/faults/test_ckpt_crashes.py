"""Whatever happens to a save, the newest step is the old or the new one, to the bit, and the next save works."""

import signal

import pytest
from fx_ckpt.testing.crashes import ERRORS, failing_calls, interrupted, killed_processes, power_losses
from fx_ckpt.testing.scenarios import SCENARIOS

by_scenario = pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
NEXT = SCENARIOS[1]


@by_scenario
def test_loss_of_power_after_any_call(tmp_path, scenario):
    found = power_losses(scenario, "msgpack", tmp_path)
    assert found["old"] >= 5
    assert found["new"] >= 1


def test_loss_of_power_with_orbax(tmp_path):
    found = power_losses(NEXT, "orbax", tmp_path, every=9)
    assert found["old"] >= 5
    assert found["new"] >= 1


@by_scenario
def test_processes_killed_at_every_call(tmp_path, scenario):
    found = killed_processes(scenario, "msgpack", tmp_path, every=2)
    assert found["old"] >= 5
    assert found["new"] >= 1


def test_processes_killed_with_orbax(tmp_path):
    found = killed_processes(NEXT, "orbax", tmp_path, every=11)
    assert found["old"] >= 5
    assert found["new"] >= 1


def test_sigterm_without_a_handler_at_every_call(tmp_path):
    found = killed_processes(NEXT, "msgpack", tmp_path, signal.SIGTERM, every=3)
    assert found["old"] >= 5
    assert found["new"] >= 1


@pytest.mark.parametrize("lasting", [False, True], ids=["once", "from then on"])
@pytest.mark.parametrize("error", ERRORS)
@by_scenario
def test_failing_calls(tmp_path, scenario, error, lasting):
    found = failing_calls(scenario, "msgpack", tmp_path, ERRORS[error], lasting, every=2)
    assert found["raised, old"] >= 5


@pytest.mark.parametrize("error", ["ENOSPC", "EIO"])
def test_failing_calls_with_orbax(tmp_path, error):
    found = failing_calls(NEXT, "orbax", tmp_path, ERRORS[error], lasting=True, every=13)
    assert found["raised, old"] >= 5


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_interrupts_at_every_call(tmp_path, error):
    assert interrupted(NEXT, "msgpack", tmp_path, error) > 30
