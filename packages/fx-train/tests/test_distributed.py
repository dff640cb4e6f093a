"""Meshes, layouts and processes, as far as one process shows them; tests-integration/distributed has several."""

import logging
import os
import signal
import subprocess
import sys
import threading
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from fx_core.errors import ShardingRuleError
from fx_train import StepState
from fx_train.distributed import (
    any_process,
    barrier,
    batch_part,
    create_sharded,
    first_only,
    global_batch,
    initialize,
    is_first,
    make_mesh,
    place,
    process_count,
    shardings,
)
from fx_train.distributed import processes as processes_module
from fx_train.distributed import ray as fx_ray
from fx_train.distributed._ending import lost_peer, what_to_do
from fx_train.distributed.launch import _free_port, launch, main
from fx_train.distributed.start import _cluster, _found
from fx_train.errors import (
    BatchError,
    DistributedStartError,
    MissingPackageError,
)

MESH = jax.sharding.AbstractMesh((4, 2), ("data", "model"))
DEVICES = list(range(8))


def state():
    params = {"up": jnp.ones((8, 16)), "down": jnp.ones((16, 8)), "bias": jnp.ones(6)}
    return StepState.create(params=params, tx=optax.adam(0.1))


def specs(rules, axes=None):
    layout = shardings(jax.eval_shape(state), MESH, rules, axes)
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): tuple(sharding.spec)
        for path, sharding in jax.tree_util.tree_leaves_with_path(layout)
    }


@pytest.mark.parametrize(
    ("description", "text"),
    [
        ("data:3, model:2", "expected: 6 devices"),
        ("data:-1, model:3", "a multiple of 3"),
        ("data:-1, model:-1", "one -1 at most"),
        ("data:4, data:2", "every name once"),
        ("data", "axes like 'data:4'"),
        ("data:0", "axes like 'data:4'"),
        ("", "got: '' and 8 devices"),
    ],
)
def test_meshes_that_cannot_be(description, text):
    with pytest.raises(ShardingRuleError, match=text):
        make_mesh(description, DEVICES)


def test_meshes_of_the_devices_there_are():
    mesh = make_mesh("data:-1, model:1")
    assert mesh.devices.size == jax.device_count()
    assert make_mesh("a : 1", jax.devices()[:1]).axis_names == ("a",)


def test_rules_reach_the_optimizer_too():
    assert set(specs([]).values()) == {()}
    split = specs([(".*", "data")])
    assert split["params/up"] == (None, "data")
    assert split["params/bias"] == ()
    assert split["opt_state/0/mu/down"] == ("data",)
    assert split["opt_state/0/count"] == split["step"] == ()
    tensor = specs([("up$", ("embed", "mlp")), ("down$", ("mlp", "embed"))], {"mlp": "model", "embed": None})
    assert tensor["params/up"] == tensor["opt_state/0/nu/up"] == (None, "model")
    assert tensor["params/down"] == ("model", None)
    both = specs([("up$", (("data", "model"), None))])
    assert both["params/up"] == (("data", "model"), None)
    assert specs([("bias", "alone"), (".*", "all")], {"alone": None, "all": ("data", "model")})["params/up"] == (
        None, ("data", "model"),
    )  # fmt: skip


def test_rules_that_cannot_be_met():
    with pytest.raises(ShardingRuleError, match=r"'mlp'.*\(6,\)"):
        specs([("bias", ("mlp",))], {"mlp": "data"})
    with pytest.raises(ShardingRuleError, match="'heads'"):
        specs([("up", ("heads", None))])
    with pytest.raises(ShardingRuleError, match=r"The mesh has no axis 'fsdp'\.\n  expected: one of data, model"):
        specs([("up", "fsdp")])


def test_states_in_pieces_and_batches_from_parts():
    mesh = make_mesh("data:-1")
    made = create_sharded(state, mesh=mesh, rules=[(".*", "data")])
    assert made.params["up"].sharding.mesh == mesh
    whole = state()
    again = place(whole, shardings(whole, mesh))
    np.testing.assert_array_equal(again.params["up"], made.params["up"])
    batch = global_batch({"x": np.arange(8)}, mesh)
    assert batch["x"].sharding.spec == jax.P("data")
    with pytest.raises(ShardingRuleError, match="no axis 'batch'"):
        global_batch(np.arange(8), mesh, "batch")
    with pytest.raises(BatchError, match="a scalar"):
        global_batch(np.float32(1), mesh)


class OtherDevice:
    """What a mesh knows of a device of another process."""

    def __init__(self, process_index):
        self.process_index = process_index


class MeshOf:
    """A mesh of two processes with four devices each, in the order of their processes."""

    def __init__(self, order="data model", **shape):
        self.shape = {name: shape[name] for name in order.split()}
        self.axis_names = tuple(self.shape)
        self.devices = np.array([OtherDevice(i // 4) for i in range(8)]).reshape(tuple(self.shape.values()))


def test_the_part_of_a_process_depends_on_the_mesh(monkeypatch):
    monkeypatch.setattr(jax, "process_index", lambda: 1)
    assert batch_part(MeshOf(data=8, model=1)) == batch_part(MeshOf(data=2, model=4)) == (1, 2)
    assert batch_part(MeshOf(data=1, model=8)) == (0, 1)
    assert batch_part(MeshOf("model data", data=4, model=2)) == (0, 1)
    assert batch_part(MeshOf(data=4, model=2), ("data", "model")) == (1, 2)
    with pytest.raises(ShardingRuleError, match="no axis 'batch'"):
        batch_part(MeshOf(data=1, model=8), "batch")
    overlapping = MeshOf(data=2, model=4)
    overlapping.devices[0, 0] = OtherDevice(1)
    with pytest.raises(ShardingRuleError, match=r"got: process 0: \[0\]; process 1: \[0, 1\]"):
        batch_part(overlapping)


def test_one_process_alone():
    initialize()
    assert (process_count(), is_first(), any_process(True), any_process(False)) == (1, True, True, False)
    barrier()
    assert first_only(lambda: 7) == 7
    with pytest.raises(ZeroDivisionError):
        first_only(lambda: 1 / 0)


def test_a_failure_of_the_first_process_is_known_to_the_others(monkeypatch):
    monkeypatch.setattr(processes_module, "is_first", lambda: False)
    monkeypatch.setattr(processes_module, "any_process", lambda flag: True)
    with pytest.raises(DistributedStartError, match="The first process failed"):
        first_only(lambda: 1)


def test_processes_that_know_half_of_their_place(monkeypatch):
    with pytest.raises(DistributedStartError, match="coordinator_address without num_processes, process_id"):
        initialize("localhost:1")
    monkeypatch.setenv("FX_COORDINATOR", "localhost:1")
    monkeypatch.setenv("FX_PROCESS_COUNT", "two")
    with pytest.raises(DistributedStartError, match="FX_PROCESS_COUNT='two'"):
        initialize()
    monkeypatch.setenv("FX_PROCESS_COUNT", "2")
    with pytest.raises(DistributedStartError, match="without process_id"):
        initialize()


def test_an_indexed_job_of_kubernetes_knows_its_place():
    job = {"FX_COORDINATOR": "train-0.train:9876", "FX_PROCESS_COUNT": "4", "JOB_COMPLETION_INDEX": "2"}
    found = _found(None, None, None, job)
    assert found == {"coordinator_address": "train-0.train:9876", "num_processes": 4, "process_id": 2}
    assert _found(None, None, None, {"JOB_COMPLETION_INDEX": "2"}) is None


def test_a_pod_that_may_have_been_meant_to_join_others_says_so(monkeypatch, caplog):
    monkeypatch.setenv("JOB_COMPLETION_INDEX", "2")
    with caplog.at_level(logging.WARNING, "fx.train"):
        initialize()
    assert "Set FX_COORDINATOR and FX_PROCESS_COUNT in the manifest to join its pods." in caplog.text


def test_places_that_do_not_fit():
    with pytest.raises(DistributedStartError, match=r"expected: an index below the number\n  got: index 2 of 2"):
        initialize("localhost:1", 2, 2)
    with pytest.raises(DistributedStartError, match=r"expected: host:port\n  got: the coordinator 'localhost'"):
        initialize("localhost", 2, 0)


def test_processes_that_are_together_are_not_joined_again(monkeypatch):
    monkeypatch.setattr(jax.distributed, "is_initialized", lambda: True)
    initialize()
    with pytest.raises(DistributedStartError, match="they are together already"):
        initialize("localhost:1", 2, 0)


def test_broken_connections_are_told_from_bugs():
    broken = ValueError("UNKNOWN: Gloo all-reduce failed: Connection closed by peer")
    assert lost_peer(broken)
    consequence = KeyError("step")
    consequence.__cause__ = broken
    assert lost_peer(consequence)
    assert not lost_peer(ValueError("a bug"))
    assert "Process 0 of 1 lost another process, which ended or cannot be reached" in what_to_do(broken)
    assert "ended by ValueError, and the others cannot go on" in what_to_do(ValueError("a bug"))
    assert "Start all processes anew" in what_to_do(broken)


def test_ray_is_an_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray.train", None)
    with pytest.raises(MissingPackageError, match=r"needs ray\[train\](?s:.*)pip install 'fx-train\[ray\]'"):
        fx_ray.initialize()


@pytest.mark.parametrize(
    ("environment", "several"),
    [
        ({"SLURM_STEP_NUM_TASKS": "2"}, True),
        ({"SLURM_STEP_NUM_TASKS": "1"}, False),
        ({"OMPI_COMM_WORLD_SIZE": "8"}, True),
        ({}, False),
    ],
)
def test_launchers_of_several_processes_are_left_to_jax(environment, several):
    assert _cluster(environment) == several


APART = """
import jax
from fx_train.distributed import initialize
from fx_train.errors import DistributedStartError

def refused(*args):
    try:
        initialize(*args, start_timeout=1)
    except DistributedStartError as error:
        return str(error)

assert "cannot be reached" in refused("127.0.0.1:{port}", 2, 1)
assert "expected: host:port" in refused("somewhere", 2, 1)
jax.devices()
assert "before any JAX" in refused("127.0.0.1:{port}", 1, 0)
print("done")
"""


def test_processes_that_do_not_come_together():
    program = APART.format(port=_free_port())
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60)
    assert done.stdout.strip() == "done", done.stderr


def test_launched_processes_know_their_place(capfd):
    # Three write to one pipe: each in one piece, line break included.
    text = "e['FX_PROCESS_INDEX'] + '/' + e['FX_PROCESS_COUNT'] + chr(10)"
    program = f"import os; e = os.environ; os.write(1, ({text}).encode())"
    assert launch([sys.executable, "-c", program], 3) == 0
    assert sorted(capfd.readouterr().out.split()) == ["0/3", "1/3", "2/3"]


def test_a_death_ends_all_and_is_reported(capfd):
    program = "import os, time; time.sleep(60) if os.environ['FX_PROCESS_INDEX'] == '0' else os.kill(os.getpid(), 9)"
    assert launch([sys.executable, "-c", program], 2) == 137
    assert "Process 1 of 2 was killed by SIGKILL; the others were ended" in capfd.readouterr().err
    program = "import os, sys; sys.exit(3 if os.environ['FX_ATTEMPT'] == '0' else 0)"
    assert launch([sys.executable, "-c", program], 2, restarts=1) == 0
    assert "failed with exit status 3" in capfd.readouterr().err


def _ask_after(folder, *marks):
    """Sends this process SIGTERM each time that the next of these files is there, from a thread of its own."""

    # Files, for `capfd` forgets what a program prints between its reading and its emptying.
    def ask():
        for mark in marks:
            while not all((folder / name).exists() for name in mark):
                time.sleep(0.05)
            os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    return thread


def test_who_was_asked_to_end_is_not_started_anew_and_has_its_time(capfd, tmp_path):
    program = (
        "import os, pathlib, signal, sys, time; place = os.environ['FX_PROCESS_INDEX']; "
        "signal.signal(signal.SIGTERM, lambda *a: (time.sleep(int(place)), print('saved'), sys.exit(143))); "
        "assert os.getsid(0) == os.getpid(); pathlib.Path(sys.argv[1], 'ready' + place).touch(); time.sleep(60)"
    )
    thread = _ask_after(tmp_path, ["ready0", "ready1"])
    assert launch([sys.executable, "-c", program, str(tmp_path)], 2, restarts=3, grace=0.0) == 143
    thread.join()
    out, errors = capfd.readouterr()
    assert out.count("saved") == 2
    assert "All were asked to end by SIGTERM, and process 0 of 2 failed with exit status 143." in errors


def test_a_second_signal_ends_what_does_not_listen(tmp_path):
    program = (
        "import pathlib, signal, sys, time; folder = pathlib.Path(sys.argv[1]); "
        "signal.signal(signal.SIGTERM, lambda *a: (folder / 'heard').touch()); "
        "(folder / 'ready').touch(); time.sleep(60); time.sleep(60)"
    )
    thread = _ask_after(tmp_path, ["ready"], ["heard"])
    assert launch([sys.executable, "-c", program, str(tmp_path)], 1) == 128 + signal.SIGKILL
    thread.join()


def test_the_command_line(capfd, tmp_path):
    program = tmp_path / "program.py"
    program.write_text("import sys; sys.exit(int(sys.argv[1]))")
    assert main(["--processes", "1", str(program), "4"]) == 4
    assert main(["--processes", "1", "--", str(program), "5"]) == 5
    assert main(["--processes", "1", "-m", "this"]) == 0
    assert "Beautiful is better than ugly." in capfd.readouterr().out
    for arguments in (["--processes", "0", str(program)], ["--processes", "1", "--"]):
        with pytest.raises(SystemExit):
            main(arguments)
    assert "at least one process" in capfd.readouterr().err


EIGHT_DEVICES = """
import jax, jax.numpy as jnp, numpy as np, optax
from fx_train import StepState, make_train_step
from fx_train.distributed import create_sharded, global_batch, make_mesh
from fx_train.jax_utils import replicate, unreplicate, prefetch_to_device

def create():
    return StepState.create(params={"w": jnp.ones((8, 4))}, tx=optax.adam(0.1))

def loss_fn(params, batch):
    return jnp.mean((jnp.tanh(batch @ params["w"])) ** 2)

batch = np.random.default_rng(0).normal(size=(16, 8)).astype(np.float32)
results = []
one, eight, both = make_mesh("data:1", jax.devices()[:1]), make_mesh("data:8"), make_mesh("data:-1, model:2")
for mesh, rules in [(one, []), (eight, []), (both, [("w$", (None, "model"))]), (eight, [(".*", "data")])]:
    state = create_sharded(create, mesh=mesh, rules=rules)
    step = make_train_step(loss_fn, accumulate=2, weight="examples")
    before = state.params["w"].sharding
    for _ in range(3):
        state, metrics = step(state, global_batch(batch, mesh))
    results.append(np.asarray(state.params["w"]))
for other in results[1:]:
    np.testing.assert_allclose(other, results[0], rtol=1e-5)

copies = replicate({"w": jnp.arange(3.0), "key": jax.random.key(0)})
assert copies["w"].shape == (8, 3) and len(copies["w"].sharding.device_set) == 8
assert unreplicate(copies)["w"].tolist() == [0, 1, 2] and len(unreplicate(copies)["w"].sharding.device_set) == 1
(ahead,) = prefetch_to_device(iter([np.zeros((8, 2))]), 2)
assert ahead.sharding == copies["w"].sharding
print("done")
"""


def test_the_same_numbers_on_eight_devices_by_any_rules():
    program = "import jax\njax.config.update('jax_platforms', 'cpu')\njax.config.update('jax_num_cpu_devices', 8)\n"
    done = subprocess.run([sys.executable, "-c", program + EIGHT_DEVICES], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "done", done.stderr
