"""Recurrent cells, RNN and Bidirectional against Flax: same parameters to the bit, same outputs."""

import itertools

import flax.linen as flax_nn
import fx_linen as fx_nn
import fx_nnx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx as flax_nnx

BF16, F16 = jnp.bfloat16, jnp.float16
KEY, CARRY_KEY = jax.random.key(42), jax.random.key(7)
lecun, normal = jax.nn.initializers.lecun_normal(), jax.nn.initializers.normal(1.0)
VECTOR = ["SimpleCell", "LSTMCell", "OptimizedLSTMCell", "GRUCell", "MGUCell"]
LENGTHS = jnp.array([3, 5, 1])


def draw(shape, seed=0, dtype=np.float32):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), dtype)


def same_bits(got, expected):
    assert jax.tree.structure(got) == jax.tree.structure(expected)
    for (path, a), b in zip(jax.tree_util.tree_leaves_with_path(got), jax.tree.leaves(expected)):
        assert a.dtype == b.dtype, path
        np.testing.assert_array_equal(np.asarray(a, np.float32), np.asarray(b, np.float32), err_msg=str(path))


def close(got, expected):
    assert jax.tree.structure(got) == jax.tree.structure(expected)
    for (path, a), b in zip(jax.tree_util.tree_leaves_with_path(got), jax.tree.leaves(expected)):
        assert a.dtype == b.dtype, path
        assert a.shape == b.shape, path
        eps = jnp.finfo(a.dtype).eps
        rtol = 1e-6 if eps < 1e-6 else 2 * float(eps)
        scale = float(jnp.abs(b).max())
        np.testing.assert_allclose(
            np.asarray(a, np.float64), np.asarray(b, np.float64), rtol=rtol, atol=rtol * scale, err_msg=str(path)
        )


def cell_case(name, *args, shape=(2, 3), x_dtype=np.float32, **options):
    text = ",".join(f"{k}={getattr(v, '__name__', v)}" for k, v in options.items())
    return pytest.param(name, args, options, shape, x_dtype, id=f"{name}({text})-{shape}-{np.dtype(x_dtype).name}")


LOW = {"recurrent_kernel_init": lecun}  # Flax cannot draw orthogonal matrices in low precision
OPTIONS = [
    {},
    {"dtype": BF16},
    {"param_dtype": BF16, **LOW},
    {"param_dtype": F16, "dtype": BF16, **LOW},
    {"dtype": jnp.float32},
    {"activation_fn": jax.nn.relu},
    {"kernel_init": normal, "recurrent_kernel_init": normal},
    {"carry_init": normal},
]
BIAS = [{"bias_init": normal}]
CELLS = [
    *[cell_case(name, 4, **o) for name in VECTOR for o in OPTIONS],
    *[cell_case(name, 4, gate_fn=jax.nn.hard_sigmoid) for name in VECTOR if name != "SimpleCell"],
    *[cell_case(name, 4, bias_init=normal) for name in VECTOR if name != "MGUCell"],
    *[cell_case(name, 4, shape=shape) for name in VECTOR for shape in [(3,), (2, 5, 3)]],
    *[cell_case(name, 4, x_dtype=BF16) for name in VECTOR],
    *[cell_case(name, 4, x_dtype=BF16, param_dtype=BF16, **LOW) for name in VECTOR],
    cell_case("SimpleCell", 4, residual=True, bias_init=normal),
    cell_case("SimpleCell", 4, residual=True, dtype=BF16),
    cell_case("MGUCell", 4, reset_gate=False),
    cell_case("MGUCell", 4, reset_gate=False, activation_bias_init=normal, forget_bias_init=normal),
    cell_case("MGUCell", 4, activation_bias_init=normal, forget_bias_init=normal),
    *[
        cell_case("ConvLSTMCell", 4, k, shape=s)
        for k, s in [((3,), (2, 6, 3)), ((3, 2), (5, 4, 3)), ((3, 3), (2, 5, 4, 3))]
    ],
    cell_case("ConvLSTMCell", 4, (3, 3), shape=(2, 2, 5, 4, 3)),
    cell_case("ConvLSTMCell", 4, (2, 2, 2), shape=(1, 3, 4, 3, 2)),
    cell_case("ConvLSTMCell", 4, (3,), shape=(2, 6, 3), use_bias=False, carry_init=normal),
    cell_case("ConvLSTMCell", 4, (3,), shape=(2, 6, 3), padding="CIRCULAR", strides=(1,)),
    cell_case("ConvLSTMCell", 4, (3,), shape=(2, 6, 3), padding=((1, 1),)),
    cell_case("ConvLSTMCell", 4, (3,), shape=(2, 6, 3), dtype=BF16),
    cell_case("ConvLSTMCell", 4, (3,), shape=(2, 6, 3), param_dtype=BF16),
]


@pytest.mark.parametrize(("name", "args", "options", "shape", "x_dtype"), CELLS)
def test_cells(name, args, options, shape, x_dtype):
    ours, theirs = getattr(fx_nn, name)(*args, **options), getattr(flax_nn, name)(*args, **options)
    assert ours.num_feature_axes == theirs.num_feature_axes
    carry, expected_carry = ours.initialize_carry(CARRY_KEY, shape), theirs.initialize_carry(CARRY_KEY, shape)
    same_bits(carry, expected_carry)
    x = draw(shape, 1, x_dtype)
    variables, reference = ours.init(KEY, carry, x), theirs.init(KEY, carry, x)
    same_bits(variables, reference)
    carry = jax.tree.map(lambda c: draw(c.shape, 2, c.dtype), carry)
    close(ours.apply(variables, carry, x), theirs.apply(reference, carry, x))


def both(make, x, **call):
    """The parameters and results of a network made from either package."""
    ours, theirs = make(fx_nn), make(flax_nn)
    variables, reference = ours.init(KEY, x, **call), theirs.init(KEY, x, **call)
    same_bits(variables, reference)
    got, expected = ours.apply(variables, x, **call), theirs.apply(reference, x, **call)
    close(got, expected)
    return variables, reference


@pytest.mark.parametrize("name", VECTOR)
@pytest.mark.parametrize("time_major", [False, True])
@pytest.mark.parametrize(
    ("lengths", "reverse", "keep_order"),
    [(n, r, k) for n, r, k in itertools.product([None, LENGTHS], [False, True], [False, True]) if r or not k],
)
def test_rnn(name, time_major, lengths, reverse, keep_order):
    x = draw((5, 3, 2) if time_major else (3, 5, 2))
    options = {"time_major": time_major, "return_carry": True, "reverse": reverse, "keep_order": keep_order}
    both(lambda nn: nn.RNN(getattr(nn, name)(4, carry_init=normal), **options), x, seq_lengths=lengths)


@pytest.mark.parametrize("options", [{"return_carry": True}, {"time_major": True}, {"reverse": True}, {"unroll": 2}])
def test_options_in_constructor_and_call(options):
    x = draw((4, 5, 2))
    both(lambda nn: nn.RNN(nn.GRUCell(3), **options), x)
    if "unroll" not in options:
        both(lambda nn: nn.RNN(nn.GRUCell(3)), x, **options)
        both(lambda nn: nn.RNN(nn.GRUCell(3), **options), x, **dict.fromkeys(options, False))


@pytest.mark.parametrize("shape", [(5, 2), (3, 5, 2), (2, 3, 5, 2), (2, 1, 3, 5, 2)])
@pytest.mark.parametrize("reverse", [False, True])
def test_batches_of_any_rank(shape, reverse):
    x = draw(shape)
    both(lambda nn: nn.RNN(nn.LSTMCell(4, carry_init=normal), reverse=reverse), x, return_carry=True)
    both(lambda nn: nn.RNN(nn.LSTMCell(4), reverse=reverse), x, time_major=True, return_carry=True)


def test_lengths_of_batches_of_any_rank():
    # Flax has carries of sequences with lengths for one batch axis only.
    lengths = jnp.array([[1, 4, 2], [5, 3, 5]])
    call = {"seq_lengths": lengths, "reverse": True, "keep_order": True}
    both(lambda nn: nn.RNN(nn.GRUCell(4)), draw((2, 3, 5, 2)), **call)


@pytest.mark.parametrize("dtypes", [{"dtype": BF16}, {"param_dtype": BF16, "dtype": jnp.float32, **LOW}])
@pytest.mark.parametrize("name", ["LSTMCell", "OptimizedLSTMCell", "GRUCell", "MGUCell"])
def test_rnn_dtypes(name, dtypes):
    carry_init = lambda key, shape, dtype: normal(key, shape, jnp.float32)  # noqa: E731
    both(lambda nn: nn.RNN(getattr(nn, name)(4, carry_init=carry_init, **dtypes)), draw((2, 5, 3)))


@pytest.mark.parametrize("lengths", [None, LENGTHS])
def test_conv_lstm_over_time(lengths):
    call = {"seq_lengths": lengths, "return_carry": True, "reverse": True}
    both(lambda nn: nn.RNN(nn.ConvLSTMCell(2, (3, 3))), draw((3, 5, 4, 4, 2)), **call)


def test_given_carry_and_key():
    x, carry = draw((3, 5, 2)), (draw((3, 4), 1), draw((3, 4), 2))
    both(lambda nn: nn.RNN(nn.LSTMCell(4)), x, initial_carry=carry, return_carry=True)
    both(lambda nn: nn.RNN(nn.LSTMCell(4, carry_init=normal)), x, init_key=CARRY_KEY)


@pytest.mark.parametrize(
    "call", [{}, {"return_carry": True}, {"time_major": True}, {"reverse": True, "keep_order": True}]
)
@pytest.mark.parametrize("lengths", [None, LENGTHS])
def test_bidirectional(call, lengths):
    if "time_major" in call:
        lengths = None if lengths is None else jnp.array([1, 3, 2, 3, 1])

    def make(nn):
        return nn.Bidirectional(nn.RNN(nn.LSTMCell(4, carry_init=normal)), nn.RNN(nn.GRUCell(3, carry_init=normal)))

    both(make, draw((3, 5, 2)), seq_lengths=lengths, **call)
    both(make, draw((3, 5, 2)), seq_lengths=lengths, init_key=CARRY_KEY, **call)


def test_bidirectional_merges():
    def make(nn):
        return nn.Bidirectional(nn.RNN(nn.MGUCell(4)), nn.RNN(nn.SimpleCell(4)), lambda a, b: a * b, return_carry=True)

    carries = draw((3, 4), 5), draw((3, 4), 6)
    both(make, draw((3, 5, 2)), initial_carry=carries)


def test_shared_direction():
    def make(nn):
        rnn = nn.RNN(nn.GRUCell(4))
        return nn.Bidirectional(rnn, rnn)

    both(make, draw((3, 5, 2)))


def stack(nn):
    class Stack(nn.Module):
        def setup(self):
            self.cell = nn.LSTMCell(4)
            self.first = nn.RNN(self.cell)
            self.both = nn.Bidirectional(nn.RNN(nn.GRUCell(3)), nn.RNN(nn.GRUCell(3)))

        @nn.compact
        def __call__(self, x):
            x = self.both(self.first(x))
            x = nn.RNN(nn.OptimizedLSTMCell(5), name="top")(x)
            x = nn.RNN(nn.MGUCell(5, parent=None))(x)
            return nn.Dense(2)(x)

    return Stack()


def test_networks_of_them():
    both(stack, draw((3, 5, 2)))


def manual(nn):
    class Manual(nn.Module):
        @nn.compact
        def __call__(self, xs):
            cell = nn.LSTMCell(4)
            carry = cell.initialize_carry(jax.random.key(1), xs.shape[1:])
            outputs = []
            for x in xs:
                carry, y = cell(carry, x)
                outputs.append(y)
            return jnp.stack(outputs)

    return Manual()


def test_a_loop_by_hand():
    both(manual, draw((5, 3, 2)))


def noisy(nn):
    class Noisy(nn.RNNCellBase):
        @nn.compact
        def __call__(self, carry, x):
            y = nn.Dropout(0.5, deterministic=False)(nn.Dense(3, bias_init=normal)(x) + carry)
            count = self.variable("count", "n", lambda: jnp.zeros(()))
            count.value = count.value + 1.0
            self.sow("intermediates", "seen", y)
            return y, y

        @nn.nowrap
        def initialize_carry(self, rng, input_shape):
            return jnp.zeros((*input_shape[:-1], 3))

        @property
        def num_feature_axes(self):
            return 1

    return Noisy()


@pytest.mark.parametrize("split", [False, True])
@pytest.mark.parametrize("reverse", [False, True])
def test_random_and_stateful_cells(split, reverse):
    x, rngs = draw((3, 5, 2)), {"params": KEY, "dropout": CARRY_KEY}
    options = {
        "variable_axes": {"intermediates": 0},
        "variable_carry": "count",
        "split_rngs": {"params": False, "dropout": split},
        "reverse": reverse,
        "keep_order": True,
    }
    ours, theirs = fx_nn.RNN(noisy(fx_nn), **options), flax_nn.RNN(noisy(flax_nn), **options)
    start = {"count": {"cell": {"n": jnp.zeros(())}}}
    params = theirs.clone(variable_carry=False, variable_axes={"intermediates": 0, "count": 0}).init(rngs, x)["params"]
    variables = {"params": params, **start}
    call = {"rngs": {"dropout": CARRY_KEY}, "mutable": ["count", "intermediates"]}
    close(ours.apply(variables, x, **call), theirs.apply(variables, x, **call))


@pytest.mark.parametrize("name", VECTOR)
def test_gradients(name):
    x = draw((3, 5, 2))

    def gradient(nn, variables):
        model = nn.RNN(getattr(nn, name)(4), return_carry=True)

        def loss(variables, x):
            carry, y = model.apply(variables, x, seq_lengths=LENGTHS)
            return jnp.sum(y**2) + sum(jnp.sum(c) for c in jax.tree.leaves(carry))

        return jax.grad(loss, argnums=(0, 1))(variables, x)

    variables = flax_nn.RNN(getattr(flax_nn, name)(4)).init(KEY, x)
    got, expected = gradient(fx_nn, variables), gradient(flax_nn, variables)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
@pytest.mark.parametrize("cell", ["LSTMCell", "OptimizedLSTMCell", "GRUCell", "SimpleCell"])
def test_nnx_cells_start_from_the_same_kernels_with_64_bits_enabled(cell, dtype):
    with jax.enable_x64(True):
        drawn = [getattr(nnx, cell)(3, 4, param_dtype=dtype, rngs=nnx.Rngs(0)) for nnx in (fx_nnx, flax_nnx)]
        same_bits(*(nnx.to_pure_dict(nnx.state(c, nnx.Param)) for nnx, c in zip((fx_nnx, flax_nnx), drawn)))
