"""A batch in parts is the batch, to rounding, and to the bit where that is asked for."""

import functools
import itertools
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from fx_train import Accuracy, Mean
from fx_train.errors import ArgumentError, StateMismatchError
from fx_train.step import StepState, make_train_step
from fx_train.step.accumulate import groups, in_parts

SIZE, CLASSES = 24, 3
ADAM, SGD = optax.adam(0.01), optax.sgd(1.0)


def make_net(seed, widths, dtype):
    """Parameters of a network, and 24 examples, all random."""
    rng = np.random.default_rng(seed)
    sizes = [4, *widths, CLASSES]
    layers = [
        {"w": jnp.asarray(rng.normal(size=(n, m)) * 10.0 ** rng.integers(-2, 2), dtype), "b": jnp.zeros(m, dtype)}
        for n, m in itertools.pairwise(sizes)
    ]
    batch = {
        "x": jnp.asarray(rng.normal(size=(SIZE, 4)) * 10.0 ** rng.integers(-3, 3, (SIZE, 1)), dtype),
        "label": jnp.asarray(rng.integers(0, CLASSES, SIZE), jnp.int32),
        "mask": jnp.asarray([1, 0, 0, 0] + [1] * 20, dtype),
    }
    return layers, batch


def each_loss(layers, batch):
    x = batch["x"]
    for layer in layers[:-1]:
        x = jnp.tanh(x @ layer["w"] + layer["b"][None])
    logits = x @ layers[-1]["w"] + layers[-1]["b"][None]
    losses = -jnp.take_along_axis(jax.nn.log_softmax(logits), batch["label"][:, None], 1)[:, 0]
    return losses, logits.argmax(-1)


def mean_loss(layers, batch):
    losses, predicted = each_loss(layers, batch)
    seen = Accuracy.empty().update(labels=batch["label"], predictions=predicted)
    return losses.mean(), {"largest": jnp.mean(losses**2), "accuracy": seen, "loss_mean": Mean.empty().update(losses)}


def masked_loss(layers, batch):
    losses, _ = each_loss(layers, batch)
    return jnp.sum(losses * batch["mask"]) / jnp.sum(batch["mask"])


def noisy_loss(layers, batch, key):
    kept = jax.random.bernoulli(key, 0.7, batch["x"].shape)
    return mean_loss(layers, {**batch, "x": batch["x"] * kept})


def after_two_steps(loss, layers, batch, **options):
    copies = jax.tree.map(jnp.copy, layers)
    state = StepState.create(params=copies, tx=ADAM, key=jax.random.key(5), ema=True)
    train_step = make_train_step(loss, clip=1.0, ema=0.9, **options)
    state, first = train_step(state, batch)
    state, second = train_step(state, batch)
    return state.replace(key=None), first, second


def assert_equal(one, other):
    assert jax.tree.structure(one) == jax.tree.structure(other)
    jax.tree.map(np.testing.assert_array_equal, one, other)


@pytest.mark.parametrize(
    ("seed", "widths", "loss", "weight"),
    [
        (0, [], mean_loss, "examples"),
        (1, [5], mean_loss, "examples"),
        (2, [9, 2], noisy_loss, "examples"),
        (3, [4], masked_loss, lambda batch: batch["mask"].sum()),
    ],
)
def test_reproducible_parts_have_the_bits_of_the_whole_batch_in_float64(seed, widths, loss, weight):
    with jax.enable_x64(True):
        layers, batch = make_net(seed, widths, jnp.float64)
        whole = after_two_steps(loss, layers, batch, weight=weight, reproducible=True)
        assert whole[0].params[0]["w"].dtype == whole[1]["loss"].dtype == jnp.float64
        for accumulate in (2, 3, 4, 24):
            parts = after_two_steps(loss, layers, batch, weight=weight, accumulate=accumulate, reproducible=True)
            assert_equal(parts, whole)
        if loss is noisy_loss:
            return  # without groups, each part draws its own noise
        state, metrics, _ = after_two_steps(loss, layers, batch)
        plain = (state.params, metrics["loss"]), (whole[0].params, whole[1]["loss"])
        jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-8), *plain)


@pytest.mark.parametrize("accumulate", [3, 4])
@pytest.mark.parametrize("weighted", [False, True])
def test_in_float32_parts_differ_from_the_whole_batch_by_rounding(accumulate, weighted):
    layers, batch = make_net(3, [5], jnp.float32)
    loss, options = (
        (masked_loss, {"weight": lambda batch: batch["mask"].sum()})
        if weighted
        else (mean_loss, {"weight": "examples"})
    )

    def gradient(**more):
        state = StepState.create(params=layers, tx=SGD)
        state, metrics = make_train_step(loss, **options, **more)(state, batch)
        values = {name: m.compute() if hasattr(m, "compute") else m for name, m in metrics.items()}
        return jax.tree.map(jnp.subtract, layers, state.params), values

    (whole, metrics), (parts, part_metrics) = gradient(donate=False), gradient(donate=False, accumulate=accumulate)
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5), parts, whole)
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-5), part_metrics, metrics)
    by_hand = jax.grad(lambda p: masked_loss(p, batch) if weighted else mean_loss(p, batch)[0])(layers)
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5), parts, by_hand)


def test_reproducible_steps_have_the_same_bits_in_float32_too():
    layers, batch = make_net(1, [7], jnp.float32)
    options = {"reproducible": True, "weight": "examples"}
    whole = after_two_steps(mean_loss, layers, batch, **options)
    assert_equal(after_two_steps(mean_loss, layers, batch, **options, accumulate=4), whole)


def test_groups_are_as_large_as_they_can_be_up_to_sixteen():
    assert [groups(size) for size in (1, 7, 16, 17, 24, 64, 100)] == [1, 1, 1, 17, 2, 4, 10]


def test_sums_are_balanced_trees():
    """Each level adds two numbers: the result is the one of pairwise addition, not of a running sum."""
    x = np.random.default_rng(0).normal(size=8).astype(np.float32)
    _, total, _ = jax.jit(lambda x: in_parts(lambda c, b: (c, b[0], ()), (), x, 8))(x)
    pairs = x
    while len(pairs) > 1:
        pairs = pairs[0::2] + pairs[1::2]
    assert float(total) == float(pairs[0])


@pytest.mark.parametrize("options", [{"accumulate": 2}, {"reproducible": True}, {"accumulate": 2, "weight": "tokens"}])
def test_parts_need_to_be_told_what_they_count_by(options):
    with pytest.raises(ArgumentError, match=r'"examples", or a function\n  got: .*\n.*batch\["mask"\].sum'):
        make_train_step(mean_loss, **options)


def test_a_weight_is_one_number():
    layers, batch = make_net(3, [], jnp.float32)
    step = make_train_step(masked_loss, accumulate=2, weight=lambda batch: batch["mask"])
    with pytest.raises(ArgumentError, match=r"one number\n  got: shape \(12,\)"):
        step(StepState.create(params=layers, tx=SGD), batch)


@pytest.mark.parametrize("double", [False, True])
@pytest.mark.parametrize("accumulate", [1, 3, 8])
def test_batches_with_more_and_less_padding_have_their_own_mean(double, accumulate):
    """Full, padded at the end, and with parts of padding alone: each batch is judged anew."""

    def gradient(params, batch):
        return jax.value_and_grad(masked_loss)(params, batch)

    with jax.enable_x64(double):
        dtype = jnp.float64 if double else jnp.float32
        layers, batch = make_net(3, [5], dtype)
        weight = None if accumulate == 1 else lambda batch: batch["mask"].sum()
        step = make_train_step(masked_loss, accumulate=accumulate, weight=weight, donate=False)
        for valid in (24, 9, 24, 2):
            part = {**batch, "mask": (jnp.arange(24) < valid).astype(dtype)}
            state, metrics = step(StepState.create(params=layers, tx=SGD), part)
            loss, grads = gradient(layers, part)
            np.testing.assert_allclose(metrics["loss"], loss, rtol=1e-12 if double else 1e-5)
            given = jax.tree.map(jnp.subtract, layers, state.params)
            jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-5), given, grads)


def test_float64_alone_does_not_take_a_batch_apart():
    def spread(params, batch):  # compares the examples with each other
        return jnp.std(batch @ params)

    with jax.enable_x64(True):
        params, batch = jnp.array([0.5, 2.0]), jnp.asarray(np.random.default_rng(0).normal(size=(24, 2)))
        _, metrics = make_train_step(spread, donate=False)(StepState.create(params=params, tx=SGD), batch)
        np.testing.assert_allclose(metrics["loss"], spread(params, batch), rtol=1e-12)


def counting_loss(layers, batch, variables):
    return mean_loss(layers, batch)[0], {}, {"stats": {"count": variables["stats"]["count"] + 1}}


def reading_loss(layers, batch, variables):
    return mean_loss(layers, batch)[0] * variables["fixed"]["factor"], {}, {"stats": variables["stats"]}


def state_with_variables(layers):
    variables = {"stats": {"count": jnp.int32(0)}, "fixed": {"factor": jnp.float32(2)}}
    return StepState.create(params=layers, tx=SGD, variables=variables)


def test_variables_that_change_do_so_in_every_part_and_keep_steps_from_being_reproducible():
    with jax.enable_x64(True):
        layers, batch = make_net(2, [], jnp.float64)
        state, _ = make_train_step(counting_loss, accumulate=4, weight="examples", donate=False)(
            state_with_variables(layers), batch
        )
        assert int(state.variables["stats"]["count"]) == 4
        assert float(state.variables["fixed"]["factor"]) == 2
        with pytest.raises(ArgumentError, match="leaves its variables as they are\n  got: one that changes them"):
            make_train_step(counting_loss, reproducible=True, weight="examples")(state_with_variables(layers), batch)


def test_variables_that_stay_keep_the_bits():
    with jax.enable_x64(True):
        layers, batch = make_net(2, [], jnp.float64)
        options = {"reproducible": True, "weight": "examples", "donate": False}
        steps = [make_train_step(reading_loss, accumulate=k, **options) for k in (1, 3, 12)]
        states = [step(state_with_variables(layers), batch)[0] for step in steps]
        assert_equal(states[1], states[0])
        assert_equal(states[2], states[0])


def test_new_variables_that_do_not_fit():
    layers, batch = make_net(2, [], jnp.float32)

    def loss(layers, batch, variables):
        return mean_loss(layers, batch)[0], {}, {"stats": {"number": jnp.int32(0)}}

    text = "where: ['stats']['count'], ['stats']['number']\n  expected: ['stats']['count'] (), no ['stats']['number']"
    with pytest.raises(StateMismatchError, match=re.escape(text)):
        make_train_step(loss)(state_with_variables(layers), batch)


def test_a_step_inside_another_trace_gives_the_same():
    layers, batch = make_net(2, [], jnp.float32)
    state = StepState.create(params=layers, tx=SGD)
    options = {"accumulate": 2, "weight": "examples"}
    train_step = make_train_step(mean_loss, **options, donate=False)
    inner = jax.jit(train_step)(state, batch)
    assert_equal(inner, jax.jit(make_train_step(mean_loss, **options, compile=False))(state, batch))
    assert_equal(inner, train_step(state, batch))


@pytest.mark.parametrize("accumulate", [2, 4, 8, 16])
def test_accumulation_equals_the_whole_batch_to_the_bit_in_float64_where_sums_are_exact(accumulate):
    """Scaling by powers of two is exact, so parts differ in the order of additions alone.

    With numbers of few bits all sums are exact in the 53 bits of float64, and order cannot matter; in the 24 bits of
    float32 the same numbers are rounded.
    """
    with jax.enable_x64(True):
        rng = np.random.default_rng(0)
        x, y = rng.integers(-2000, 2000, (16, 3)) / 8, rng.integers(-2000, 2000, 16) / 8
        params = {"w": jnp.array([0.375, -1.25, 2.0])}

        def loss(params, batch):
            return jnp.mean((batch[0] @ params["w"] - batch[1]) ** 2)

        def grads(**options):
            state = StepState.create(params=params, tx=SGD)
            new, metrics = make_train_step(loss, donate=False, **options)(state, (x, y))
            return new.params["w"], metrics["loss"]

        one, other = grads(accumulate=accumulate, weight="examples"), grads()
        assert one[0].dtype == jnp.float64
        assert_equal(one, other)


def test_a_batch_in_one_piece_may_be_any_tree():
    """A graph has nodes and edges, whose numbers differ."""

    def loss_fn(params, graph):
        messages = graph["nodes"][graph["senders"]] @ params["w"]
        return jnp.mean(jax.ops.segment_sum(messages, graph["receivers"], 5) ** 2) * graph["scale"]

    graph = {"nodes": jnp.ones((5, 3)), "senders": jnp.arange(4), "receivers": jnp.arange(1, 5), "scale": 2.0}
    state = StepState.create(params={"w": jnp.ones((3, 1))}, tx=optax.sgd(0.1))
    _, metrics = make_train_step(loss_fn)(state, graph)
    np.testing.assert_allclose(metrics["loss"], 2 * 9 * 4 / 5, rtol=1e-6)
    state = StepState.create(params={"w": jnp.ones(2)}, tx=optax.sgd(0.1))
    assert make_train_step(lambda params, batch: jnp.sum(params["w"] ** 2))(state, None)[1]["loss"] == 2


@pytest.mark.parametrize("reproducible", [False, True])
def test_scalars_of_a_batch_go_to_all_parts(reproducible):
    def loss_fn(params, batch):
        noise = jax.random.normal(batch["key"], ())
        return jnp.mean((batch["x"] @ params["w"]) ** 2) * batch["scale"] + noise

    x = jax.random.normal(jax.random.key(0), (8, 3))
    batch = {"x": x, "scale": 0.5, "key": jax.random.key(1)}
    found = []
    for accumulate in (1, 4):
        step = make_train_step(loss_fn, accumulate=accumulate, weight="examples", reproducible=reproducible)
        state, metrics = step(StepState.create(params={"w": jnp.ones(3)}, tx=optax.sgd(0.1)), batch)
        found.append((metrics["loss"], state.params["w"]))
    np.testing.assert_allclose(found[0][0], found[1][0], rtol=1e-5)
    np.testing.assert_allclose(found[0][1], found[1][1], rtol=1e-5)
