"""fx_transforms.lift against flax.core.lift: same variables, same keys, same numbers, to the bit."""

import fx_core.scope
import fx_transforms.axes_scan
import fx_transforms.lift
import jax
import jax.numpy as jnp
import pytest
from jax import random
from lifted import KEY, RNGS, XS, Ours, Theirs, X, check, dense, draw, in_a

CASES = {}


def case(fn):
    CASES[fn.__name__] = fn
    return fn


def vmap_draw(split):
    return lambda f: f.init(in_a(lambda s: f.lift.vmap(draw, {True: 0}, split)(s, X)))(RNGS)


CASES["vmap_split"] = vmap_draw({True: True})
CASES["vmap_shared"] = vmap_draw({True: False})
CASES["vmap_mixed"] = vmap_draw({"params": True, "noise": False})


@case
def vmap_axes(f):
    fn = f.lift.vmap(dense, {"params": 1, "state": 0}, {"params": True}, in_axes=1, out_axes=1)
    return f.init(fn)(KEY, XS)


@case
def vmap_shared_params(f):
    return f.init(f.lift.vmap(dense, {"params": None, "state": 0}, {"params": False}))(KEY, XS)


@case
def vmap_negative_axis(f):
    return f.init(f.lift.vmap(dense, {True: -1}, {True: True}, in_axes=-1, out_axes=-1))(KEY, XS)


@case
def vmap_in_axes_tree(f):
    fn = f.lift.vmap(
        lambda s, a, b: dense(s, a["x"]) + b, {True: 0}, {True: True}, in_axes=({"x": 0}, None), axis_size=2
    )
    return f.init(fn)(KEY, {"x": XS}, jnp.ones(2))


@case
def vmap_axis_name(f):
    def fn(scope, x):
        mean = scope.variable("stats", "mean", lambda: jnp.zeros(3))
        mean.value = jax.lax.pmean(x, "batch")
        return x - mean.value

    return f.init(f.lift.vmap(fn, {"stats": None}, {}, axis_name="batch"))(KEY, XS)


@case
def vmap_partitioned(f):
    def fn(scope, x):
        return x @ scope.param("w", f.meta.with_partitioning(random.normal, ("in", "out")), (3, 2))

    params = {f.meta.PARTITION_NAME: "layers"}
    mapped = f.lift.vmap(fn, {"params": 1}, {"params": True}, metadata_params=params)
    y, variables = f.init(mapped)(KEY, XS)
    assert variables["params"]["w"].names == ("in", "layers", "out")
    return y, variables, f.apply(mapped)(variables, XS)


@case
def vmap_trees(f):
    def fn(scopes, x):
        return dense(scopes["l"], x) + dense(scopes["r"], x)

    def outer(scope, x):
        scopes = {"l": scope.push("l"), "r": scope.push("r")}
        return f.lift.vmap(fn, {True: 0}, {True: True})(scopes, x)

    return f.init(outer)(KEY, XS)


@case
def remat(f):
    return f.init(in_a(lambda s: (f.lift.remat(dense)(s, X), f.lift.remat(draw)(s))))(RNGS)


@case
def remat_static_and_policy(f):
    policy = jax.checkpoint_policies.nothing_saveable
    fn = f.lift.remat(lambda s, x, n: dense(s, x) * (n if isinstance(n, int) else 0), static_argnums=1, policy=policy)
    return f.init(fn)(KEY, X, 3)


def branching(choose):
    def run(f):
        return f.init(in_a(lambda s: (choose(f, s, dense, lambda s, x: 2 * dense(s, x)), choose(f, s, draw, draw))))(
            RNGS
        )

    return run


CASES["cond_true"] = branching(lambda f, s, a, b: f.lift.cond(True, a, b, s, X))
CASES["cond_false"] = branching(lambda f, s, a, b: f.lift.cond(False, a, b, s, X))
CASES["switch_last"] = branching(lambda f, s, a, b: f.lift.switch(9, [a, b], s, X))
CASES["switch_first"] = branching(lambda f, s, a, b: f.lift.switch(0, [a, b], s, X))


def while_case(split):
    def run(f):
        def step(scope, c):
            i, keys = c
            scope.put_variable("state", "n", scope.get_variable("state", "n") + scope.get_variable("params", "b"))
            return i + 1, keys.at[i].set(draw(scope)[0])

        def fn(scope):
            init = (0, jnp.zeros((3, 2), jnp.uint32))
            return f.lift.while_loop(
                lambda s, c: c[0] < 3, step, scope, init, carry_variables="state", split_rngs=split
            )

        variables = {"state": {"a": {"n": jnp.zeros(())}}, "params": {"a": {"b": 2.0}}}
        return f.apply(in_a(fn), mutable=["state"])(variables, rngs=RNGS)

    return run


CASES["while_split"] = while_case({True: True})
CASES["while_shared"] = while_case({True: False})


@case
def vjp(f):
    def fn(scope, x):
        y, backward = f.lift.vjp(dense, scope, x)
        return y, backward(jnp.ones_like(y))

    variables = {"params": {"w": XS.T}, "state": {"n": jnp.float32(3)}}
    return f.apply(fn, mutable=["state"])(variables, X), f.init(fn)(KEY, X)


@case
def vjp_aux_and_variables(f):
    def fn(scope, x):
        y, backward, aux = f.lift.vjp(
            lambda s, x: (dense(s, x), x), scope, x, has_aux=True, vjp_variables=["params", "state"]
        )
        return y, backward(jnp.ones_like(y)), aux

    return f.apply(fn, mutable=["state"])({"params": {"w": XS.T}, "state": {"n": jnp.float32(3)}}, X)


@case
def vjp_two_scopes(f):
    def fn(scope, x):
        scopes = (scope.push("a"), scope.push("b"))
        y, backward = f.lift.vjp(lambda s, x: dense(s[0], x) * dense(s[1], x), scopes, x)
        return y, backward(jnp.ones_like(y))

    weights = {name: {"w": XS.T} for name in "ab"}
    return f.apply(fn, mutable=True)({"params": weights, "state": {n: {"n": jnp.zeros(())} for n in "ab"}}, X)


@case
def jvp(f):
    def fn(scope, x):
        return f.lift.jvp(dense, scope, (x,), (2 * x,), {"params": {"w": jnp.ones((3, 2))}})

    def still(scope, x):
        return f.lift.jvp(dense, scope, (x,), (2 * x,), {})

    variables = {"params": {"w": XS.T}, "state": {"n": jnp.float32(3)}}
    return [f.apply(g, mutable=["state"])(variables, X) for g in (fn, still)]


@case
def value_and_grad(f):
    def fn(scope, x):
        return f.lift.value_and_grad(lambda s, x, y: (dense(s, x) * y).sum(), scope, x, jnp.ones(2))

    def aux(scope, x):
        return f.lift.value_and_grad(lambda s, x: (dense(s, x).sum(), x), scope, x, has_aux=True)

    return f.init(fn)(KEY, X), f.init(aux)(KEY, X)


@case
def custom_vjp(f):
    def fn(scope, x, n):
        return (x @ scope.param("w", random.normal, (3, 2))).sum() * n

    def forward(scope, x, n):
        return f.lift.vjp(lambda s, x: fn(s, x, n), scope, x)

    def backward(n, vjp_fn, g):
        params_t, x_t = vjp_fn(g)
        return jax.tree.map(jnp.sign, params_t), x_t * n

    rule = f.lift.custom_vjp(fn, forward, backward, nondiff_argnums=(2,))
    variables = {"params": {"w": XS.T}}
    loss = f.apply(lambda s, x: rule(s, x, 3))
    return loss(variables, X), jax.grad(loss, argnums=(0, 1))(variables, X), f.init(rule)(KEY, X, 3)


def transpose(tree):
    return jax.tree.map(jnp.transpose, tree)


def mapped(**options):
    def run(f):
        fn = f.lift.map_variables(dense, "params", transpose, transpose, **options)
        out = [f.init(in_a(lambda s: fn(s, X)))(KEY)]
        variables = {"params": {"w": XS}, "state": {"n": jnp.float32(3)}}
        if "init" not in options:  # where anything is mutable, Flax initializes again and refuses the mapped shape
            out += [f.apply(fn, mutable=m)(variables, X) for m in (True, ["state"])]
        reading = f.lift.map_variables(lambda s, x: x @ s.get_variable("params", "w"), "params", transpose, **options)
        return out, f.apply(reading)(variables, X)

    return run


CASES["map_variables_init"] = mapped(init=True)
CASES["map_variables_mutable"] = mapped(mutable=True)


@case
def map_variables_of_two(f):
    def fn(scope):
        scopes = (scope.push("l"), scope.push("r"))
        both = f.lift.map_variables(
            lambda s, x: dense(s[0], x) + dense(s[1], x), "params", transpose, transpose, init=True
        )
        return both(scopes, X)

    return f.init(fn)(KEY)


@case
def swap_collection(f):
    def fn(scope, x):
        scope.variable("other", "z", lambda: jnp.ones(()))
        return dense(scope, x)

    return f.init(f.lift.swap_collection(fn, "params", "other"))(KEY, X)


@case
def pack(f):
    def eager(scope_fn, repack, variable_groups, rng_groups, x):
        scope = scope_fn(variable_groups, rng_groups)
        return (dense(scope, x), draw(scope)), repack(scope)

    fn = f.lift.pack(eager, ["params", "state"], ["params", True], ["params", True], name="eager")
    return f.init(in_a(lambda s: fn(s, X)))(RNGS)


@pytest.mark.parametrize("name", sorted(CASES))
def test_same_as_flax(name):
    run = CASES[name]
    check(run(Ours), run(Theirs))


@pytest.mark.parametrize("jitted", [True, False])
@pytest.mark.parametrize("fold", ["jit", "fold_rngs"])
def test_keys_of_jit_and_fold_rngs_are_those_of_linen(fold, jitted):
    import flax.linen as nn

    class Draw(nn.Module):
        @nn.compact
        def __call__(self):
            return random.key_data(self.make_rng("params")), random.key_data(self.make_rng("params"))

    class Model(nn.Module):
        @nn.compact
        def __call__(self):
            inner = getattr(nn, fold)(Draw)(name="a")
            return inner(), inner()

    def drawer(scope):
        return random.key_data(scope.make_rng("params")), random.key_data(scope.make_rng("params"))

    lifted = getattr(fx_transforms.lift, fold)(drawer)

    def model(scope):
        scope = scope.push("a")
        return lifted(scope), lifted(scope)

    run = fx_core.scope.init(model)
    check((jax.jit(run) if jitted else run)(KEY)[0], Model().init_with_output(KEY)[0])
