import logging

import fx_nnx as nnx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fx_core.errors import ShapeMismatchError, UnsupportedOperationError
from fx_nnx.errors import NnxError
from fx_transforms.errors import BroadcastVariableError

X = jnp.sin(jnp.arange(2 * 5 * 3.0)).reshape(2, 5, 3)
CELLS = [nnx.LSTMCell, nnx.OptimizedLSTMCell, nnx.GRUCell, nnx.SimpleCell]


def close(a, b):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=1e-6), a, b)


@pytest.mark.parametrize("kind", CELLS)
def test_a_network_is_its_cell_step_by_step(kind):
    cell = kind(3, 4, rngs=nnx.Rngs(0))
    carry, steps = cell.initialize_carry((2, 3)), []
    for i in range(5):
        carry, y = cell(carry, X[:, i])
        steps.append(y)
    last, outputs = nnx.RNN(cell, return_carry=True, unroll=2)(X)
    close((last, outputs), (carry, jnp.stack(steps, 1)))


@pytest.mark.parametrize("reverse", [False, True])
def test_lengths_are_heeded(reverse):
    rnn = nnx.RNN(nnx.GRUCell(3, 4, rngs=nnx.Rngs(0)), return_carry=True, reverse=reverse, keep_order=True)
    carry, outputs = rnn(X, seq_lengths=jnp.array([5, 2]))
    short_carry, short = rnn(X[1:, :2])
    close((carry[1:], outputs[1:, :2]), (short_carry, short))


def test_no_batch_several_and_time_major():
    rnn = nnx.RNN(nnx.LSTMCell(3, 4, rngs=nnx.Rngs(0)))
    whole = rnn(X)
    close(rnn(X[0]), whole[0])
    close(rnn(X[None]), whole[None])
    close(rnn(X.swapaxes(0, 1), time_major=True), whole.swapaxes(0, 1))


class Noisy(nnx.RNNCellBase):
    """Hands its input on through dropout, and counts its steps."""

    num_feature_axes = 1

    def __init__(self):
        self.dropout = nnx.Dropout(0.5, rngs=nnx.Rngs(dropout=0))
        self.steps = nnx.BatchStat(jnp.zeros((), jnp.int32))

    def initialize_carry(self, input_shape, rngs=None, carry_init=None):
        return jnp.zeros(input_shape)

    def __call__(self, carry, inputs):
        self.steps[...] += 1
        return carry, self.dropout(inputs)


def test_state_goes_from_step_to_step():
    cell = Noisy()
    masks = nnx.RNN(cell)(jnp.ones((1, 20, 3)))[0] > 0
    assert int(cell.steps[...]) == int(cell.dropout.rngs.count[...]) == 20
    assert jnp.any(masks != masks[:1])


@pytest.mark.parametrize("which", [True, "dropout"])
def test_one_mask_for_all_steps(which):
    cell = Noisy()
    rnn = nnx.RNN(cell, broadcast_rngs=which)
    first, second = rnn(jnp.ones((1, 20, 30)))[0], rnn(jnp.ones((1, 20, 30)))[0]
    assert (first == first[:1]).all()
    assert (second == second[:1]).all()
    assert jnp.any(first != second)
    assert int(cell.dropout.rngs.count[...]) == 2


def test_variables_per_step():
    class Scaled(nnx.RNNCellBase):
        num_feature_axes = 1

        def __init__(self):
            self.scale = nnx.Param(jnp.arange(5.0))

        def initialize_carry(self, input_shape, rngs=None, carry_init=None):
            return jnp.zeros(input_shape)

        def __call__(self, carry, inputs):
            return carry, inputs * self.scale

    close(nnx.RNN(Scaled(), state_axes={nnx.Param: 0})(X), X * jnp.arange(5.0)[None, :, None])
    with pytest.raises(BroadcastVariableError, match="steps"):
        nnx.RNN(Noisy(), state_axes={nnx.RngState: nnx.Carry, ...: None})(X)


def test_gradients_and_jit():
    rnn = nnx.RNN(nnx.OptimizedLSTMCell(3, 4, rngs=nnx.Rngs(0)))
    grads = nnx.jit(nnx.grad(lambda rnn, x: (rnn(x) ** 2).sum()))(rnn, X)
    assert jnp.any(grads["cell"]["dense_h"]["kernel"][...] != 0)


def test_carries_are_drawn():
    cell = nnx.LSTMCell(3, 4, carry_init=nnx.initializers.normal(), rngs=nnx.Rngs(0))
    with pytest.raises(NnxError, match="no RNG stream to draw the first carry"):
        nnx.RNN(cell, rngs=False)(X)
    rnn = nnx.RNN(cell, rngs=nnx.Rngs(carry=1), return_carry=True)
    assert jnp.any(rnn(X)[1] != rnn(X)[1])
    close(rnn(X, rngs=nnx.Rngs(2)), rnn(X, rngs=nnx.Rngs(2)))
    close(rnn(X, rngs=nnx.Rngs(2)), rnn(X, rngs=nnx.Rngs(2).carry.fork()))
    c, h = nnx.LSTMCell(3, 4, keep_rngs=True, rngs=nnx.Rngs(0)).initialize_carry((3,), carry_init=nnx.initializers.ones)
    assert c.shape == (4,)
    assert c.sum() == h.sum() == 4
    with pytest.raises(NnxError, match=r"rngs is no RNG stream[\s\S]*got: int"):
        nnx.RNN(cell, rngs=3)


@pytest.mark.parametrize(("cell", "drawn"), [(nnx.LSTMCell, 2), (nnx.GRUCell, 1)])
def test_streams_that_are_given_count_carries_of_zeros(cell, drawn):
    """What is drawn after a carry does not depend on whether that is drawn itself."""
    made = cell(3, 4, rngs=nnx.Rngs(0))
    network, both = nnx.RNN(made), nnx.Bidirectional(nnx.RNN(made), nnx.RNN(made))
    x = jnp.ones((2, 5, 3))
    for use, count in [
        (lambda rngs: made.initialize_carry((2, 3), rngs), drawn),
        (lambda rngs: made.initialize_carry((2, 3), rngs.carry), drawn),
        (lambda rngs: network(x, rngs=rngs), 1),  # a key for a stream of its own
        (lambda rngs: network(x, rngs=rngs, initial_carry=made.initialize_carry((2, 3))), 1),
        (lambda rngs: network(x, rngs=rngs.carry), drawn),
        (lambda rngs: both(x, rngs=rngs), 2 * drawn),
    ]:
        rngs = nnx.Rngs(0, carry=1)
        use(rngs)
        assert int(rngs.carry.count[...]) == count
    network(x), both(x)
    assert (network.rngs.count[...], both.rngs.count[...]) == (0, 0)  # nobody else draws from their own


def test_both_directions(caplog):
    forward, backward = (nnx.RNN(nnx.GRUCell(3, 4, rngs=nnx.Rngs(seed))) for seed in (0, 1))
    both = nnx.Bidirectional(forward, backward)
    lengths = jnp.array([5, 2])
    (first, second), outputs = both(X, seq_lengths=lengths, return_carry=True)
    expected = backward(X, seq_lengths=lengths, return_carry=True, reverse=True, keep_order=True)
    close((second, outputs[..., 4:]), expected)
    close(outputs[..., :4], forward(X))
    close(
        both(X, initial_carry=(first, second), seq_lengths=lengths)[..., 4:][1, 1],
        backward(X[1, :2], initial_carry=second[1], reverse=True, keep_order=True)[1],
    )
    added = nnx.Bidirectional(forward, backward, merge_fn=jnp.add, time_major=True)
    assert added(X.swapaxes(0, 1)).shape == (5, 2, 4)
    with caplog.at_level(logging.WARNING, "fx.nnx.recurrent"):
        nnx.Bidirectional(forward, forward)
    assert "share their parameters" in caplog.text


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: nnx.RNN(nnx.Linear(3, 4, rngs=nnx.Rngs(0)))(X), UnsupportedOperationError, "no num_feature_axes"),
        (lambda: nnx.RNNCellBase().num_feature_axes, UnsupportedOperationError, "no num_feature_axes"),
        (lambda: nnx.RNNCellBase().initialize_carry((3,)), UnsupportedOperationError, "no initialize_carry"),
        (lambda: nnx.RNNCellBase()(0, X), UnsupportedOperationError, "no __call__"),
        (lambda: nnx.RNN(Noisy())(X[0, 0]), ShapeMismatchError, "too few dimensions"),
        (lambda: nnx.RNN(Noisy())(X, seq_lengths=jnp.array([3])), ShapeMismatchError, r"shape \(2,\)"),
    ],
)
def test_bad_calls(call, error, text):
    with pytest.raises(error, match=text):
        call()


@pytest.mark.parametrize("kind", CELLS)
def test_wrong_sizes(kind):
    cell = kind(3, 4, rngs=nnx.Rngs(0))
    with pytest.raises(ShapeMismatchError, match=rf"{kind.__name__}: the input[\s\S]*3 features[\s\S]*\(2, 5\)"):
        cell(cell.initialize_carry((2, 3)), jnp.ones((2, 5)))
    wrong = kind(3, 5, rngs=nnx.Rngs(0)).initialize_carry((2, 3))
    with pytest.raises(ShapeMismatchError, match=r"4 features[\s\S]*got: 5"):
        cell(wrong, X[:, 0])


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_an_lstm_cell_draws_its_recurrent_kernels_in_the_default_float_dtype(dtype):
    with jax.enable_x64(True):
        wide = nnx.LSTMCell(3, 4, param_dtype=jnp.float64, rngs=nnx.Rngs(0))
        narrow = nnx.LSTMCell(3, 4, param_dtype=dtype, rngs=nnx.Rngs(0))
        for gate in ("hi", "hf", "hg", "ho"):
            kernel = getattr(narrow, gate).kernel[...]
            assert kernel.dtype == dtype
            assert (kernel == getattr(wide, gate).kernel[...].astype(dtype)).all()
