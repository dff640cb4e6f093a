"""Two processes save together, one restores; one saves, two restore: to the bit."""

import json
import os
import socket
import subprocess
import sys
import textwrap

import fx_ckpt
import numpy as np
import pytest

PROGRAM = textwrap.dedent("""
    import json, sys
    import jax
    directory, task, index, count, port, devices = *sys.argv[1:3], *map(int, sys.argv[3:7])
    jax.config.update("jax_num_cpu_devices", devices)
    if count > 1:
        jax.config.update("jax_cpu_collectives_implementation", "gloo")
        if task == "unwatched":
            jax.config.update("jax_enable_preemption_service", False)
        jax.distributed.initialize(f"127.0.0.1:{port}", count, index)
    import jax.numpy as jnp
    import numpy as np
    import fx_ckpt
    from fx_core.errors.files import DamagedFilesError
    from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec as P

    mesh = Mesh(np.array(jax.devices()).reshape(2, -1), ("a", "b"), axis_types=(AxisType.Auto,) * 2)
    SPECS = {"w": P("a", "b"), "v": P(("a", "b")), "t": P(None, "b"), "r": P()}
    HOST = {
        "w": np.random.default_rng(0).normal(size=(8, 8)).astype(np.float32),
        "v": np.arange(16, dtype=np.int32),
        "t": np.arange(3 * 8).reshape(3, 8).astype(jnp.bfloat16),
        "r": np.arange(5.0, dtype=np.float32),
    }

    def placed(factor):
        return {
            name: jax.make_array_from_callback(
                value.shape, NamedSharding(mesh, SPECS[name]), lambda part, value=value: (value * factor)[part]
            ).astype(value.dtype)
            for name, value in HOST.items()
        } | {"step": factor, "key": np.uint32(factor)}

    def check(tree, factor):
        for name, value in HOST.items():
            expected = (value * factor).astype(value.dtype)
            for shard in tree[name].addressable_shards:
                assert np.asarray(shard.data).tobytes() == np.ascontiguousarray(expected[shard.index]).tobytes(), name
            assert tree[name].sharding == NamedSharding(mesh, SPECS[name])
        assert tree["step"] == factor

    def wanted():
        return placed(1)

    if task == "save":
        with fx_ckpt.CheckpointManager(directory, keep=2) as manager:
            for step in (1, 2, 3):
                manager.save(step, placed(step))
            assert manager.all_steps() == [2, 3]
    class Data:
        def __init__(self, at):
            self.at = at

        def get_state(self):
            return {"at": self.at}

        def set_state(self, state):
            self.at = state["at"]

    if task == "save" and count > 1:
        # What fails in one process fails in all, and the next save works.
        from fx_ckpt.errors import OtherProcessError
        from fx_core.errors import AlreadyExistsError
        try:
            fx_ckpt.save(directory + "/step_00000003", placed(9))
        except AlreadyExistsError:
            assert index == 0
        except OtherProcessError as error:
            assert index == 1
            assert "Process 0 could not save" in str(error) and "AlreadyExistsError" in str(error), error
        else:
            raise AssertionError("saved over a checkpoint")
        # Each process has its own place in the data.
        path = fx_ckpt.save(directory + "-data", placed(1), iterators={"d": Data(10 + index)})
        again = Data(0)
        check(fx_ckpt.restore(path, wanted(), iterators={"d": again}), 1)
        assert again.at == 10 + index
    if task == "unwatched":
        # Without JAX's service nobody can know of a preemption; saves go on. Keys lie on several processes like arrays.
        split = NamedSharding(mesh, P(("a", "b")))
        data = jax.random.key_data(jax.random.split(jax.random.key(7), jax.device_count()))
        data = np.asarray(data)
        keys = jax.jit(jax.random.wrap_key_data, out_shardings=split)(
            jax.make_array_from_callback(data.shape, split, lambda part: data[part])
        )
        with fx_ckpt.CheckpointManager(directory) as manager:
            for step in (1, 2):
                manager.save(jnp.int32(step), {"keys": keys, "tree": placed(step)})
        again = manager.restore(target={"keys": keys, "tree": wanted()})
        check(again["tree"], 2)
        assert again["keys"].sharding == split
        for shard in again["keys"].addressable_shards:
            np.testing.assert_array_equal(jax.random.key_data(shard.data), data[shard.index])
    if task in ("save", "restore"):
        manager = fx_ckpt.CheckpointManager(directory)
        check(manager.restore(target=wanted()), 3)
        check(manager.restore(2, target=wanted()), 2)
    print(json.dumps({"process": index, "of": jax.process_count(), "devices": jax.device_count()}))
""")


def processes(directory, task, count, devices):
    """Run the program in some processes with some devices each."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    commands = [
        [sys.executable, "-c", PROGRAM, str(directory), task, str(index), str(count), str(port), str(devices)]
        for index in range(count)
    ]
    running = [subprocess.Popen(c, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for c in commands]
    answers = []
    try:
        for process in running:
            out, errors = process.communicate(timeout=180)
            assert process.returncode == 0, errors[-3000:]
            answers.append(json.loads(out.splitlines()[-1]))
    finally:
        for process in running:
            process.kill()
            process.communicate()
    assert [answer["of"] for answer in answers] == [count] * count


@pytest.fixture(scope="module")
def together(tmp_path_factory):
    directory = tmp_path_factory.mktemp("together")
    processes(directory, "save", count=2, devices=2)
    return directory


def test_what_two_wrote_is_whole(together):
    manager = fx_ckpt.CheckpointManager(together)
    assert manager.all_steps() == [2, 3]
    assert sorted(os.listdir(together)) == ["step_00000002", "step_00000003"]
    for step in (2, 3):
        assert fx_ckpt.verify(manager.path(step)).backend == "orbax"
    tree = manager.restore(3)
    assert np.asarray(tree["v"]).tolist() == (np.arange(16) * 3).tolist()


def test_two_then_one(together):
    processes(together, "restore", count=1, devices=4)
    processes(together, "restore", count=1, devices=8)


@pytest.mark.parametrize("devices", [4])
def test_one_then_two(tmp_path, devices):
    processes(tmp_path, "save", count=1, devices=devices)
    processes(tmp_path, "restore", count=2, devices=2)


def test_two_without_the_service_for_preemption_and_with_keys_on_both(tmp_path):
    processes(tmp_path, "unwatched", count=2, devices=2)
    assert sorted(os.listdir(tmp_path)) == ["step_00000001", "step_00000002"]
