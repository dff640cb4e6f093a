"""What is no checkpoint of fx is named, and what others wrote is read into any tree."""

import collections
import logging
import sys

import fx_ckpt
import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
from fx_ckpt import CheckpointManager, checkpoints, orbax_utils
from fx_ckpt.errors import ArgumentError, DamagedDataError, NoCheckpointError
from fx_core.errors.files import ManifestError
from fx_core.errors.plugins import EntryLoadError
from fx_core.errors.serialization import StateDictMismatchError
from fx_core.files import AtomicDirectory
from fx_core.struct import dataclass

TREE = {"w": np.ones(2)}
Empty = collections.namedtuple("Empty", [])
Adam = collections.namedtuple("Adam", "count mu")


def bundle(path):
    with AtomicDirectory(path, format="fx-bundle", version=1):
        pass


def orbax_run(path):
    with ocp.CheckpointManager(path) as manager:
        manager.save(3, args=ocp.args.StandardSave(TREE))
        manager.wait_until_finished()


def zipped(path):
    np.savez(path.with_suffix(".npz"), **TREE)
    path.with_suffix(".npz").rename(path)


PLACES = {
    "a run": (
        lambda path: CheckpointManager(path, async_=False).save(1, TREE),
        r"the directory of a run(.|\n)*CheckpointManager\(path\)\.restore\(\)(.|\n)*step_",
    ),
    "a file of Flax": (
        lambda path: path.write_bytes(fx_ckpt.to_bytes(TREE)),
        r"as Flax writes them(.|\n)*restore_checkpoint(.|\n)*from_bytes",
    ),
    "steps of Flax": (lambda path: checkpoints.save_checkpoint(path, TREE, 1), r"restore_checkpoint\(path, target"),
    "a tree of Orbax": (
        lambda path: ocp.PyTreeCheckpointer().save(path, TREE),
        r"that Orbax wrote(.|\n)*restore_checkpoint\(path, target\)",
    ),
    "a run of Orbax": (orbax_run, r"Orbax's CheckpointManager(.|\n)*restore_checkpoint\('.*/3/default', target\)"),
    "a bundle": (bundle, r"an inference bundle(.|\n)*fx_export\.load"),
    "a file of safetensors": (
        lambda path: fx_ckpt.save_safetensors(path.with_suffix(".safetensors"), TREE).rename(path),
        r"a file of safetensors(.|\n)*load_safetensors",
    ),
    "a folder of safetensors": (lambda path: fx_ckpt.save_safetensors(path, TREE), r"load_safetensors\(path\)"),
    "an archive": (zipped, r"a zip archive(.|\n)*does not unpickle"),
    "a text": (lambda path: path.write_text("hello"), r"It is a file, not"),
    "nothing": (lambda path: None, r"a path where nothing is(.|\n)*is there, and below it there is no such thing"),
    "an empty folder": (lambda path: path.mkdir(), "an empty directory"),
    "a folder": (lambda path: (path / "src").mkdir(parents=True), "a directory that holds src"),
}


@pytest.mark.parametrize(
    "read", [fx_ckpt.restore, fx_ckpt.inspect, fx_ckpt.verify], ids=["restore", "inspect", "verify"]
)
@pytest.mark.parametrize("place", PLACES)
def test_reading_something_else_says_what_it_is(tmp_path, place, read):
    make, text = PLACES[place]
    make(tmp_path / "x")
    with pytest.raises(ManifestError, match=text):
        read(tmp_path / "x")


def test_a_damaged_checkpoint_stays_a_damaged_one(tmp_path):
    path = fx_ckpt.save(tmp_path / "x", TREE)
    (path / "manifest.json").write_bytes(b"\0")
    with pytest.raises(ManifestError, match="The manifest is damaged"):
        fx_ckpt.restore(path)


@pytest.mark.parametrize("place", ["a run", "a run of Orbax", "a bundle", "a folder of safetensors"])
def test_flax_functions_do_not_give_the_target_back_where_another_one_reads(tmp_path, place):
    make, text = PLACES[place]
    make(tmp_path / "x")
    with pytest.raises(NoCheckpointError, match=text) as error:
        checkpoints.restore_checkpoint(tmp_path / "x", {"w": np.zeros(2)})
    assert isinstance(error.value, (LookupError, ValueError))


def test_a_step_of_orbax_and_its_tree(tmp_path):
    orbax_run(tmp_path)
    with pytest.raises(NoCheckpointError, match=r"restore_checkpoint\('.*/3/default'"):
        checkpoints.restore_checkpoint(tmp_path / "3", TREE)
    back = checkpoints.restore_checkpoint(tmp_path / "3/default", {"w": np.zeros(2)})
    np.testing.assert_array_equal(back["w"], [1, 1])


@pytest.mark.parametrize("place", ["", "checkpoint_7"])
def test_a_checkpoint_of_fx_among_those_of_flax(tmp_path, place):
    fx_ckpt.save(tmp_path / "x/checkpoint_7", TREE)
    with pytest.raises(NoCheckpointError, match=r"that fx_ckpt\.save wrote(.|\n)*fx_ckpt\.restore\(path, target\)"):
        checkpoints.restore_checkpoint(tmp_path / "x" / place, TREE)


@pytest.mark.parametrize("make", [lambda path: None, lambda path: path.mkdir()], ids=["missing", "empty"])
def test_no_checkpoint_is_said_in_the_log(tmp_path, make, caplog):
    make(tmp_path / "x")
    assert checkpoints.restore_checkpoint(tmp_path / "x", TREE) is TREE
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "the target is given back as it is" in record.message


@dataclass
class State:
    step: int
    params: dict
    opt_state: tuple


@jax.tree_util.register_pytree_with_keys_class
class Graph(dict):
    """A mapping that no state dictionary knows, as NNX's states are."""

    def tree_flatten_with_keys(self):
        return [(jax.tree_util.DictKey(key), self[key]) for key in self], tuple(self)

    @classmethod
    def tree_unflatten(cls, keys, children):
        return cls(zip(keys, children))


def test_states_that_orbax_wrote_come_back_as_their_classes(tmp_path):
    def state(number):
        params = {"w": jnp.full(2, number)}
        opt = (Empty(), (Adam(jnp.array(number), params), Empty()), [Empty()])
        return State(int(number), Graph(a=params, **{"1": params}), opt)

    checkpoints.save_checkpoint(tmp_path, state(1.0), 1, orbax_checkpointer=ocp.PyTreeCheckpointer())
    back = checkpoints.restore_checkpoint(tmp_path, state(0.0))
    assert jax.tree.structure(back) == jax.tree.structure(state(1.0))
    assert type(back.params) is Graph
    assert all(np.all(leaf == 1) for leaf in jax.tree.leaves(back))
    plain = checkpoints.restore_checkpoint(tmp_path, None)
    assert set(plain) == {"step", "params", "opt_state"}
    assert set(plain["opt_state"]) == {"0", "1", "2"}


def test_state_dictionaries_of_what_orbax_wrote(tmp_path):
    checkpoints.save_checkpoint(tmp_path, {"l": [np.ones(1), {"a": 2}]}, 1, orbax_checkpointer=ocp.PyTreeCheckpointer())
    assert checkpoints.restore_checkpoint(tmp_path, None)["l"]["1"] == {"a": 2}


@pytest.mark.parametrize(
    ("target", "text"),
    [
        ({"w": {"x": 1}}, "w"),
        ({"v": 1}, "missing 'v'"),
        (State(0, {}, ()), "missing 'step', 'params', 'opt_state'"),
        ([1], "missing '0'"),
        (3, "a leaf"),
    ],
)
def test_other_structures_are_refused(tmp_path, target, text):
    checkpoints.save_checkpoint(tmp_path, TREE, 1, orbax_checkpointer=ocp.PyTreeCheckpointer())
    with pytest.raises(StateDictMismatchError, match=text):
        checkpoints.restore_checkpoint(tmp_path, target)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"3", b'{"tree_metadata": 3}', b'{"tree_metadata": {"a": {}}}'])
def test_damaged_metadata_of_orbax(tmp_path, content):
    checkpoints.save_checkpoint(tmp_path, TREE, 1, orbax_checkpointer=ocp.PyTreeCheckpointer())
    (tmp_path / "checkpoint_1/_METADATA").write_bytes(content)
    with pytest.raises(DamagedDataError, match="Orbax cannot read"):
        checkpoints.restore_checkpoint(tmp_path, TREE)


@pytest.mark.parametrize("read", ["restore", "from_bytes", "restore_checkpoint"])
def test_a_class_is_no_target(tmp_path, read):
    path = fx_ckpt.save(tmp_path / "x", TREE)
    calls = {
        "restore": lambda: fx_ckpt.restore(path, State),
        "from_bytes": lambda: fx_ckpt.from_bytes(State, fx_ckpt.to_bytes(TREE)),
        "restore_checkpoint": lambda: checkpoints.restore_checkpoint(tmp_path, State),
    }
    with pytest.raises(ArgumentError, match=r"'target' is wrong(.|\n)*an object of the class"):
        calls[read]()


def test_without_orbax_the_error_has_the_command(tmp_path, monkeypatch):
    checkpoints.save_checkpoint(tmp_path, TREE, 1, orbax_checkpointer=ocp.PyTreeCheckpointer())
    path = fx_ckpt.save(tmp_path / "x", TREE, backend="orbax")
    monkeypatch.setitem(sys.modules, "orbax.checkpoint", None)
    monkeypatch.delitem(sys.modules, "fx_ckpt.backends.orbax", raising=False)
    calls = [
        lambda: checkpoints.restore_checkpoint(tmp_path, TREE),
        lambda: orbax_utils.save_args_from_target(TREE),
        lambda: orbax_utils.restore_args_from_target(TREE),
        lambda: fx_ckpt.save(tmp_path / "y", TREE, backend="orbax"),
        lambda: fx_ckpt.restore(path),
    ]
    for call in calls:
        with pytest.raises(EntryLoadError, match=r"pip install 'fx-ckpt\[orbax\]'"):
            call()


def test_everything_is_there_after_one_import():
    assert fx_ckpt.checkpoints.latest_checkpoint
    assert fx_ckpt.errors.CheckpointError
    assert fx_ckpt.orbax_utils.save_args_from_target


def test_counters_of_batch_norm_are_ignored(tmp_path):
    theirs = {"bn.weight": np.ones(2), "bn.num_batches_tracked": np.array(5), "bn.bias": np.zeros(2)}
    fx_ckpt.save_safetensors(tmp_path / "m.safetensors", theirs)
    target = {"bn": {"scale": np.zeros(2), "bias": np.ones(2)}}
    rules = fx_ckpt.torch_rules()
    with pytest.raises(fx_ckpt.errors.RestoreMismatchError, match="num_batches_tracked"):
        fx_ckpt.load_safetensors(tmp_path / "m.safetensors", target, rules=rules)
    ignore = ["*.num_batches_tracked"]
    back = fx_ckpt.load_safetensors(tmp_path / "m.safetensors", target, rules=rules, ignore=ignore)
    assert (back["bn"]["scale"].sum(), back["bn"]["bias"].sum()) == (2, 0)
    assert set(fx_ckpt.load_safetensors(tmp_path / "m.safetensors", ignore=ignore)["bn"]) == {"weight", "bias"}


@pytest.mark.parametrize(
    "place", ["a file of Flax", "steps of Flax", "a run of Orbax", "a bundle", "a folder of safetensors"]
)
def test_a_manager_says_what_its_directory_is(tmp_path, place):
    make, text = PLACES[place]
    make(tmp_path / "x")
    with pytest.raises(NoCheckpointError, match=text):
        CheckpointManager(tmp_path / "x").restore()


def test_a_manager_of_one_checkpoint(tmp_path):
    path = fx_ckpt.save(tmp_path / "x", TREE)
    with pytest.raises(
        NoCheckpointError, match=r"one checkpoint, not a directory of steps(.|\n)*fx_ckpt\.restore\(path\)"
    ):
        CheckpointManager(path).restore()
