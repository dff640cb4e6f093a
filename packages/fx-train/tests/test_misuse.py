"""Mistakes that are easily made, and what is said about them."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from fx_train import Checkpoints, Evaluate, Run, StepState, Throughput, make_train_step
from fx_train.data import Batches
from fx_train.distributed import make_mesh, shardings
from fx_train.errors import (
    ArgumentError,
    ArgumentTypeError,
    BatchError,
    DonatedStateError,
    MetricError,
    ShardingRuleError,
)

BATCH = np.ones((4, 2), np.float32)
MESH = jax.sharding.AbstractMesh((4, 2), ("data", "model"))
TREE = {"w": np.zeros((4, 4))}


def state(**options):
    return StepState.create(params={"w": jnp.zeros(2)}, tx=optax.sgd(0.1), **options)


def loss_fn(params, batch):
    return jnp.mean((batch @ params["w"] - 1) ** 2)


def test_a_donated_state_is_not_used_again():
    train_step, first = make_train_step(loss_fn), state()
    second, _ = train_step(first, BATCH)
    with pytest.raises(DonatedStateError, match=r"expected: the state that the last step gave\n(.|\n)*donate=False"):
        train_step(first, BATCH)
    with pytest.raises(DonatedStateError, match=r"where: .step"):
        make_train_step(loss_fn)(first, BATCH)
    assert int(train_step(second, BATCH)[0].step) == 2


@pytest.mark.parametrize("compile", [False, True])
def test_a_step_wants_a_state_and_then_a_batch(compile):
    with pytest.raises(ArgumentTypeError, match="got: a ndarray as state"):
        make_train_step(loss_fn, compile=compile)(BATCH, state())


def unnamed(directory):
    with Run(directory, total_steps=1, callbacks=[Evaluate(lambda state: 0.5, every=1)]) as run:
        run.record(None, {})


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (lambda _: make_train_step(lambda params, batch: None)(state(), BATCH), ArgumentTypeError, "got: NoneType"),
        (lambda _: make_train_step(loss_fn, clip=True), ArgumentError, "this clip"),
        (lambda _: state(ema=0.99), ArgumentError, "make_train_step has the decay"),
        (lambda _: Evaluate({"loss": 1.0}, every=1), ArgumentError, "expected: a function of the state"),
        (unnamed, MetricError, "got: float"),
        (lambda _: Throughput(every=1, batch="64"), ArgumentError, "got: '64'"),
        (lambda _: Checkpoints("checkpoints", every=1), ArgumentError, r"such as CheckpointManager\("),
        (lambda _: Checkpoints(Batches, every=1), ArgumentError, "this manager"),
        (lambda _: make_mesh({"data": 8}), ShardingRuleError, "a text like 'data:4, model:2'"),
        (lambda _: Batches(np.ones(8), 4, process=(3, 2)), BatchError, "an index from 0 to 1"),
        (lambda _: Batches(np.ones(8), 4, process=(0, 0)), BatchError, "at least one part"),
        (lambda _: shardings(TREE, MESH, {"w": ("data", None)}), ShardingRuleError, "such as .*kernel"),
        (lambda _: shardings(TREE, MESH, [("(w", ("data", None))]), ShardingRuleError, "unterminated"),
        (lambda _: shardings(TREE, MESH, [("w", None)]), ShardingRuleError, "a layout of type NoneType"),
    ],
)
def test_what_makes_no_sense_is_refused(make, error, text, tmp_path):
    with pytest.raises(error, match=text):
        make(tmp_path)


def test_a_rule_that_lays_nothing_out_is_mentioned(caplog):
    layout = shardings(TREE, MESH, [("kernel", ("data", None)), ("w", ("model", None)), ("^w$", "data")])
    assert tuple(layout["w"].spec) == ("model", None)
    assert [record.message for record in caplog.records] == [
        "the rule for 'kernel' is found in no path of the tree, so it lays nothing out"
    ]
