"""What callbacks do when things go as planned, and when they do not."""

import csv
import json
import types

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from fx_train import (
    Callback,
    Checkpoints,
    Confusion,
    Describe,
    Evaluate,
    Log,
    Run,
    StepState,
    StopEarly,
    Throughput,
    make_train_step,
)
from fx_train.errors import (
    ArgumentError,
    DataEndedError,
    MetricError,
    RunError,
)


class Memory:
    """A checkpointer that keeps its trees in a dict."""

    def __init__(self):
        self.kept, self.metrics, self.metadata, self.waited = {}, {}, {}, 0

    def save(self, step, tree, *, metrics=None, iterators=None, metadata=None):
        positions = {name: iterator.get_state() for name, iterator in (iterators or {}).items()}
        self.kept[step], self.metrics[step] = (jax.tree.map(np.array, tree), positions), metrics
        self.metadata[step] = dict(metadata or {})

    def inspect(self, step):
        return types.SimpleNamespace(metadata=self.metadata[step])

    def restore(self, step=None, target=None, *, iterators=None):
        tree, positions = self.kept[step]
        for name, iterator in (iterators or {}).items():
            iterator.set_state(positions[name])
        return tree

    def latest_step(self):
        return max(self.kept, default=None)

    def wait(self):
        self.waited += 1


class Numbers:
    """An iterator that knows its position."""

    def __init__(self):
        self.position = 0

    def __iter__(self):
        return self

    def __next__(self):
        self.position += 1
        return self.position

    def get_state(self):
        return self.position

    def set_state(self, state):
        self.position = state


def train(directory, callbacks, losses, total_steps=None, data=None):
    """A run whose losses are given; the state is their sum."""
    with Run(directory, total_steps=total_steps or len(losses), callbacks=callbacks) as run:
        state = run.resume(0.0)
        for _, loss in run.steps(data or (lambda step: losses[step:])):
            state += loss
            run.record(state, {"loss": loss})
    return run


def test_the_last_state_is_saved_however_the_run_ends(tmp_path):
    manager = Memory()
    with pytest.raises(DataEndedError, match="The data ended before the run did"):
        train(tmp_path, [Checkpoints(manager, every=10)], [1.0, 2.0, 3.0], total_steps=5)
    assert (manager.latest_step(), float(manager.kept[3][0]), manager.waited) == (3, 6.0, 1)
    with pytest.raises(DataEndedError, match="The data is empty"):
        train(tmp_path, [], [], total_steps=5)


def test_a_state_whose_memory_was_taken_is_reported(tmp_path):
    def loss_fn(params, batch):
        return jnp.mean(batch @ params["w"])

    manager, train_step = Memory(), make_train_step(loss_fn)

    def run_into_error():
        state = StepState.create(params={"w": jnp.ones(2)}, tx=optax.sgd(0.1))
        with Run(tmp_path, total_steps=9, callbacks=[Checkpoints(manager, every=2)]) as run:
            for step, batch in run.steps([jnp.ones((1, 2))] * 9):
                state, metrics = train_step(state, batch)
                _ = 1 / (step - 3)
                run.record(state, metrics)

    with pytest.raises(ZeroDivisionError) as caught:
        run_into_error()
    assert manager.latest_step() == 2
    assert "state of step 3 could not be saved" in caught.value.__notes__[0]
    assert "newest checkpoint is of step 2" in caught.value.__notes__[0]


def test_iterators_and_callbacks_go_on_where_they_were(tmp_path):
    manager = Memory()

    def run(break_at):
        numbers, seen = Numbers(), []
        callbacks = [Checkpoints(manager, every=2, iterators={"data": numbers}), StopEarly("loss", patience=3)]
        with Run(tmp_path, total_steps=8, callbacks=callbacks) as run:
            run.resume(0)
            for _, number in run.steps(numbers):
                _ = 1 / (number - break_at)
                seen.append(number)
                run.record(number, {"loss": 1.0})
        return seen, run.stop_reason

    with pytest.raises(ZeroDivisionError):
        run(break_at=4)
    assert manager.latest_step() == 3
    seen, reason = run(break_at=-1)
    # The batch that failed comes again: an iterator has given it, nobody has learnt from it.
    assert seen == [4, 5]
    assert reason == "loss has not improved 4 times; its best is 1"
    assert [file.name for file in tmp_path.iterdir()] == []


class Forgetful(Memory):
    """Keeps trees alone."""

    def save(self, step, tree, *, metrics=None):
        super().save(step, tree, metrics=metrics)


def test_a_manager_that_keeps_no_metadata_is_said_to(tmp_path, caplog):
    manager = Forgetful()
    train(tmp_path, [Checkpoints(manager, every=1), StopEarly("loss")], [3.0, 2.0])
    assert [record.message for record in caplog.records] == [
        "Forgetful keeps no metadata, so that a resumed run begins without that of StopEarly/0."
    ]
    caplog.clear()
    train(tmp_path, [Checkpoints(Forgetful(), every=1)], [3.0, 2.0])
    assert not caplog.records


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"2": {"StopEarly/0": {"best": 1.0, "count": 1}}}', "loss has not improved 2 times; its best is 1"),
        ("", None),
        ("[]", None),
    ],
)
def test_what_earlier_versions_kept_in_a_file_is_read(tmp_path, caplog, text, reason):
    manager = Memory()
    train(tmp_path, [Checkpoints(manager, every=1)], [1.0, 1.0])
    (tmp_path / "callbacks.json").write_text(text)
    callbacks = [Checkpoints(manager, every=1), StopEarly("loss", patience=1)]
    assert train(tmp_path, callbacks, [1.0, 1.0, 1.0]).stop_reason == reason
    assert ("Callbacks begin afresh" in caplog.text) == (reason is None)


def test_callbacks_may_remember_what_json_does_not_know(tmp_path):
    manager = Memory()
    train(tmp_path, [Checkpoints(manager, every=1), StopEarly("loss", patience=9)], [np.nan])
    again = StopEarly("loss", patience=9)
    train(tmp_path, [Checkpoints(manager, every=1), again], [np.nan, np.nan])
    assert again.get_state() == {"best": np.inf, "count": 2}


def test_a_resumed_run_does_not_begin_a_collection_anew(tmp_path, caplog):
    def run(manager, data, until):
        seen = []
        with Run(tmp_path, total_steps=6, callbacks=[Checkpoints(manager, every=10)]) as run:
            run.resume(0)
            for step, batch in run.steps(data):
                if step == until:
                    break
                seen.append(batch)
                run.record(0, {})
        return seen

    for data in (["a", "b", "c", "d", "e", "f"], dict.fromkeys("abcdef")):
        manager = Memory()
        assert run(manager, data, 2) == ["a", "b"]
        assert run(manager, data, 5) == ["c", "d", "e"]
        assert run(manager, data, 9) == ["f"]
    assert not caplog.records
    manager, numbers = Memory(), iter(range(9))
    assert run(manager, numbers, 2) == [0, 1]
    assert run(manager, numbers, 4) == [3, 4]
    assert "at step 2 with an iterator that does not know its position" in caplog.text
    with pytest.raises(DataEndedError, match="got: 4 steps"):
        run(manager, ["a", "b"], 9)


def test_unmeasured_metrics_are_no_number_and_so_never_the_best(tmp_path):
    manager = Memory()
    callbacks = [Evaluate(lambda state: {"score": state}, every=2), Checkpoints(manager, every=3)]
    train(tmp_path, callbacks, [1.0, 1.0, 1.0, 1.0])
    assert np.isnan(manager.metrics[3]["eval/score"])
    assert manager.metrics[4] == {"loss": 1.0, "eval/score": 4.0}


@pytest.mark.parametrize(("mode", "sign"), [("min", 1), ("max", -1)])
def test_early_stop_by_an_evaluated_metric(tmp_path, mode, sign):
    scores = iter([3.0, 2.0, 2.5, 2.1, 0.0])
    callbacks = [Evaluate(lambda state: {"score": sign * next(scores)}, every=2)]
    run = train(tmp_path, [*callbacks, StopEarly("eval/score", mode=mode, patience=1)], [1.0] * 20)
    assert run.step == 8
    assert run.stop_reason == f"eval/score has not improved 2 times; its best is {sign * 2}"


def test_early_stop_by_a_metric_that_never_comes(tmp_path):
    with pytest.raises(MetricError, match="expected: one of loss\n  got: lossy"):
        train(tmp_path, [StopEarly("lossy")], [1.0, 2.0])
    with pytest.raises(ArgumentError, match="got: 'low'"):
        StopEarly("loss", mode="low")


def test_throughput_counts_from_the_second_step(tmp_path):
    seen = []

    class Witness(Callback):
        def on_step(self, run, state, metrics):
            seen.append(sorted(metrics))

    train(tmp_path, [Throughput(every=3, batch=8), Witness()], [1.0] * 4)
    rates = ["examples_per_second", "loss", "steps_per_second"]
    assert seen == [["loss"], ["loss"], rates, rates]


def test_evaluations_are_logged_between_the_usual_entries(tmp_path):
    callbacks = [Evaluate(lambda state: {"score": state}, every=2), Log("csv", every=3), Log("jsonl", every=3)]
    train(tmp_path, callbacks, [1.0] * 4)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    shown = [(line["step"], line.get("loss"), line.get("eval/score")) for line in lines]
    assert shown == [(2, None, 2.0), (3, 1.0, None), (4, 1.0, 4.0)]
    with (tmp_path / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["step"], row["loss"], row["eval/score"]) for row in rows] == [
        ("2", "", "2.0"), ("3", "1.0", ""), ("4", "1.0", "4.0"),
    ]  # fmt: skip


def test_description_of_a_run(tmp_path):
    confusion = Confusion.empty(2).update(labels=jnp.array([0, 1]), predictions=jnp.array([0, 0]))
    state = StepState.create(params={"w": jnp.ones((2, 3))}, tx=optax.sgd(0.1))
    describe = Describe({"rate": 0.1, "path": tmp_path, "sizes": {("a", 1): 2}}, classes=["cat", "dog"])
    evaluate = Evaluate(lambda state: {"confusion": confusion}, every=1)
    with Run(tmp_path, total_steps=3, callbacks=[evaluate, describe, Log("jsonl", every=1)]) as run:
        run.record(state, {"loss": 1.0})
        assert json.loads((tmp_path / "run.json").read_text())["outcome"] == "running"
        run.stop("enough")
        run.stop("too late")
    about = json.loads((tmp_path / "run.json").read_text())
    assert about["outcome"] == "stopped: enough"
    assert about["config"]["rate"] == 0.1
    assert about["config"]["sizes"] == {"('a', 1)": 2}
    assert about["parameters"] == [{"path": "w", "shape": [2, 3], "dtype": "float32"}]
    assert about["confusion"]["eval/confusion"] == {"step": 1, "counts": [[1, 0], [1, 0]], "classes": ["cat", "dog"]}
    assert "jax" in about["environment"]["packages"]
    assert json.loads((tmp_path / "metrics.jsonl").read_text())["eval/confusion"] == 0.5


def test_description_of_a_failure(tmp_path):
    with pytest.raises(ZeroDivisionError), Run(tmp_path, total_steps=1, callbacks=[Describe()]):
        _ = 1 / 0
    assert json.loads((tmp_path / "run.json").read_text())["outcome"] == "ZeroDivisionError: division by zero"


def test_impossible_runs(tmp_path):
    for steps in (-1, 2.0, True):
        with pytest.raises(ArgumentError, match="cannot have that many steps"):
            Run(tmp_path, total_steps=steps)
    manager = Memory()
    train(tmp_path, [Checkpoints(manager, every=1)], [1.0] * 5)
    with pytest.raises(RunError, match="expected: a checkpoint of step 0 to 4\n  got: step 5"):
        train(tmp_path, [Checkpoints(manager, every=1)], [1.0] * 4)


def test_steps_and_resumes_out_of_order(tmp_path):
    manager = Memory()
    train(tmp_path, [Checkpoints(manager, every=1)], [1.0] * 3)
    with Run(tmp_path, total_steps=2, callbacks=[Checkpoints(manager, every=1)]) as run:
        with pytest.raises(RunError, match="got: checkpoints up to step 3"):
            run.record(0.0, {})
        run = Run(tmp_path, total_steps=1)
        run.record(0.0, {})
        with pytest.raises(RunError, match=r"expected: 1 calls of run\.record"):
            run.record(0.0, {})
        with pytest.raises(RunError, match="cannot resume at step 1"):
            run.resume(0.0)


PARAMS = {"w": np.ones(2)}


@pytest.mark.parametrize(
    ("state", "told"),
    [
        (PARAMS, True),
        ([PARAMS, 3], True),
        ((PARAMS, optax.adam(0.1).init(PARAMS)), False),
        ((PARAMS, optax.sgd(0.1).init(PARAMS)), False),
        (StepState.create(params=PARAMS, tx=optax.adam(0.1)), False),
        ({"params": PARAMS, "opt_state": [np.ones(2)]}, False),
        ({"seen": np.arange(3)}, False),
    ],
)
def test_a_state_without_an_optimizer_is_reported_once(tmp_path, caplog, state, told):
    manager = Memory()

    def record_twice(total_steps):
        with Run(tmp_path, total_steps=total_steps, callbacks=[Checkpoints(manager, every=1)]) as run:
            run.resume(state)
            for _ in run.steps(lambda step: range(step, 9)):
                run.record(state, {})

    record_twice(2)
    assert caplog.text.count("nothing of an optimizer: a resumed run begins without its moments") == told
    record_twice(4)
    assert caplog.text.count("nothing of an optimizer") == 2 * told
