"""What transforms of modules do with their arguments: flags and names that stay what they are, axes that do not fit."""

import functools
import re

import fx_linen as nn
import jax
import jax.numpy as jnp
import pytest
from fx_linen import partitioning
from fx_transforms.errors import CarryChangedError, TransformError

KEYS = {"params": jax.random.key(0), "dropout": jax.random.key(1)}
X = jnp.ones((2, 4))


class Block(nn.Module):
    """Needs a bool, a string, a size and a dtype as they are."""

    @nn.compact
    def __call__(self, x, mask, deterministic, mode, size, dtype):
        h = nn.Dense(size, dtype=dtype)(x)
        h = h if mask is None else h * mask
        h = nn.Dropout(0.5, deterministic=deterministic)(h)
        return h + 1 if mode == "post" else h


class Step(nn.Module):
    block: type[nn.Module] = Block

    @nn.compact
    def __call__(self, x, *args):
        return self.block(name="block")(x, *args), None


def looped(block):
    options = {"variable_axes": {"params": 0}, "split_rngs": {"params": True, "dropout": True}, "length": 3}
    return nn.scan(Step, in_axes=nn.broadcast, **options)(block)


@pytest.mark.parametrize("block", [Block, nn.remat(Block, static_argnums=(3, 4, 5, 6), prevent_cse=False)])
def test_what_all_steps_share_stays_what_it_is(block):
    model = looped(block)
    variables = model.init(KEYS, X, None, True, "post", 4, jnp.float32)
    assert variables["params"]["block"]["Dense_0"]["kernel"].shape == (3, 4, 4)
    args = (X, jnp.full((2, 4), 0.5), False, "post", 4, jnp.float32)
    trained, _ = model.apply(variables, *args, rngs={"dropout": KEYS["dropout"]})
    compiled, _ = jax.jit(lambda v: model.apply(v, *args, rngs={"dropout": KEYS["dropout"]}))(variables)
    assert jnp.allclose(trained, compiled, atol=1e-6)
    still, _ = model.apply(variables, X, None, True, "post", 4, jnp.float32)
    expected = X
    for n in range(3):
        layer = jax.tree.map(lambda w, n=n: w[n], variables["params"]["block"]["Dense_0"])
        expected = expected @ layer["kernel"] + layer["bias"][None] + 1
    assert jnp.allclose(still, expected, atol=1e-5)


class Chosen(nn.Module):
    form: str

    def setup(self):
        self.block = Block()

    def __call__(self, x, *args):
        if self.is_initializing():
            return self.block(x, *args)

        def up(module, x, *args):
            return module.block(x, *args)

        def down(module, x, *args):
            return -module.block(x, *args)

        if self.form == "cond":
            return nn.cond(jnp.asarray(False), up, down, self, x, *args)
        return nn.switch(jnp.asarray(1), [up, down], self, x, *args)


@pytest.mark.parametrize("form", ["cond", "switch"])
def test_operands_of_branches_that_are_no_arrays(form):
    args = (X, None, True, "post", 4, jnp.float32)
    variables = Chosen(form).init(KEYS, *args)
    inner = {"params": variables["params"]["block"]}
    assert jnp.allclose(Chosen(form).apply(variables, *args), -Block().apply(inner, *args))


class Settings:
    """Equal by content and without a hash, as many settings are."""

    def __init__(self, scale):
        self.scale = scale

    def __eq__(self, other):
        return isinstance(other, Settings) and self.scale == other.scale


class CarriesMore(nn.Module):
    """A layer whose carry holds a function, a text, settings, nothing and a flag beside its array."""

    change: bool = False

    @nn.compact
    def __call__(self, carry, x):
        h, activation, mode, settings, nothing, flag = carry
        assert nothing is None
        assert isinstance(flag, jax.Array)
        h = activation(nn.Dense(4)(h) + x) if mode == "post" else h
        h = h * settings.scale
        return (h, activation, "other" if self.change else mode, Settings(settings.scale), nothing, ~flag), h


CARRY = (jnp.ones(4), jnp.tanh, "post", Settings(2.0), None, True)


def test_scan_carries_what_is_no_array():
    model = nn.scan(CarriesMore, variable_broadcast="params", split_rngs={"params": False})()
    variables = model.init(KEYS, CARRY, jnp.ones((3, 4)))
    out, ys = model.apply(variables, CARRY, jnp.ones((3, 4)))
    assert out[1:5] == CARRY[1:5]
    assert not out[5]
    dense, h = variables["params"]["Dense_0"], CARRY[0]
    for y in ys:
        h = 2 * jnp.tanh(h @ dense["kernel"] + dense["bias"] + 1)
        assert jnp.allclose(h, y, atol=1e-5)


def test_a_carried_text_that_changes_is_refused():
    model = nn.scan(CarriesMore, variable_broadcast="params", split_rngs={"params": False})(change=True)
    with pytest.raises(CarryChangedError, match=r"carry\[2\]: 'post' in, 'other' out"):
        model.init(KEYS, CARRY, jnp.ones((3, 4)))


class Loops(nn.Module):
    change: bool = False

    @nn.compact
    def __call__(self, x):
        def body(module, carry):
            i, x, activation, mode = carry
            assert mode == "post"
            return i + 1, activation(x) + 1, activation, None if module.change else mode

        return nn.while_loop(lambda module, carry: carry[0] < len(carry[3]), body, self, (0, x, jnp.tanh, "post"))


def test_while_loop_carries_what_is_no_array():
    i, x, activation, mode = Loops().apply({}, jnp.zeros(2))
    expected = functools.reduce(lambda x, _: jnp.tanh(x) + 1, range(4), jnp.zeros(2))
    assert (int(i), activation, mode) == (4, jnp.tanh, "post")
    assert jnp.allclose(x, expected)
    with pytest.raises(CarryChangedError, match=r"carry\[3\]: 'post' in, absent out"):
        Loops(change=True).apply({}, jnp.zeros(2))


def test_unmapped_arguments_of_vmap_that_are_no_arrays():
    mapped = nn.vmap(
        Block,
        variable_axes={"params": None},
        split_rngs={"params": False, "dropout": True},
        in_axes=(0, None, None, None, None, None),
    )()
    args = (X, None, True, "post", 4, jnp.float32)
    variables = mapped.init(KEYS, *args)
    assert jnp.allclose(mapped.apply(variables, *args), Block().apply(variables, *args), atol=1e-6)


class Cell(nn.Module):
    @nn.compact
    def __call__(self, carry, x):
        y = nn.Dense(4)(x)
        return carry + y.sum(), {"y": y, "sum": y.sum()}


def scanned(**options):
    given = {"variable_broadcast": "params", "split_rngs": {"params": False}, **options}
    return nn.scan(Cell, **given)()


@pytest.mark.parametrize("axis", [3, -4, {"y": 0, "sum": 1}, {"y": 0, "sum": -2}])
def test_scan_refuses_axes_that_results_cannot_have(axis):
    with pytest.raises(TransformError, match=r"scan cannot stack the result\['(y|sum)'\] along axis -?\d"):
        scanned(out_axes=axis).init_with_output(KEYS, 0.0, jnp.ones((5, 2, 4)))


@pytest.mark.parametrize("axis", [{"y": 2, "sum": -1}, {"y": -3, "sum": 0}])
def test_scan_stacks_results_along_any_axis(axis):
    (_, out), _ = scanned(out_axes=axis).init_with_output(KEYS, 0.0, jnp.ones((5, 2, 4)))
    assert out["y"].shape == ((2, 4, 5) if axis["y"] == 2 else (5, 2, 4))
    assert out["sum"].shape == (5,)


@pytest.mark.parametrize("axis", [7, -3, 2])
def test_transforms_refuse_axes_that_variables_cannot_have(axis):
    options = {"variable_axes": {"params": axis}, "split_rngs": {"params": True}}
    text = rf"cannot stack Dense_0/bias of collection 'params' along axis {axis}"
    with pytest.raises(TransformError, match=f"scan {text}"):
        scanned(variable_broadcast=False, **options).init(KEYS, 0.0, jnp.ones((5, 2, 4)))
    with pytest.raises(TransformError, match=f"vmap {text}"):
        nn.vmap(Cell, **options)().init(KEYS, jnp.zeros(5), jnp.ones((5, 2, 4)))


@pytest.mark.parametrize("axis", [3, -4])
def test_vmap_refuses_axes_that_results_cannot_have(axis):
    options = {"variable_axes": {"params": None}, "split_rngs": {"params": False}}
    with pytest.raises(TransformError, match=r"vmap cannot stack the result along axis"):
        nn.vmap(nn.Dense, out_axes=axis, **options)(3).init_with_output(KEYS, jnp.ones((5, 2, 4)))


@pytest.mark.parametrize("lengths", [(3,), (2, 3)])
def test_remat_scan_of_layers_with_partition_names(lengths):
    init = nn.with_partitioning(nn.initializers.lecun_normal(), ("embed", "mlp"))
    deep = nn.remat_scan(nn.Dense, lengths=lengths)(4, kernel_init=init)
    variables = deep.init(KEYS, X)
    spec = nn.get_partition_spec(variables)["params"]["kernel"]
    assert tuple(spec) == (*(None for _ in lengths), "embed", "mlp")
    assert deep.apply(variables, X).shape == X.shape
    named = nn.remat_scan(nn.Dense, lengths=lengths, metadata_params={nn.PARTITION_NAME: "layers"})
    spec = nn.get_partition_spec(named(4, kernel_init=init).init(KEYS, X))["params"]["kernel"]
    assert tuple(spec) == (*("layers" for _ in lengths), "embed", "mlp")


class Scaled(nn.Module):
    @nn.compact
    def __call__(self, x):
        self.variable("state", "calls", lambda: 0)
        return self.param("scale", nn.initializers.zeros, ()) * x


class Pushed(nn.Module):
    """The derivative with respect to the parameters of another module, which `init` has yet to create."""

    @nn.compact
    def __call__(self, x):
        inner = Scaled()
        tangents = jax.tree.map(jnp.ones_like, inner.variables.get("params", {}))
        return nn.jvp(Scaled.__call__, inner, (x,), (jnp.zeros_like(x),), {"params": tangents})[1]


def test_jvp_makes_the_variables_that_it_has_no_tangents_for():
    x = jnp.full((3,), 2.0)
    variables = Pushed().init(KEYS, x)
    assert jax.tree.map(jnp.shape, variables["params"]) == {"Scaled_0": {"scale": ()}}
    assert jnp.array_equal(Pushed().apply(variables, x), x)
    with pytest.raises(TypeError, match="tree structure"):
        nn.apply(lambda m, x: nn.jvp(Scaled.__call__, m, (x,), (x,), {"params": {}}), Scaled())(
            {"params": {"scale": 1.0}, "state": {"calls": 0}}, x
        )


class Trained(nn.Module):
    @nn.compact
    def __call__(self, x, train, mode="plain"):
        x = nn.Dense(3)(x)
        return nn.Dropout(0.5, deterministic=not train)(x) if mode == "plain" else x


HINTS = [
    (nn.remat, {"static_argnums": 1}, (True,), {}, r"argument 2 \(True\).*static_argnums=\(2,\), counting self as 0"),
    (nn.remat, {}, (), {"train": True}, r"train=True.*passing them by position and static_argnums, counting self as 0"),
    (nn.remat, {"static_argnums": 2}, (True, "all"), {}, r"argument 3 \('all'\)\. Keep.*static_argnums=\(3,\)"),
    (nn.jit, {}, (True,), {}, r"nn\.jit.*static_argnums=\(2,\), counting self as 0"),
    (nn.jit, {}, (), {"train": False}, r"train=False.*static_argnames=\('train',\)"),
    (partitioning.remat, {}, (True,), {}, r"argument 1 \(True\).*static_argnums=\(1,\), not counting self"),
]


@pytest.mark.parametrize(("transform", "options", "args", "kwargs", "text"), HINTS)
def test_flags_that_became_tracers_are_told_how_to_stay(transform, options, args, kwargs, text):
    with pytest.raises(TypeError) as info:
        transform(Trained, **options)().init(KEYS, X, *args, **kwargs)
    assert re.search(text, "\n".join(info.value.__notes__))


def test_hints_come_only_where_they_help():
    with pytest.raises(TypeError) as info:
        nn.remat(Trained)().init(KEYS, X, jnp.asarray(True))
    assert "static_argnums=" not in "".join(getattr(info.value, "__notes__", []))
    for transform, options in ((nn.remat, {"static_argnums": (2, -1)}), (nn.jit, {"static_argnames": "train"})):
        args, kwargs = ((True, "plain"), {}) if transform is nn.remat else ((), {"train": True})
        assert transform(Trained, **options)().init(KEYS, X, *args, **kwargs)["params"]


class Synchronized(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.BatchNorm(use_running_average=False, axis_name="batch", name="norm")(x)


@pytest.mark.parametrize("names", [(None,), ("other",), ("other", None)])
def test_an_axis_name_that_no_transform_has_is_told_with_its_module(names):
    x, cls = jnp.ones((*(2 for _ in names), 3, 4)), Synchronized
    for name in names:
        axes = {"params": None, "batch_stats": None}
        cls = nn.vmap(cls, variable_axes=axes, split_rngs={"params": False}, axis_name=name)
    variables = cls().init(KEYS, x)
    with pytest.raises(NameError, match="batch") as info:
        cls().apply(variables, x, mutable=["batch_stats"])
    assert sum("used by /" in note and "norm (BatchNorm)" in note for note in info.value.__notes__) == 1


class Noisy(nn.Module):
    @nn.compact
    def __call__(self, x, *_):
        y = nn.Dropout(0.5, deterministic=False)(x)
        return y if not _ else (y, y)


@pytest.mark.parametrize("split", [{"params": False, "dropout": True}, {("dropout", "noise"): True, "params": False}])
@pytest.mark.parametrize("form", ["vmap", "scan"])
def test_streams_to_split_differ_though_one_key_was_given(form, split):
    x = jnp.ones((3, 64))
    if form == "vmap":
        model, args = nn.vmap(Noisy, variable_axes={"params": None}, split_rngs=split)(), (x,)
    else:
        model, args = nn.scan(Noisy, variable_broadcast="params", split_rngs=split, length=3)(), (x[0], x)
    rows = model.apply({}, *args, rngs=KEYS["params"])
    rows = rows if form == "vmap" else rows[1]
    assert not jnp.array_equal(rows[0], rows[1])
    assert not jnp.array_equal(rows[1], rows[2])
    given = model.apply({}, *args, rngs=KEYS)
    alone = model.apply({}, *args, rngs={"dropout": KEYS["dropout"]})
    assert jax.tree.all(jax.tree.map(jnp.array_equal, given, alone))


def test_parameters_are_drawn_as_if_nothing_else_was():
    class Both(nn.Module):
        @nn.compact
        def __call__(self, x):
            noise = jax.random.normal(self.make_rng("dropout"), ())
            return nn.Dense(3)(x) + noise + self.param("w", nn.initializers.normal(), ())

    mapped = nn.vmap(Both, variable_axes={"params": None}, split_rngs={"params": False, "dropout": True})()
    variables = mapped.init(KEYS["params"], jnp.ones((2, 3)))
    plain = Both().init(KEYS["params"], jnp.ones(3))
    assert jax.tree.all(jax.tree.map(jnp.array_equal, variables, plain))
