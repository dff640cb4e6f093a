"""Saves in the background: what was there when they began, nothing before it is durable, and no error is lost."""

import os
import pickle
import signal
import subprocess
import sys
import textwrap
import threading

import fx_ckpt
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fx_ckpt.errors import StepTakenError
from fx_ckpt.formats import digests
from fx_ckpt.running.parallel import BLOCK, aligned_empty, copied
from fx_core import files


@pytest.fixture
def gate(monkeypatch):
    """Holds saves before their first byte until it is opened."""
    opened = threading.Event()
    from fx_ckpt.backends import msgpack

    encoded = msgpack.encoded

    def wait(*args):
        opened.wait(30)
        return encoded(*args)

    monkeypatch.setattr(msgpack, "encoded", wait)
    yield opened
    opened.set()


def test_the_tree_may_change_once_save_has_returned(tmp_path, gate):
    run = fx_ckpt.CheckpointManager(tmp_path / "run")
    array, donated, view = np.arange(5), jnp.arange(4.0), np.arange(6).reshape(2, 3).T
    run.save(1, {"a": array, "d": donated, "v": view, "again": array})
    array[:] = -1
    view[:] = -1
    jax.jit(lambda x: x + 1, donate_argnums=0)(donated)
    assert donated.is_deleted()
    gate.set()
    back = run.restore()
    np.testing.assert_array_equal(back["a"], np.arange(5))
    np.testing.assert_array_equal(back["again"], np.arange(5))
    np.testing.assert_array_equal(back["d"], np.arange(4.0))
    np.testing.assert_array_equal(back["v"], np.arange(6).reshape(2, 3).T)


def test_nothing_is_there_before_it_is_durable(tmp_path, gate):
    run = fx_ckpt.CheckpointManager(tmp_path / "run")
    looker = fx_ckpt.CheckpointManager(tmp_path / "run")
    run.save(1, {"a": 1})
    assert looker.latest_step() is None
    gate.set()
    run.wait()
    assert looker.latest_step() == 1


@pytest.mark.parametrize(
    "ask",
    [
        lambda run: run.wait(),
        lambda run: run.save(2, {}),
        lambda run: run.latest_step(),
        lambda run: run.restore(),
        lambda run: run.__exit__(None, None, None),
    ],
    ids=["wait", "save", "latest_step", "restore", "with"],
)
def test_a_failed_save_is_heard_of_once(tmp_path, monkeypatch, caplog, ask):
    def full(*_):
        raise OSError(28, "No space left on device")

    run = fx_ckpt.CheckpointManager(tmp_path / "run")
    run.save(1, {"a": 1})
    run.wait()
    with monkeypatch.context() as patch:
        patch.setattr("fx_ckpt.backends.msgpack.encoded", full)
        run.save(2, {"a": 2})
        with pytest.raises(OSError, match="No space left"):
            ask(run)
    assert "A save in the background failed: StorageError" in caplog.text
    assert run.all_steps() == [1]
    run.save(2, {"a": 3})
    assert run.restore() == {"a": 3}
    assert sorted(os.listdir(tmp_path / "run")) == ["step_00000001", "step_00000002"]


def test_mistakes_are_raised_by_the_save_itself(tmp_path):
    run = fx_ckpt.CheckpointManager(tmp_path / "run")
    run.save(5, {})
    with pytest.raises(StepTakenError):
        run.save(5, {})
    with pytest.raises(fx_ckpt.errors.UnsupportedLeafError):
        run.save(6, {"f": print})
    assert run.all_steps() == [5]


def test_one_save_at_a_time(tmp_path, gate):
    run = fx_ckpt.CheckpointManager(tmp_path / "run", keep=1)
    run.save(1, {"a": 1})
    threading.Timer(0.05, gate.set).start()
    run.save(2, {"a": 2})
    assert run.all_steps() == [2]


def test_threads_may_share_a_manager(tmp_path):
    run = fx_ckpt.CheckpointManager(tmp_path / "run")
    missed: list[BaseException] = []
    begin = threading.Barrier(4)

    def use(first):
        begin.wait()
        try:
            for step in range(first, 40, 4):
                run.save(step, {"step": step}, overwrite=True)
                assert run.restore(step) == {"step": step}
        except BaseException as error:
            missed.append(error)

    threads = [threading.Thread(target=use, args=(first,)) for first in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (missed, run.all_steps()) == ([], list(range(40)))


def test_a_manager_pickles_once_its_save_is_done(tmp_path):
    run = fx_ckpt.CheckpointManager(tmp_path / "run", keep=1)
    run.save(1, {"step": 1})
    again = pickle.loads(pickle.dumps(run))
    again.save(2, {"step": 2})
    assert again.all_steps() == run.all_steps() == [2]


def test_a_program_that_ends_finishes_its_save(tmp_path):
    program = textwrap.dedent("""
        import sys, numpy as np, fx_ckpt
        fx_ckpt.CheckpointManager(sys.argv[1]).save(1, {"a": np.ones(1_000_000)})
    """)
    subprocess.run([sys.executable, "-c", program, tmp_path / "run"], check=True)
    assert fx_ckpt.CheckpointManager(tmp_path / "run").restore()["a"].sum() == 1_000_000


PREEMPTED = textwrap.dedent("""
    import os, signal, sys, fx_ckpt
    with fx_ckpt.CheckpointManager(sys.argv[1], save_interval=10, best="loss") as run:
        for step in range(1, 100):
            if step == 13:
                os.kill(os.getpid(), signal.SIGTERM)
            run.save(step, {"step": step}, metrics={"loss": 0.5} if step % 10 == 0 else None)
        print("not reached")
""")


def test_sigterm_saves_the_step_and_ends_the_program(tmp_path):
    run = subprocess.run([sys.executable, "-c", PREEMPTED, tmp_path / "run"], check=False, capture_output=True)
    assert (run.returncode, run.stdout) == (128 + signal.SIGTERM, b""), run.stderr.decode()
    manager = fx_ckpt.CheckpointManager(tmp_path / "run", best="loss")
    assert manager.all_steps() == [10, 13]
    assert manager.restore() == {"step": 13}


def test_sigterm_belongs_to_its_owner_again_afterwards(tmp_path):
    before = signal.getsignal(signal.SIGTERM)
    run = fx_ckpt.CheckpointManager(tmp_path / "run")
    with pytest.raises(fx_ckpt.Preempted, match="SIGTERM came; step 3 is saved") as stop, run:  # noqa: PT012
        run.save(2, {})
        signal.raise_signal(signal.SIGTERM)
        run.save(3, {"last": True})
    assert (stop.value.step, stop.value.code) == (3, 143)
    assert signal.getsignal(signal.SIGTERM) is before
    assert run.restore() == {"last": True}


def test_sigterm_after_the_step_was_saved(tmp_path):
    run = fx_ckpt.CheckpointManager(tmp_path / "run")
    with pytest.raises(fx_ckpt.Preempted), run:  # noqa: PT012
        run.save(3, {"a": 1})
        signal.raise_signal(signal.SIGTERM)
        run.save(3, {"a": 1})
    assert run.all_steps() == [3]


FORGOTTEN = textwrap.dedent("""
    import os, signal, sys, fx_ckpt
    with fx_ckpt.CheckpointManager(sys.argv[1]) as run:
        run.save(1, {"step": 1})
        os.kill(os.getpid(), signal.SIGTERM)
    print("not reached")
""")


def test_sigterm_that_no_save_acted_on_ends_the_program_when_the_manager_is_left(tmp_path):
    run = subprocess.run([sys.executable, "-c", FORGOTTEN, tmp_path / "run"], check=False, capture_output=True)
    assert (run.returncode, run.stdout) == (-signal.SIGTERM, b"")
    assert b"SIGTERM came after the last save; it is passed on." in run.stderr
    assert fx_ckpt.CheckpointManager(tmp_path / "run").restore() == {"step": 1}


def test_sigterm_that_no_save_acted_on_goes_to_its_owner(tmp_path):
    got = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: got.append(number))
    try:
        run = fx_ckpt.CheckpointManager(tmp_path / "run")
        with pytest.raises(KeyError), run:  # noqa: PT012
            signal.raise_signal(signal.SIGTERM)
            assert got == []
            raise KeyError("of the program")
        assert got == [signal.SIGTERM]
        with run:
            run.save(1, {})
        assert got == [signal.SIGTERM]
    finally:
        signal.signal(signal.SIGTERM, before)


def test_outside_of_the_main_thread_sigterm_is_left_alone(tmp_path, caplog):
    def use():
        with fx_ckpt.CheckpointManager(tmp_path / "run") as run:
            run.save(1, {})

    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=use)
    thread.start()
    thread.join()
    assert signal.getsignal(signal.SIGTERM) is before
    assert "SIGTERM will not be caught" in caplog.text
    assert fx_ckpt.CheckpointManager(tmp_path / "run").latest_step() == 1


def test_copies_are_aligned_whole_and_independent():
    arrays = [
        np.arange(BLOCK // 2 + 5, dtype=np.int64),
        np.arange(6).reshape(2, 3).T,
        np.zeros((0, 3)),
        np.float32(2).reshape(()),
        np.ones(3, jnp.bfloat16),
    ]
    for array, copy in zip(arrays, copied(arrays)):
        assert (copy.dtype, copy.shape) == (array.dtype, array.shape)
        assert copy.tobytes() == array.tobytes()
        assert not np.shares_memory(array, copy)
    assert aligned_empty((3,), np.dtype(np.float32)).ctypes.data % 64 == 0


@pytest.mark.parametrize("size", [0, 1, 5, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK])
def test_digests_are_the_same_in_order_and_in_parallel(tmp_path, size):
    content = np.arange(size, dtype=np.uint32).astype(np.uint8).tobytes()
    from fx_ckpt.formats.extents import DigestingFile

    with DigestingFile(tmp_path / "x") as file:
        file.write(content[: size // 3])
        file.write(content[size // 3 :])
    assert (tmp_path / "x").read_bytes() == content
    assert file.digest == digests.digest_file(tmp_path / "x")
    assert digests.matches(tmp_path / "x", file.digest)
    assert digests.matches(tmp_path / "x", files.digest_file(tmp_path / "x"))
    assert not digests.matches(tmp_path / "x", "md5:0")
    (tmp_path / "x").write_bytes(content + b"\0")
    assert not digests.matches(tmp_path / "x", file.digest)
