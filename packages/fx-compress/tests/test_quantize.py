"""Rules, whole models, and training through rounding."""

import fx_compress
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from fx_compress import QuantizedArray, Rule
from fx_core import struct
from fx_core.meta import Partitioned
from fx_core.ops.linear import dense


def random(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def model():
    return {
        "params": {
            "first": {"kernel": random(8, 16), "bias": jnp.zeros(16)},
            "second": {"kernel": random(16, 4, seed=1), "bias": jnp.zeros(4)},
            "table": {"embedding": random(10, 8, seed=2)},
        },
        "batch_stats": {"mean": random(4, 4)},
    }


def network(variables, x):
    first, second = variables["params"]["first"], variables["params"]["second"]
    return dense(jax.nn.relu(dense(x, first["kernel"], first["bias"])), second["kernel"], second["bias"])


def test_the_first_rule_that_matches_wins_and_none_leaves():
    rules = {"*/first/*": None, "*/kernel": fx_compress.int8(), "*": fx_compress.int4()}
    small = fx_compress.quantize(model(), rules)["params"]
    assert isinstance(small["first"]["kernel"], jax.Array)
    assert (small["second"]["kernel"].format, small["table"]["embedding"].format) == ("int8", "int4")
    assert isinstance(small["second"]["bias"], jax.Array)


def test_one_scheme_is_for_all_weights_and_nothing_else():
    before = model()
    small = fx_compress.quantize(before, fx_compress.int8())
    kinds = jax.tree.map(type, small, is_leaf=lambda x: isinstance(x, QuantizedArray))
    assert kinds["params"]["table"]["embedding"] is kinds["params"]["first"]["kernel"] is QuantizedArray
    assert small["batch_stats"]["mean"] is before["batch_stats"]["mean"]
    # An embedding has a scale per row, a kernel one per output.
    assert small["params"]["table"]["embedding"].scale.shape == (10, 1)
    assert small["params"]["first"]["kernel"].scale.shape == (1, 16)


def test_rules_may_be_functions_and_say_axes_and_stacked_layers():
    stacked = {"layers": {"kernel": random(3, 8, 16)}, "query": {"kernel": random(8, 2, 4)}}
    rules = [
        Rule(lambda p: p.path.startswith("layers"), fx_compress.int8(), stacked=1),
        Rule("query/*", fx_compress.int8(), axes=(-3,)),
    ]
    small = fx_compress.quantize(stacked, rules)
    assert small["layers"]["kernel"].scale.shape == (3, 1, 16)
    assert small["query"]["kernel"].scale.shape == (1, 2, 4)
    x = random(5, 8)
    want = dense(x, jax.tree.map(lambda leaf: leaf[1], small["layers"]["kernel"]).materialize())
    np.testing.assert_allclose(jax.vmap(dense, (None, 0))(x, small["layers"]["kernel"])[1], want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("rules", "text"),
    [
        ({"*/weight": fx_compress.int8()}, r"(?s)The rule for '\*/weight' is for no parameter.*params/first/kernel"),
        ({"*/bias": fx_compress.int8()}, "is for no parameter"),
        ({"batch_stats/*": fx_compress.int8()}, "is for no parameter"),
        ({"*": fx_compress.int8(), "*/kernel": None}, r"(?s)Earlier rules take.*first/kernel.*put the more special"),
        ({"*": "int8"}, r"(?s)This is no rule.*got: Rule.*fx_compress.int8\(\)"),
        ("int8", "This is no rule"),
        ([], "There are no rules"),
    ],
)
def test_wrong_rules_say_what_is_wrong(rules, text):
    with pytest.raises(fx_compress.RuleError, match=text):
        fx_compress.quantize(model(), rules)


def test_a_group_that_does_not_divide_names_the_parameter():
    with pytest.raises(fx_compress.SchemeError, match=r"(?s)where: params/first/kernel.*divides 8"):
        fx_compress.quantize(model(), {"*/kernel": fx_compress.int4(group=3)})


def test_quantized_models_compute_under_jit_and_dequantize_to_what_they_stand_for():
    variables, x = model(), random(5, 8, seed=3)
    small = fx_compress.quantize(variables, {"*/kernel": fx_compress.int8()})
    plain = fx_compress.dequantize(small)
    assert jax.tree.structure(plain) == jax.tree.structure(variables)
    np.testing.assert_allclose(jax.jit(network)(small, x), network(plain, x), rtol=1e-4, atol=1e-5)
    assert float(jnp.abs(network(plain, x) - network(variables, x)).max()) < 0.15


def test_quantizing_works_on_shapes_alone():
    shapes = jax.eval_shape(lambda v: fx_compress.quantize(v, fx_compress.int4(group=4)), model())
    assert shapes["params"]["first"]["kernel"].shape == (8, 16)
    assert shapes["params"]["first"]["kernel"].values.dtype == jnp.uint8


def test_boxes_and_shared_objects_and_dataclasses_stay_what_they_are():
    @struct.dataclass
    class State:
        params: dict
        opt_state: dict
        step: int

    boxed = State({"kernel": Partitioned(random(4, 4), ("in", "out"))}, {"mu": random(4, 4)}, 3)
    small = fx_compress.quantize(boxed, fx_compress.int8())
    assert isinstance(small, State)
    assert isinstance(small.params["kernel"].value, QuantizedArray)
    assert small.params["kernel"].names == ("in", "out")
    assert small.opt_state["mu"] is boxed.opt_state["mu"]
    shared = {"kernel": random(4, 4)}
    both = fx_compress.quantize({"a": shared, "b": shared}, fx_compress.int8())
    assert both["a"] is both["b"]


@pytest.mark.parametrize("scheme", [fx_compress.int4(group=4), fx_compress.int8(activations="dynamic")])
def test_fake_quantization_computes_what_the_quantized_model_computes(scheme):
    variables, rules, x = model(), {"*/kernel": scheme}, random(5, 8)
    got = network(fx_compress.fake_quantize(variables, rules), x)
    np.testing.assert_allclose(got, network(fx_compress.quantize(variables, rules), x), rtol=1e-4, atol=1e-4)


def test_training_through_rounding_fits_the_quantized_model():
    rules = {"*/kernel": fx_compress.Scheme("int4")}
    x, start = random(64, 8), {"params": model()["params"]}
    target = jnp.sin(x @ random(8, 4, seed=9))

    def loss(params, through=lambda p: fx_compress.fake_quantize(p, rules)):
        return ((network(through(params), x) - target) ** 2).mean()

    def trained(loss):
        tx = optax.adam(0.01)

        @jax.jit
        def step(params, state):
            updates, state = tx.update(jax.grad(loss)(params), state)
            return optax.apply_updates(params, updates), state

        params, state = start, tx.init(start)
        for _ in range(150):
            params, state = step(params, state)
        return params

    through_rounding = loss(fx_compress.quantize(trained(loss), rules), lambda p: p)
    after_training = loss(fx_compress.quantize(trained(lambda p: loss(p, lambda q: q)), rules), lambda p: p)
    assert float(through_rounding) < 0.9 * float(after_training)


def test_biases_and_scales_of_norms_with_several_dimensions_are_no_weights():
    stacked = {
        "attention": {"query": {"kernel": random(8, 2, 4), "bias": random(2, 4)}},
        "norm": {"scale": random(3, 8)},
    }
    small = fx_compress.quantize(stacked, fx_compress.int8())
    assert isinstance(small["attention"]["query"]["kernel"], QuantizedArray)
    assert small["attention"]["query"]["bias"] is stacked["attention"]["query"]["bias"]
    assert small["norm"]["scale"] is stacked["norm"]["scale"]


def test_kernels_of_heads_are_contracted_over_their_inputs():
    attention = {"query": {"kernel": random(8, 2, 4)}, "out": {"kernel": random(2, 4, 8)}}
    small = fx_compress.quantize(attention, fx_compress.int4(group=8))
    assert small["query"]["kernel"].scale.shape == (1, 2, 4)
    # A group may extend over several heads, as rows of a matrix do.
    assert small["out"]["kernel"].scale.shape == (1, 1, 8)
    stacked = {"query": {"kernel": random(3, 8, 2, 4)}}
    small = fx_compress.quantize(stacked, [Rule("*", fx_compress.int4(group=4), stacked=1)])
    assert small["query"]["kernel"].scale.shape == (3, 2, 2, 4)


class Layer:
    """A layer of somebody's own, as JAX sees it."""

    def __init__(self, kernel):
        self.kernel = kernel


class Special(Layer):
    pass


class Other(Layer):
    pass


for _class in (Layer, Special, Other):
    jax.tree_util.register_pytree_with_keys(
        _class,
        lambda layer: (((jax.tree_util.GetAttrKey("kernel"), layer.kernel),), None),
        lambda _, children, cls=_class: cls(*children),
    )


def test_a_rule_for_a_class_is_for_its_subclasses_and_for_names_that_linen_makes_of_it():
    layers = {"a": Layer(random(4, 4)), "b": Special(random(4, 4)), "Special_0": {"kernel": random(4, 4)}}
    small = fx_compress.quantize(layers, {Special: fx_compress.int8()})
    assert isinstance(small["b"].kernel, QuantizedArray)
    assert isinstance(small["Special_0"]["kernel"], QuantizedArray)
    assert small["a"].kernel is layers["a"].kernel
    small = fx_compress.quantize(layers, {(Layer, Other): fx_compress.int8()})
    assert isinstance(small["b"].kernel, QuantizedArray)
    assert isinstance(small["a"].kernel, QuantizedArray)
    with pytest.raises(fx_compress.RuleError, match="The rule for Other is for no parameter"):
        fx_compress.quantize(layers, {Other: fx_compress.int8()})


@pytest.mark.parametrize("size", [1e-39, 1e39])
def test_weights_out_of_the_range_of_float32_are_refused(size):
    with jax.enable_x64(True):
        weights = {"layer": {"kernel": jnp.ones((4, 4), jnp.float64) * size, "zeros": jnp.zeros((4, 4), jnp.float64)}}
        with pytest.raises(fx_compress.SchemeError, match=r"(?s)range of its scales.*layer/kernel.*got: 1.0e.39"):
            fx_compress.quantize(weights, fx_compress.int8())


@pytest.mark.parametrize("bad", [jnp.nan, jnp.inf])
@pytest.mark.parametrize("scheme", [fx_compress.int8(), fx_compress.int4(symmetric=False, clip="mse")])
def test_weights_that_are_not_finite_are_refused(scheme, bad):
    weights = {"layer": {"kernel": random(4, 4).at[1, 2].set(bad)}}
    with pytest.raises(fx_compress.SchemeError, match=r"(?s)not finite.*where: layer/kernel"):
        fx_compress.quantize(weights, scheme)
    # Inside of a compiled training step nobody can look: the NaN stays one.
    seen = jax.jit(lambda w: fx_compress.fake_quantize(w, scheme))(weights)
    assert not jnp.isfinite(seen["layer"]["kernel"]).all()


def test_quantizing_twice_is_refused():
    small = fx_compress.quantize(model(), fx_compress.int8())
    with pytest.raises(fx_compress.SchemeError, match=r"(?s)got: int8.*dequantize before quantizing anew"):
        fx_compress.quantize(small, fx_compress.int4())


def test_variables_by_collection_may_lie_below_a_name():
    state = {"variables": {"params": {"cache": {"kernel": jnp.ones((2, 2))}}, "cache": {"key": jnp.ones((2, 2))}}}
    small = fx_compress.quantize(state, fx_compress.int8())["variables"]
    assert isinstance(small["params"]["cache"]["kernel"], fx_compress.QuantizedArray)
    assert isinstance(small["cache"]["key"], jax.Array)


def test_two_parameters_of_one_path_are_refused():
    model = {"a/kernel": jnp.ones((2, 2)), "a": {"kernel": random(2, 2)}}
    with pytest.raises(fx_compress.RuleError, match=r"(?s)same path.*where: a/kernel"):
        fx_compress.quantize(model, fx_compress.int8())
    with pytest.raises(fx_compress.CompressError, match="same path"):
        fx_compress.for_inference(model, jnp.ones((1, 2)), function=lambda v, x: x @ v["a/kernel"] @ v["a"]["kernel"])
