"""The functions of flax.training.checkpoints."""

import os

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
from fx_ckpt import checkpoints as c
from fx_ckpt.errors import ArgumentError, DamagedDataError, NoCheckpointError, StepTakenError
from fx_ckpt.orbax_utils import restore_args_from_target, save_args_from_target
from fx_core import config
from fx_core.errors import InvalidCheckpointError

TREE = {"w": jnp.ones((2, 3)), "l": [1, (2,)]}


def test_save_and_restore(tmp_path):
    path = c.save_checkpoint(tmp_path, TREE, 3)
    assert path == str(tmp_path / "checkpoint_3") == c.latest_checkpoint(tmp_path)
    assert c.restore_checkpoint(tmp_path, TREE)["l"] == [1, (2,)]
    assert c.restore_checkpoint(path, None)["l"] == {"0": 1, "1": {"0": 2}}
    assert os.listdir(tmp_path) == ["checkpoint_3"]


def test_nothing_there_gives_the_target_and_a_named_step_an_error(tmp_path):
    assert c.restore_checkpoint(tmp_path / "none", TREE) is TREE
    assert c.latest_checkpoint(tmp_path / "none") is None
    c.save_checkpoint(tmp_path, TREE, 3)
    with pytest.raises(NoCheckpointError, match="no checkpoint of step 9"):
        c.restore_checkpoint(tmp_path, TREE, step=9)


def test_retention_overwrite_and_order(tmp_path):
    for step in (1, 2, 10):
        c.save_checkpoint(tmp_path, {"s": step}, step, keep=2)
    (tmp_path / "checkpoint_11tmp").touch()
    assert c.available_steps(tmp_path) == [2, 10]
    with pytest.raises(StepTakenError, match="a step after 10") as error:
        c.save_checkpoint(tmp_path, {"s": 5}, 5)
    assert isinstance(error.value, InvalidCheckpointError)
    c.save_checkpoint(tmp_path, {"s": 5}, 5, keep=3, overwrite=True)
    assert c.available_steps(tmp_path) == [2, 5]
    assert c.restore_checkpoint(tmp_path, None) == {"s": 5}


def test_float_steps_and_spaced_ones(tmp_path):
    c.save_checkpoint(tmp_path / "a", {}, 0.5)
    assert c.available_steps(tmp_path / "a", step_type=float) == [0.5]
    for step in range(8):
        c.save_checkpoint_multiprocess(tmp_path / "b", {}, step, keep=1, keep_every_n_steps=3)
    assert c.available_steps(tmp_path / "b") == [1, 4, 7]


def test_writing_later_takes_the_tree_now(tmp_path):
    class Later:
        def save_async(self, task):
            self.task = task

    later, tree = Later(), {"w": np.zeros(2)}
    c.save_checkpoint(tmp_path, tree, 1, async_manager=later)
    tree["w"][:] = 5
    assert c.available_steps(tmp_path) == []
    later.task()
    assert c.restore_checkpoint(tmp_path, None)["w"].tolist() == [0, 0]


def test_orbax_directories(tmp_path):
    checkpointer = ocp.PyTreeCheckpointer()
    c.save_checkpoint(tmp_path, {"w": np.ones(2), "l": [np.zeros(1)]}, 4, orbax_checkpointer=checkpointer)
    assert (tmp_path / "checkpoint_4").is_dir()
    back = c.restore_checkpoint(tmp_path, {"w": np.zeros(2), "l": [np.ones(1)]})
    np.testing.assert_array_equal(back["w"], [1, 1])
    assert isinstance(back["l"], list)
    c.save_checkpoint(tmp_path, {"w": np.ones(2)}, 5)
    assert c.available_steps(tmp_path) == [5]


def test_arguments_for_orbax():
    assert isinstance(save_args_from_target(TREE)["w"], ocp.SaveArgs)
    assert restore_args_from_target({"a": 1})["a"].restore_type is np.ndarray


def test_damage_and_options_without_meaning(tmp_path):
    (tmp_path / "checkpoint_1").write_bytes(b"\xc1")
    with pytest.raises(DamagedDataError, match="cannot be read"):
        c.restore_checkpoint(tmp_path, TREE)
    for option in ("gda_manager", "orbax_transforms", "allow_partial_mpa_restoration"):
        with pytest.raises(ArgumentError, match=f"'{option}' is wrong"):
            c.restore_checkpoint(tmp_path, TREE, **{option: True})
    with pytest.raises(ArgumentError, match="'gda_manager' is wrong"):
        c.save_checkpoint_multiprocess(tmp_path, TREE, 2, gda_manager=True)


@pytest.mark.parametrize("parallel", [True, False])
def test_a_step_is_read_the_same_in_parallel_or_not(tmp_path, parallel):
    c.save_checkpoint(tmp_path, {"w": np.arange(3.0)}, 1)
    back = c.restore_checkpoint(tmp_path, {"w": np.zeros(3)}, parallel=parallel)
    np.testing.assert_array_equal(back["w"], np.arange(3.0))


def test_a_manager_of_flax_writes_in_a_thread_and_keeps_errors(tmp_path):
    manager = c.AsyncManager()
    manager.wait_previous_save()
    c.save_checkpoint(tmp_path, TREE, 1, async_manager=manager)
    c.save_checkpoint(tmp_path, TREE, 2, async_manager=manager)
    manager.save_future.result()
    assert c.available_steps(tmp_path) == [2]
    manager.save_async(lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        manager.wait_previous_save()
    with pytest.raises(ZeroDivisionError):
        c.save_checkpoint(tmp_path, TREE, 3, async_manager=manager)


@pytest.mark.parametrize("tree", [{"w": np.ones(2), "l": [np.zeros(1)]}, np.ones(3)])
def test_the_flag_for_orbax(tmp_path, tree):
    with config.override(use_orbax_checkpointing=True):
        c.save_checkpoint(tmp_path, tree, 1)
        with pytest.raises(ValueError, match="a step after 1"):
            c.save_checkpoint(tmp_path, tree, 1)
    assert (tmp_path / "checkpoint_1").is_dir()
    back = c.restore_checkpoint(tmp_path, jax.tree.map(np.zeros_like, tree))
    assert jax.tree.all(jax.tree.map(np.array_equal, back, tree))


def test_names_from_before_linen():
    old = {"Conv_0": {"k": 1}, "Dense_1": {"BatchNorm_3": {"m": 2}}, "Conv_10": {"k": 3}, "Conv_2": {"k": 4}, "w": 5}
    new = c.convert_pre_linen(old)
    assert new == {
        "w": 5,
        "Conv_0": {"k": 1},
        "Conv_1": {"k": 4},
        "Conv_2": {"k": 3},
        "Dense_0": {"BatchNorm_0": {"m": 2}},
    }


def test_an_asynchronous_checkpointer_finishes_its_save_first(tmp_path):
    tree = {"w": np.arange(3.0)}
    with ocp.AsyncCheckpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
        for step in (1, 2):
            c.save_checkpoint(tmp_path, tree, step, keep=2, orbax_checkpointer=checkpointer)
        with pytest.raises(StepTakenError):
            c.save_checkpoint(tmp_path, tree, 2, orbax_checkpointer=checkpointer)
        c.save_checkpoint(tmp_path, {"w": np.ones(3)}, 3, keep=2, orbax_checkpointer=checkpointer)
        restored = c.restore_checkpoint(tmp_path, tree, step=3, orbax_checkpointer=checkpointer)
    np.testing.assert_array_equal(restored["w"], np.ones(3))
