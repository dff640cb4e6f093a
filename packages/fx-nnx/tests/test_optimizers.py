"""Every transformation that optax exports, in an Optimizer and by itself: equal to the bit, for five steps."""

import functools
import inspect

import fx_nnx as nnx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib
import pytest
from fx_core.errors import ArgumentError
from fx_nnx.errors import NnxError

pytestmark = pytest.mark.filterwarnings("ignore:.*deprecated:DeprecationWarning", "ignore:Specifying a key")


class Net(nnx.Module):
    def __init__(self, rngs):
        self.first = nnx.Linear(4, 3, rngs=rngs)
        self.layers = nnx.List([nnx.Linear(3, 2, rngs=rngs)])


def loss_of_values(params):
    return sum(jnp.sum((jnp.sin(leaf) - 0.3) ** 2) for leaf in jax.tree.leaves(params))


def loss(model):
    return loss_of_values(nnx.as_pure(nnx.state(model, nnx.Param)))


def of_kernels(tree):
    return jax.tree_util.tree_map_with_path(lambda path, _: path[-1].key == "kernel", tree)


def labels(tree):
    return jax.tree.map(lambda kernel: "kernels" if kernel else "others", of_kernels(tree))


def muon_axes(tree):
    return jax.tree.map(lambda _: optax.contrib.MuonDimensionNumbers(), tree)


def adam():
    return optax.adam(0.1)


ARGUMENTS = {
    "adv_optimizer": lambda: optax.chain(optax.contrib.normalize(), optax.sgd(0.05)),
    "base_optimizer": lambda: optax.sgd(0.1, momentum=0.9),
    "clipping": lambda: 0.01,
    "decay": lambda: 0.9,
    "eta": lambda: 0.01,
    "f": lambda: lambda updates, params: jax.tree.map(lambda u, p: u - p, updates, params),
    "freeze_mask": lambda: of_kernels,
    "gamma": lambda: 0.55,
    "inner": adam,
    "key": lambda: 0,
    "l2_norm_clip": lambda: 0.5,
    "learning_rate": lambda: 0.1,
    "mask": lambda: of_kernels,
    "max_backtracking_steps": lambda: 5,
    "max_consecutive_errors": lambda: 2,
    "max_delta": lambda: 0.01,
    "max_linesearch_steps": lambda: 5,
    "max_norm": lambda: 0.1,
    "measure": lambda: lambda updates: jax.tree.map(jnp.abs, updates),
    "measure_name": lambda: "norm",
    "measures": lambda: {"norm": lambda updates, *_, **__: optax.tree.norm(updates)},
    "noise_multiplier": lambda: 0.1,
    "optimizer": adam,
    "param_labels": lambda: labels,
    "seed": lambda: 0,
    "should_transform_fn": lambda: lambda step: step % 2 == 0,
    "step_size": lambda: -0.1,
    "step_size_fn": lambda: optax.linear_schedule(-0.1, -0.01, 3),
    "threshold": lambda: 0.1,
    "transforms": lambda: {"kernels": adam(), "others": optax.sgd(0.1, momentum=0.9)},
    "tx": adam,
}
"""What to give for an argument of this name that has no default."""

SPECIAL = {
    "add_noise": lambda: optax.add_noise(0.01, 0.55, key=0),
    "chain": lambda: optax.chain(optax.clip(0.5), adam(), optax.masked(optax.add_decayed_weights(0.1), of_kernels)),
    "named_chain": lambda: optax.named_chain(("clip", optax.clip(0.5)), ("adam", adam())),
    "stateless_with_tree_map": lambda: optax.stateless_with_tree_map(lambda update, param: update - 0.1 * param),
    "inject_hyperparams": lambda: optax.inject_hyperparams(optax.adamw)(optax.linear_schedule(0.1, 0.0, 3)),
    "inject_stateful_hyperparams": lambda: optax.inject_stateful_hyperparams(optax.sgd)(0.1, momentum=0.9),
    "noisy_sgd": lambda: optax.noisy_sgd(0.1, key=0),
    "scale_by_muon": lambda: optax.masked(optax.contrib.scale_by_muon(weight_dimension_numbers=muon_axes), of_kernels),
    # Not in the list of functions, or in another way than with their defaults:
    "MultiSteps": lambda: optax.MultiSteps(adam(), 2).gradient_transformation(),
    "masked twice": lambda: optax.masked(optax.masked(adam(), of_kernels), of_kernels),
    "partition of masked": lambda: optax.partition(
        {"kernels": optax.masked(adam(), of_kernels), "others": optax.set_to_zero()}, labels
    ),
    "schedule_free of parts": lambda: optax.contrib.schedule_free(
        optax.partition({"kernels": optax.sgd(0.1), "others": optax.sgd(0.2)}, labels), 0.1
    ),
    "plateau after adam": lambda: optax.chain(adam(), optax.contrib.reduce_on_plateau(patience=1)),
    "muon with decay": lambda: optax.contrib.muon(0.1, weight_decay=0.1),
    "factored": lambda: optax.adafactor(0.1, min_dim_size_to_factor=2),
    "lbfgs with backtracking": lambda: optax.lbfgs(linesearch=optax.scale_by_backtracking_linesearch(5)),
}
QUICK = {"xla_backend_optimization_level": 0}
"""Compile fast: the same for both programs, which run a few steps of a few numbers."""

LEFT_OUT = {"lookahead"}  # its parameters are pairs of a fast and a slow model
SECOND_ORDER = {"sophia", "hutchinson_estimator_diag_hessian"}
PER_EXAMPLE = {"differentially_private_aggregate", "dpsgd"}


def required(function):
    parameters = inspect.signature(function).parameters.values()
    named = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return [p.name for p in parameters if p.default is p.empty and p.kind in named]


def exported():
    """Find everything in optax that gives a transformation: what says so, and what does when called."""
    makers = {}
    for module in (optax, optax.contrib):
        for name, function in sorted(vars(module).items()):
            if name.startswith("_") or not inspect.isfunction(function) or name in SPECIAL.keys() | LEFT_OUT:
                continue
            says_so = str(inspect.signature(function).return_annotation).count("GradientTransformation")
            names = required(function)
            if says_so or (names != ["params"] and set(names) <= ARGUMENTS.keys()):
                makers[name] = function
    return makers


def made(name):
    if name in SPECIAL:
        return SPECIAL[name]()
    function = exported()[name]
    return function(**{argument: ARGUMENTS[argument]() for argument in required(function)})


NAMES = sorted({*exported(), *SPECIAL})


def extras(name, tx, value, grads):
    if not isinstance(tx, optax.GradientTransformationExtraArgs) or name == "sam":
        return {}
    found = {"value": value, "grad": grads, "value_fn": loss_of_values}
    return {**found, "obj_fn": loss_of_values} if name in SECOND_ORDER else found


def per_example(name, grads):
    return jax.tree.map(lambda grad: jnp.stack([grad, grad / 2]), grads) if name in PER_EXAMPLE else grads


def equal(ours, theirs):
    assert len(jax.tree.leaves(ours)) == len(jax.tree.leaves(theirs))
    for our, their in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs)):
        is_key = jnp.issubdtype(their.dtype, jax.dtypes.prng_key)
        np.testing.assert_array_equal(*(jax.random.key_data(leaf) if is_key else leaf for leaf in (our, their)))
        assert our.dtype == their.dtype


def test_every_transformation_is_tried():
    assert len(NAMES) >= 120, len(NAMES)
    assert all(argument in ARGUMENTS for function in exported().values() for argument in required(function))


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
@jax.numpy_rank_promotion("allow")  # some of optax' own rely on it
def test_equal_to_optax_by_itself(name):
    tx = made(name)
    model = Net(nnx.Rngs(0))
    params = nnx.to_pure_dict(nnx.state(model, nnx.Param))
    params = jax.tree.map(jnp.copy, params)
    optimizer, opt_state = nnx.Optimizer(model, tx, wrt=nnx.Param), tx.init(params)

    @nnx.jit(compiler_options=QUICK)
    def step(model, optimizer):
        value, grads = nnx.value_and_grad(loss)(model)
        return optimizer.update(model, per_example(name, grads), **extras(name, tx, value, grads))

    @functools.partial(jax.jit, compiler_options=QUICK)
    def plain_step(params, opt_state):
        value, grads = jax.value_and_grad(loss_of_values)(params)
        updates, opt_state = tx.update(per_example(name, grads), opt_state, params, **extras(name, tx, value, grads))
        return updates, optax.apply_updates(params, updates), opt_state

    for _ in range(5):
        updates = step(model, optimizer)
        plain_updates, params, opt_state = plain_step(params, opt_state)
        equal(updates, plain_updates)
        equal(nnx.as_pure(nnx.state(model)), params)
        equal(nnx.as_pure(optimizer.opt_state), opt_state)


def grads_of(model, **options):
    return nnx.grad(lambda model: loss(model), **options)(model)


def as_module(model):
    grads = nnx.clone(model)
    nnx.update(grads, grads_of(model))
    return grads


@pytest.mark.parametrize(
    "form",
    [
        grads_of,
        as_module,
        lambda model: nnx.unpack(as_module(model)),
        lambda model: nnx.as_pure(grads_of(model)),
        lambda model: nnx.to_pure_dict(grads_of(model)),
        lambda model: grads_of(model, argnums=nnx.DiffState(0, ...)),
    ],
    ids=["state", "module", "graph state", "arrays", "dictionaries", "of more"],
)
def test_forms_of_gradients(form):
    results = []
    for kind in (grads_of, form):
        model = Net(nnx.Rngs(0))
        model.mean = nnx.BatchStat(jnp.ones(2))
        optimizer = nnx.Optimizer(model, optax.polyak_sgd(), wrt=nnx.Param)
        optimizer.update(model, kind(model), value=jnp.array(0.5))
        results.append(nnx.to_pure_dict(nnx.state(model)))
    equal(*results)


def test_gradients_of_a_part_are_picked_out_of_all():
    model = Net(nnx.Rngs(0))
    start = jax.tree.map(jnp.copy, nnx.state(model))
    optimizer = nnx.Optimizer(model, optax.sgd(0.1), wrt=nnx.PathContains("first"))
    optimizer.update(model, grads_of(model))
    assert (model.layers[0].kernel[...] == start["layers"][0]["kernel"][...]).all()
    assert (model.first.kernel[...] != start["first"]["kernel"][...]).all()
    with pytest.raises(NnxError, match="do not match the parameters"):
        optimizer.update(model, nnx.state(model, nnx.PathContains("layers")))


@pytest.mark.parametrize("grad", [grads_of, as_module, lambda model: nnx.unpack(as_module(model))])
def test_line_search_takes_its_arguments_in_any_form(grad):
    model = Net(nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, optax.lbfgs(), wrt=nnx.Param)
    graphdef = nnx.graphdef(model)
    value_fn = lambda params: loss(nnx.merge(graphdef, params))  # noqa: E731

    @nnx.jit
    def step(model, optimizer):
        value = nnx.Variable(loss(model))
        grads = grad(model)
        optimizer.update(model, grads, value=value, grad=grads, value_fn=value_fn)
        return value

    values = [step(model, optimizer)[...] for _ in range(6)]
    assert values[-1] < values[0] / 3


def test_what_is_kept_beside_a_parameter_has_its_metadata():
    hook = lambda variable, value: value * 2  # noqa: E731
    layer = nnx.Linear(4, 3, rngs=nnx.Rngs(0))
    layer.kernel = nnx.Param(
        jnp.ones((4, 3)), out_sharding=("data", None), tag="k", on_get_value=hook, eager_sharding=False
    )
    layer.bias = nnx.Param(jnp.ones(3), out_sharding=("data",), optimizer_sharding=(None,), eager_sharding=False)
    with nnx.use_eager_sharding(False):
        adam, factored = (
            nnx.Optimizer(layer, tx, wrt=nnx.Param)
            for tx in (optax.adam(0.1), optax.adafactor(0.1, min_dim_size_to_factor=2))
        )
    kernel, bias = adam.opt_state[0].mu["kernel"], adam.opt_state[0].mu["bias"]
    assert (kernel.source_type, kernel.tag, kernel.out_sharding) == (nnx.Param, "k", ("data", None))
    assert bias.out_sharding == (None,)
    assert not kernel.has_metadata("on_get_value")
    assert type(adam.opt_state[0].count) is nnx.OptArray
    rows = factored.opt_state[0].v_row["kernel"]
    assert rows.ndim == 1
    assert not rows.has_metadata("out_sharding")


def test_parameters_that_are_references_or_pytrees():
    class Odd(nnx.Module):
        def __init__(self):
            self.a = nnx.Param(jnp.ones(2), ref=True)
            self.b = nnx.Param({"x": jnp.ones(3), "y": jnp.ones(())})

    model = Odd()
    optimizer = nnx.Optimizer(model, optax.adam(0.1), wrt=nnx.Param)
    grads = jax.tree.map(jnp.ones_like, nnx.as_pure(nnx.state(model)))
    for _ in range(2):
        optimizer.update(model, grads)
    params, tx = {"a": jnp.ones(2), "b": {"x": jnp.ones(3), "y": jnp.ones(())}}, optax.adam(0.1)
    state = tx.init(params)
    for _ in range(2):
        updates, state = tx.update(jax.tree.map(jnp.ones_like, params), state, params)
        params = optax.apply_updates(params, updates)
    equal({"a": model.a[...], "b": model.b.get_value()}, params)


def test_a_state_that_changes_its_structure():
    def update(updates, state, params=None):
        return updates, {**state, f"step{len(state)}": jnp.zeros(())}

    model = Net(nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, optax.GradientTransformation(lambda params: {}, update), wrt=nnx.Param)
    step = nnx.jit(lambda model, optimizer: optimizer.update(model, grads_of(model)))
    for _ in range(3):
        step(model, optimizer)
    assert sorted(optimizer.opt_state) == ["step0", "step1", "step2"]


def test_placeholders_survive_split_merge_and_copies():
    model = Net(nnx.Rngs(0))
    tx = optax.partition({"kernels": optax.adam(0.1), "others": optax.set_to_zero()}, labels)
    optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)
    optimizer.update(model, grads_of(model))
    merged = nnx.merge(*nnx.split(optimizer))
    for other in (merged, nnx.clone(optimizer)):
        assert jax.tree.structure(nnx.as_pure(other.opt_state)) == jax.tree.structure(nnx.as_pure(optimizer.opt_state))
        other.update(model, grads_of(model))
    kept = nnx.state(optimizer, nnx.OptVariable).flat_state().paths
    assert {path[-1] for path in kept} == {"kernel"}


@pytest.mark.parametrize(
    "model", [nnx.Dict(count=nnx.BatchStat(jnp.ones(2))), {"w": jnp.ones(2)}, {}, None, nnx.State({})]
)
@pytest.mark.parametrize("optimizer", [nnx.Optimizer, nnx.ModelAndOptimizer])
def test_an_optimizer_without_anything_to_train_is_refused(model, optimizer):
    with pytest.raises(NnxError, match="nothing to train") as error:
        optimizer(model, optax.adam(0.1), wrt=nnx.Param)
    assert "wrt=<class 'fx_nnx.variables.kinds.Param'>" in str(error.value) or "wrt=Param" in str(error.value)


def test_a_transformation_that_was_not_called():
    model = nnx.Linear(2, 2, rngs=nnx.Rngs(0))
    with pytest.raises(ArgumentError, match=r"got: adam\n  what to do: call it: optax.adam\(1e-3\)"):
        nnx.Optimizer(model, optax.adam, wrt=nnx.Param)


def test_model_and_gradients_may_be_given_by_name():
    first, second = Net(nnx.Rngs(0)), Net(nnx.Rngs(0))
    grads = grads_of(first)
    nnx.Optimizer(first, optax.sgd(0.1), wrt=nnx.Param).update(model=first, grads=grads)
    nnx.ModelAndOptimizer(second, optax.sgd(0.1)).update(grads=grads)
    for model in (first, second):
        expected = Net(nnx.Rngs(0)).first.kernel - 0.1 * grads["first"]["kernel"][...]
        np.testing.assert_allclose(model.first.kernel[...], expected, rtol=1e-6)
