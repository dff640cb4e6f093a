"""Recurrent cells and networks: parameters, options, lengths, misuse."""

import logging

import fx_linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fx_core.errors import NameInUseError, ScopeParamShapeError, ShapeMismatchError, UnsupportedOperationError
from fx_linen import recurrent
from fx_transforms.errors import CarryChangedError

KEY = jax.random.key(0)
CELLS = [nn.SimpleCell, nn.LSTMCell, nn.OptimizedLSTMCell, nn.GRUCell, nn.MGUCell]
normal = nn.initializers.normal(1.0)


def draw(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def shapes(variables):
    return jax.tree.map(jnp.shape, variables["params"])


@pytest.mark.parametrize("kind", CELLS)
def test_rnn_is_the_cell_step_by_step(kind):
    x, cell = draw(2, 4, 3), kind(5)
    rnn = nn.RNN(kind(5), return_carry=True)
    (carry, y), variables = rnn.init_with_output(KEY, x)
    inner = {"params": variables["params"]["cell"]}
    state = cell.initialize_carry(KEY, (2, 3))
    for t in range(4):
        state, out = cell.apply(inner, state, x[:, t])
        np.testing.assert_allclose(y[:, t], out, rtol=1e-5, atol=1e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), carry, state)


@pytest.mark.parametrize("kind", CELLS)
def test_options_of_cells(kind):
    x = draw(2, 3)
    cell = kind(4, param_dtype=jnp.bfloat16, carry_init=normal)
    carry = cell.initialize_carry(KEY, x.shape)
    (_, y), variables = cell.init_with_output(KEY, carry, x.astype(jnp.bfloat16))
    assert {leaf.dtype for leaf in jax.tree.leaves((carry, variables, y))} == {jnp.dtype(jnp.bfloat16)}
    assert cell.num_feature_axes == 1
    assert all(c.shape == (2, 4) and c.any() for c in jax.tree.leaves(carry))


def test_optimized_lstm_takes_the_parameters_of_the_other():
    x, plain, fast = draw(2, 4, 3), nn.RNN(nn.LSTMCell(5)), nn.RNN(nn.OptimizedLSTMCell(5))
    y, variables = plain.init_with_output(KEY, x)
    assert jax.tree.structure(variables) == jax.tree.structure(fast.init(KEY, x))
    np.testing.assert_allclose(fast.apply(variables, x), y, rtol=1e-5, atol=1e-6)


def test_lengths_decide_the_carry():
    x, lengths = draw(3, 4, 2), jnp.array([4, 2, 0])
    rnn = nn.RNN(nn.LSTMCell(5, carry_init=normal), return_carry=True)
    ((c, h), y), variables = rnn.init_with_output(KEY, x, seq_lengths=lengths)
    np.testing.assert_array_equal(h[0], y[0, 3])
    np.testing.assert_array_equal(h[1], y[1, 1])
    start = nn.LSTMCell(5, carry_init=normal).initialize_carry(jax.random.key(0), (3, 2))
    np.testing.assert_array_equal(c[2], start[0][2])  # no step: the first carry
    (cut, _), _ = rnn.apply(variables, x[:, :2])[0], None
    np.testing.assert_allclose(c[1], cut[1], rtol=1e-5, atol=1e-6)


def test_reverse_reads_only_the_sequence():
    x, lengths = draw(2, 4, 2), jnp.array([4, 2])
    rnn = nn.RNN(nn.GRUCell(3))
    variables = rnn.init(KEY, x)
    y = rnn.apply(variables, x, seq_lengths=lengths, reverse=True)
    alone = rnn.apply(variables, x[1, :2], reverse=True)
    np.testing.assert_allclose(y[1, :2], alone, rtol=1e-5, atol=1e-6)
    kept = rnn.apply(variables, x, seq_lengths=lengths, reverse=True, keep_order=True)
    np.testing.assert_array_equal(kept[1, :2], y[1, :2][::-1])


def test_time_major_and_batches_of_two_axes():
    x, lengths = draw(2, 3, 4, 2), jnp.array([[1, 4, 2], [3, 0, 4]])
    rnn = nn.RNN(nn.GRUCell(3), return_carry=True)
    (carry, y), variables = rnn.init_with_output(KEY, x, seq_lengths=lengths)
    assert (carry.shape, y.shape) == ((2, 3, 3), (2, 3, 4, 3))
    major = rnn.apply(variables, jnp.moveaxis(x, 2, 0), seq_lengths=lengths, time_major=True)
    np.testing.assert_allclose(major[0], carry, rtol=1e-6)
    np.testing.assert_allclose(jnp.moveaxis(major[1], 0, 2), y, rtol=1e-6)


def test_bidirectional_reads_both_ways():
    x = draw(2, 4, 3)
    model = nn.Bidirectional(nn.RNN(nn.GRUCell(3)), nn.RNN(nn.LSTMCell(2)), return_carry=True)
    ((forward, backward), y), variables = model.init_with_output(KEY, x)
    assert y.shape == (2, 4, 5)
    np.testing.assert_array_equal(forward, y[:, -1, :3])
    np.testing.assert_array_equal(backward[1], y[:, 0, 3:])
    late = model.apply(variables, x.at[:, 3].add(1.0))[1] - y
    assert not late[:, :3, :3].any()
    assert late[:, 0, 3:].any()
    for ignored in ({"reverse": True}, {"keep_order": False}):
        np.testing.assert_array_equal(model.apply(variables, x, **ignored)[1], y)


def test_one_network_for_both_directions_is_said(caplog):
    rnn = nn.RNN(nn.GRUCell(3))
    with caplog.at_level(logging.WARNING, logger="fx.linen.recurrent"):
        variables = nn.Bidirectional(rnn, rnn).init(KEY, draw(4, 2))
    assert list(variables["params"]) == ["forward_rnn"]
    assert "share their parameters" in caplog.text


class Noisy(nn.RNNCellBase):
    num_feature_axes = 1

    @nn.compact
    def __call__(self, carry, inputs):
        count = self.variable("count", "n", lambda: jnp.zeros(()))
        count.value = count.value + 1
        y = nn.Dropout(0.5, deterministic=False)(jnp.ones((64,)))
        self.sow("intermediates", "kept", y)
        return carry + inputs, y

    @nn.nowrap
    def initialize_carry(self, rng, input_shape):
        return jnp.zeros(input_shape)


@pytest.mark.parametrize("split", [False, True])
def test_state_and_keys_of_cells(split):
    options = {"variable_carry": "count", "variable_axes": {"intermediates": 0}, "split_rngs": {"dropout": split}}
    variables = {"count": {"cell": {"n": jnp.zeros(())}}}
    y, new = nn.RNN(Noisy(), **options).apply(
        variables, draw(3, 2), rngs={"dropout": KEY}, mutable=["count", "intermediates"]
    )
    assert new["count"]["cell"]["n"] == 3
    np.testing.assert_array_equal(new["intermediates"]["cell"]["kept"][0], y)
    assert bool((y[0] == y[1]).all()) is not split


def test_cells_in_networks():
    class Net(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = nn.RNN(nn.GRUCell(3, parent=None), name="low")(x)
            return nn.RNN(nn.remat(nn.LSTMCell)(2, name="cell"))(x)

    variables = Net().init(KEY, draw(2, 4, 3))
    assert sorted(variables["params"]) == ["cell", "low"]
    gradient = jax.grad(lambda v: Net().apply(v, draw(2, 4, 3)).sum())(variables)
    assert all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(gradient))


def test_a_cell_called_twice_shares_its_parameters():
    class Twice(nn.Module):
        @nn.compact
        def __call__(self, x):
            cell = nn.LSTMCell(3)
            carry = cell.initialize_carry(KEY, x.shape)
            return cell(cell(carry, x)[0], x)[1]

    assert sorted(Twice().init(KEY, draw(2, 3))["params"]) == ["LSTMCell_0"]


def test_tabulate_counts_the_gates():
    text = nn.RNN(nn.LSTMCell(4)).tabulate(KEY, jnp.ones((2, 3, 2)), console_kwargs={"width": 200})
    assert "LSTMCell" in text
    assert f"Total Parameters: {4 * (2 * 4 + 4 * 4 + 4)}" in text


def test_names_of_gates_are_taken():
    class Mine(nn.GRUCell):
        @nn.compact
        def __call__(self, carry, inputs):
            nn.Dense(3, name="hr")(inputs)
            return super().__call__(carry, inputs)

    with pytest.raises(NameInUseError, match="hr"):
        Mine(3).init(KEY, jnp.zeros((2, 3)), draw(2, 3))


def test_conv_lstm():
    video = draw(2, 3, 5, 4, 1)
    rnn = nn.RNN(nn.ConvLSTMCell(2, (3, 3), use_bias=False), return_carry=True)
    ((c, _), y), variables = rnn.init_with_output(KEY, video)
    assert shapes(variables)["cell"] == {"ih": {"kernel": (3, 3, 1, 8)}, "hh": {"kernel": (3, 3, 2, 8)}}
    assert (c.shape, y.shape) == ((2, 5, 4, 2), (2, 3, 5, 4, 2))
    assert nn.ConvLSTMCell(2, (3, 3)).num_feature_axes == 3
    with pytest.raises(ShapeMismatchError, match="does not have the pixels"):
        nn.RNN(nn.ConvLSTMCell(2, (3, 3), strides=(2, 2))).init(KEY, video)


def test_wrong_use():
    x = draw(2, 4, 3)
    with pytest.raises(UnsupportedOperationError, match=r"Dense cannot be used(.|\n)*no num_feature_axes"):
        nn.RNN(nn.Dense(3)).init(KEY, x)
    with pytest.raises(UnsupportedOperationError, match="RNNCellBase cannot be used"):
        nn.RNN(nn.RNNCellBase()).init(KEY, x)
    with pytest.raises(UnsupportedOperationError, match="no initialize_carry"):
        nn.RNNCellBase().initialize_carry(KEY, (2, 3))
    with pytest.raises(ShapeMismatchError, match="too few dimensions"):
        nn.RNN(nn.GRUCell(3)).init(KEY, jnp.ones(3))
    with pytest.raises(ShapeMismatchError, match=r"integers of shape \(2,\)"):
        nn.RNN(nn.GRUCell(3)).init(KEY, x, seq_lengths=jnp.array([1, 2, 3]))
    with pytest.raises(UnsupportedOperationError, match=r"GRUCell cannot be used(.|\n)*the class(.|\n)*GRUCell\(...\)"):
        nn.RNN(nn.GRUCell).init(KEY, x)
    with pytest.raises(CarryChangedError, match="bfloat16"):
        nn.RNN(nn.SimpleCell(3, dtype=jnp.bfloat16)).init(KEY, x)


@pytest.mark.parametrize("cell", [nn.LSTMCell, nn.OptimizedLSTMCell, nn.GRUCell, nn.MGUCell, nn.SimpleCell])
def test_width_of_the_first_carry(cell):
    """A cell that is initialized with a carry has its width, whatever its features say; then it keeps it."""
    x, pair = draw(2, 4, 3), cell in (nn.LSTMCell, nn.OptimizedLSTMCell)

    def carry(width):
        return (jnp.zeros((2, width)),) * 2 if pair else jnp.zeros((2, width))

    (new, y), variables = cell(5).init_with_output(KEY, carry(4), x[:, 0])
    (_, expected), same = cell(4).init_with_output(KEY, carry(4), x[:, 0])
    assert y.shape == (2, 4)
    assert (y == expected).all()
    assert jax.tree.map(jnp.shape, variables) == jax.tree.map(jnp.shape, same)
    assert jax.tree.map(jnp.shape, new) == jax.tree.map(jnp.shape, carry(4))
    assert nn.RNN(cell(5)).init_with_output(KEY, x, initial_carry=carry(4))[0].shape == (2, 4, 4)
    for width in (5, 6):
        with pytest.raises((ShapeMismatchError, ScopeParamShapeError)):
            cell(5).apply(variables, carry(width), x[:, 0])
    with pytest.raises(ShapeMismatchError, match="4 features"):
        cell(5).apply(variables, carry(6), x[:, 0])


def test_carries_of_two_parts():
    x, zeros = draw(3, 4, 2), jnp.zeros((3, 6))
    for cell in (nn.LSTMCell(6), nn.OptimizedLSTMCell(6)):
        for wrong in (zeros, (zeros,), (zeros,) * 3):
            with pytest.raises(ShapeMismatchError, match="carry of an LSTM has two parts"):
                nn.RNN(cell).init(KEY, x, initial_carry=wrong)
        with pytest.raises(ShapeMismatchError, match="carry of an LSTM"):
            nn.RNN(cell).init(KEY, x, initial_carry=(zeros[:, 1:], zeros))
    model = nn.Bidirectional(nn.RNN(nn.GRUCell(6)), nn.RNN(nn.GRUCell(6)))
    with pytest.raises(ShapeMismatchError, match=r"(?s)bidirectional network has two parts.*a tuple of 1"):
        model.init(KEY, x, initial_carry=(zeros,))
    with pytest.raises(ShapeMismatchError, match="convolutional LSTM has two parts"):
        nn.ConvLSTMCell(2, (3,)).init(KEY, jnp.zeros((3, 4, 2)), draw(3, 4, 1))


def test_flip_sequences():
    x, lengths = jnp.arange(1, 9).reshape(2, 4, 1), jnp.array([4, 2])
    flipped = recurrent.flip_sequences(x, lengths, 1)
    assert flipped[0, :, 0].tolist() == [4, 3, 2, 1]
    assert flipped[1, :2, 0].tolist() == [6, 5]
    other = recurrent.flip_sequences(x.swapaxes(0, 1), lengths, num_batch_dims=1, time_major=True)
    assert (other.swapaxes(0, 1)[:, :2] == flipped[:, :2]).all()
    assert recurrent.flip_sequences(x, None, 1)[1, :, 0].tolist() == [8, 7, 6, 5]
    with pytest.raises(ShapeMismatchError):
        recurrent.flip_sequences(x, jnp.array([1, 2, 3]), 1)
