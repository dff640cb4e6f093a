"""Each lifted transform against a plain Python loop or hand-written JAX. Numbers of Flax are compared elsewhere."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fx_core import meta
from fx_core.compat.jax import checkify as jax_checks
from fx_core.scope import apply, bind, init
from fx_transforms import ScopeCarrier, axes_scan, axis, checkify, lift, pmap, shard_map
from jax import random
from jax.sharding import PartitionSpec as P

KEY = random.key(3)
X = jnp.arange(3.0)
XS = jnp.arange(6.0).reshape(2, 3) - 2


def dense(scope, x, features=2):
    w = scope.param("w", random.normal, (x.shape[-1], features))
    n = scope.variable("state", "n", lambda: jnp.zeros(()))
    n.value = n.value + 1
    return x @ w


def body(scope, c, x):
    y = dense(scope, x)
    return c + y.sum(), y


def same(got, want):
    assert jax.tree.structure(got) == jax.tree.structure(want)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), got, want)


def test_vmap_makes_an_ensemble():
    fn = lift.vmap(dense, {"params": 0, "state": None}, {"params": True}, in_axes=None, axis_size=4)
    y, variables = init(fn)(KEY, X)
    w = variables["params"]["w"]
    assert w.shape == (4, 3, 2)
    assert len(np.unique(np.asarray(w))) == w.size
    same(y, jnp.stack([X @ w[i] for i in range(4)]))
    assert variables["state"]["n"] == 1


def test_scan_hoists_shared_parameters_and_stacks_state():
    fn = lift.scan(body, variable_broadcast="params", variable_axes={"state": 0}, split_rngs={"params": False})
    (c, ys), variables = init(fn)(KEY, 0.0, XS)
    w = variables["params"]["w"]
    assert w.shape == (3, 2)
    same((c, ys), ((XS @ w).sum(), XS @ w))
    same(variables["state"]["n"], jnp.ones(2))
    same(apply(fn, mutable=["state"])(variables, 0.0, XS)[1], {"state": {"n": jnp.full(2, 2.0)}})


def test_shared_parameters_made_deep_inside_are_hoisted_too():
    def deep(scope, c, x):
        inner = lift.jit(lift.remat(lift.vmap(dense, {True: 0}, {True: True}, in_axes=None, axis_size=2)))
        return c + 1, inner(scope.push("in"), x)

    fn = lift.scan(deep, variable_broadcast="params", variable_axes={"state": 0}, split_rngs={True: False})
    (c, ys), variables = init(fn)(KEY, 0, XS)
    w = variables["params"]["in"]["w"]
    assert (int(c), w.shape) == (2, (2, 3, 2))
    same(ys, jnp.einsum("ti,nio->tno", XS, w))
    assert variables["state"]["in"]["n"].shape == (2, 2)


def test_printing_in_a_body_does_not_make_it_vary(capfd):
    def chatty(scope, c, x):
        jax.debug.print("x {}", x[0])
        return body(scope, c, x)

    init(lift.scan(chatty, variable_broadcast=True, split_rngs={True: False}))(KEY, 0.0, XS)
    jax.effects_barrier()
    assert capfd.readouterr().out.splitlines() == ["x -2.0", "x 1.0"]


def test_a_body_without_streams_or_shared_writes_is_traced_once():
    traces = []

    def counted(scope, c, x):
        traces.append(1)
        return c, x @ scope.get_variable("params", "w")

    fn = lift.scan(counted, variable_broadcast="params")
    apply(fn)({"params": {"w": jnp.ones((3, 2))}}, 0.0, XS)
    assert len(traces) == 1
    apply(fn)({"params": {"w": jnp.ones((3, 2))}}, 0.0, XS, rngs={"noise": KEY})
    assert len(traces) == 2


def test_carried_variables_go_from_step_to_step():
    fn = lift.scan(body, variable_broadcast="params", variable_carry="state", reverse=True)
    variables = {"params": {"w": jnp.ones((3, 2))}, "state": {"n": jnp.float32(1)}}
    (c, _), new = apply(fn, mutable=["state"])(variables, 0.0, XS)
    assert new["state"]["n"] == 3
    same(c, jnp.float32(2 * XS.sum()))


def test_a_carry_that_nobody_may_write_is_shared():
    fn = lift.scan(lambda s, c, x: (c, x + s.get_variable("state", "n")), variable_carry=["state", "cache"])
    variables = {"state": {"n": jnp.float32(1)}, "cache": {}}
    same(apply(fn)(variables, 0.0, XS)[1], XS + 1)
    same(apply(fn, mutable="cache")(variables, 0.0, XS)[0][1], XS + 1)


def test_scan_takes_more_than_steps_of_arguments():
    fn = lift.scan(
        lambda s, c, x, b: (c, (x["v"] * b, b)), in_axes=(-1, axes_scan.broadcast), out_axes=(1, axes_scan.broadcast)
    )
    _, (ys, b) = apply(fn)({}, 0.0, {"v": XS}, 2.0)
    same((ys, b), (2 * XS, 2.0))


def test_metadata_follows_the_axes():
    def layer(scope, x, _=None):
        w = scope.param("w", meta.with_partitioning(random.normal, ("in", "out")), (3, 3))
        assert scope.get_variable("params", "w").names == ("in", "out")
        return x @ w, None

    names = {meta.PARTITION_NAME: "layers"}
    for at, want in ((0, ("layers", "in", "out")), (1, ("in", "layers", "out")), (-1, ("in", "out", "layers"))):
        fn = lift.scan(layer, {"params": at}, split_rngs={True: True}, length=2, metadata_params=names)
        (y, _), variables = init(fn)(KEY, X)
        box = variables["params"]["w"]
        assert box.names == want
        assert box.value.shape[at] == 2
        same(apply(fn)(variables, X)[0], y)
        mapped = lift.vmap(layer, {"params": at}, {True: True}, axis_size=2, in_axes=None, metadata_params=names)
        assert init(mapped)(KEY, X)[1]["params"]["w"].names == want


def test_jit_shares_its_trace_between_places():
    traces = []

    @lift.jit
    def layer(scope, x):
        traces.append(scope.path)
        return dense(scope, x)

    def model(scope, x):
        return [layer(scope.push(name), x) for name in "abc"]

    ys, variables = init(model)(KEY, X)
    assert traces == [("a",)]
    ws = [variables["params"][name]["w"] for name in "abc"]
    assert len({float(w[0, 0]) for w in ws}) == 3
    same(ys, [X @ w for w in ws])
    for _ in range(2):
        apply(model, mutable=["state"])(variables, X)
    assert len(traces) == 2
    with pytest.raises(Exception, match="immutable"):
        apply(model)(variables, X)


def test_jit_counts_draws_on_a_cache_hit():
    draw = lift.jit(lambda scope: scope.make_rng("noise"))

    def model(scope):
        return random.key_data(draw(scope)), random.key_data(draw(scope)), random.key_data(scope.make_rng("noise"))

    first, second = (apply(model)({}, rngs={"noise": KEY}) for _ in range(2))
    same(first, second)
    assert len({tuple(np.asarray(key)) for key in first}) == 3


def test_jit_with_static_and_donated_arguments():
    fn = lift.jit(
        lambda s, x, n, mode="a": x * n if mode == "a" and isinstance(n, int) else x,
        static_argnums=2,
        static_argnames="mode",
    )
    same(apply(lambda s, x: (fn(s, x, 3), fn(s, x, 3, mode="b")))({}, X), (3 * X, X))
    donated = jnp.ones(8)
    lift.jit(lambda s, x: x + 1, donate_argnums=1)(bind({}), donated)
    assert donated.is_deleted()


def test_remat_recomputes():
    calls = []

    def noted(scope, x):
        jax.debug.callback(lambda: calls.append(1))
        return jnp.sin(dense(scope, x)).sum()

    variables = {"params": {"w": jnp.ones((3, 2))}, "state": {"n": jnp.zeros(())}}
    run = lambda fn: jax.grad(lambda v: apply(fn, mutable="state")(v, X)[0])(variables)  # noqa: E731
    want = run(noted)
    jax.effects_barrier()
    once = len(calls)
    same(run(lift.remat(noted)), want)
    jax.effects_barrier()
    assert len(calls) == once + 2


@pytest.mark.parametrize("transform", [lift.remat, lambda fn: lambda s, x: jax.value_and_grad(
    lambda x: (x.sum(), lift.remat(fn)(s, x)), has_aux=True)(x)[0][1]], ids=["run", "differentiated"])  # fmt: skip
def test_constants_come_out_of_remat_as_arrays(transform):
    # NumPy arrays of the recorded program: `+=` on one would change what the next call gives.
    table = np.arange(2.0, dtype=np.float32)

    def set_up(scope, x):
        scope.put_variable("state", "table", table)
        scope.put_variable("state", "one", jnp.float32(1))
        return x, table, 3

    for _ in range(2):
        out, variables = apply(transform(set_up), mutable="state")({}, X)
        same((out[1:], variables), ((table, 3), {"state": {"table": table, "one": 1.0}}))
        for leaf in jax.tree.leaves((out, variables)):
            assert isinstance(leaf, jax.Array)
            leaf += 5
    same(table, np.arange(2.0))


def test_remat_scan_is_a_plain_loop():
    def layer(scope, x):
        return jnp.tanh(x @ scope.param("w", random.normal, (3, 3)))

    fn = lift.remat_scan(layer, (2, 3))
    y, variables = init(fn)(KEY, X)
    w = variables["params"]["w"]
    assert w.shape == (2, 3, 3, 3)

    def plain(w, x):
        for i in range(2):
            for j in range(3):
                x = jnp.tanh(x @ w[i, j])
        return x

    same(y, plain(w, X))
    grads = jax.grad(lambda v: apply(fn)(v, X).sum())(variables)
    same(grads["params"]["w"], jax.grad(lambda w: plain(w, X).sum())(w))


@pytest.mark.parametrize("index", [0, 1])
def test_branches_create_and_change_variables(index):
    def double(scope, x):
        return 2 * dense(scope, x)

    chosen = [
        lambda s, x: lift.cond(index == 0, dense, double, s, x),
        lambda s, x: lift.switch(index, [dense, double], s, x),
    ]
    for fn in chosen:
        y, variables = init(fn)(KEY, X)
        same(y, (index + 1) * (X @ variables["params"]["w"]))
        assert variables["state"]["n"] == 1
        assert apply(fn, mutable="state")(variables, X)[1]["state"]["n"] == 2


def test_while_loop_carries_state_and_folds_keys():
    def step(scope, c):
        scope.put_variable("state", "n", scope.get_variable("state", "n") + scope.get_variable("params", "b"))
        return [*c[1:], random.normal(scope.make_rng("noise"))]

    variables = {"params": {"b": 2.0}, "state": {"n": jnp.float32(0)}}

    def fn(scope):
        done = lambda s, c: s.get_variable("state", "n") < 5  # noqa: E731
        return lift.while_loop(done, step, scope, [jnp.float32(0)] * 3, "state", split_rngs={"noise": True})

    draws, new = apply(fn, mutable="state")(variables, rngs={"noise": KEY})
    assert new["state"]["n"] == 6
    assert len({float(x) for x in draws}) == 3


def test_derivatives_are_those_of_the_pure_function():
    w, variables = jnp.ones((3, 2)), {"params": {"w": jnp.ones((3, 2))}, "state": {"n": jnp.zeros(())}}
    pure = lambda w, x: jnp.sin(x @ w).sum()  # noqa: E731
    fn = lambda s, x: jnp.sin(dense(s, x)).sum()  # noqa: E731

    def backward(scope, x):
        y, vjp_fn = lift.vjp(fn, scope, x)
        return y, jax.jit(lambda f, g: f(g))(vjp_fn, 1.0)

    (y, (params_t, x_t)), new = apply(backward, mutable="state")(variables, X)
    same((params_t["params"]["w"], x_t), jax.grad(pure, argnums=(0, 1))(w, X))
    same((y, new["state"]["n"]), (pure(w, X), jnp.float32(1)))
    forward = apply(lambda s, x: lift.jvp(fn, s, (x,), (x,), {"params": {"w": 2 * w}}), mutable="state")(variables, X)[
        0
    ]
    same(forward, jax.jvp(pure, (w, X), (2 * w, X)))
    got, aux, (grad,) = apply(
        lambda s, x: lift.value_and_grad(lambda s, x: (fn(s, x), x), s, x, has_aux=True), mutable="state"
    )(variables, X)[0]
    same((got, aux, grad), (pure(w, X), X, jax.grad(pure, 1)(w, X)))


def test_vjp_of_a_scope_inside_another():
    def fn(scope, x):
        y, backward = lift.vjp(lambda s, x: dense(s[0], x) * dense(s[1], x), (scope, scope.push("in")), x)
        return backward(jnp.ones_like(y))

    weights = {"w": jnp.ones((3, 2)), "in": {"w": 2 * jnp.ones((3, 2))}}
    state = {"n": jnp.zeros(()), "in": {"n": jnp.zeros(())}}
    ((outer_t, inner_t), x_t), new = apply(fn, mutable="state")({"params": weights, "state": state}, X)
    same(outer_t["params"]["in"], inner_t["params"])
    same(outer_t["params"]["w"], 2 * inner_t["params"]["w"])
    same(x_t, jnp.full(3, 24.0))
    same(new["state"], {"n": jnp.float32(1), "in": {"n": jnp.float32(1)}})


def test_map_variables_initializes_once_and_reads_mapped():
    transpose = lambda tree: jax.tree.map(jnp.transpose, tree)  # noqa: E731
    fn = lift.map_variables(dense, "params", transpose, transpose, init=True)
    y, variables = init(fn)(KEY, X)
    assert variables["params"]["w"].shape == (2, 3)
    same(y, X @ variables["params"]["w"].T)
    assert variables["state"]["n"] == 1
    same(apply(fn, mutable=True)(variables, X)[0], y)


def test_swap_collection():
    y, variables = init(lift.swap_collection(dense, "params", "other"))(KEY, X)
    assert set(variables) == {"other", "state"}
    same(y, X @ variables["other"]["w"])


def test_in_and_out_axes_go_one_way():
    def fn(scope, x):
        assert not scope.has_variable("made", "y")
        assert not scope.is_mutable_collection("given")
        scope.put_variable("made", "y", x + scope.get_variable("given", "a"))

    mapped = lift.vmap(fn, {"given": lift.In(0), "made": lift.Out(1)}, {})
    _, new = apply(mapped, mutable=True)({"given": {"a": jnp.arange(2.0)}, "made": {"y": XS}}, XS)
    same(new["made"]["y"], (XS + jnp.arange(2.0)[:, None]).T)


def test_pack_with_a_transform_of_ones_own():
    def twice(fn):
        def inner(scope_fn, repack, variables, rngs, x, *, scale):
            outs = []
            for _ in range(2):
                scope = scope_fn(variables, rngs)
                outs.append((scale * fn(scope, x), random.key_data(scope.make_rng("params"))))
                new = repack(scope)
            return outs, new

        return lift.pack(inner, [True], ["params", True], [True], name="twice", enable_kwargs=True)

    ((y, first), (_, second)), variables = init(lambda s, x: twice(dense)(s, x, scale=2))(KEY, X)
    assert set(variables) == {"params", "state"}
    assert y.shape == (2,)
    assert (first != second).any()


def test_fold_rngs_keeps_the_place_out_of_the_keys():
    seen = []

    def fn(scope):
        seen.append(scope.rngs["params"].suffix)
        return random.key_data(scope.make_rng())

    keys = init(lambda s: [lift.fold_rngs(fn)(s.push(name)) for name in "ab"])(KEY)[0]
    assert seen == [(), ()]
    assert (keys[0] != keys[1]).any()


def test_pmap_shard_map_and_checkify():
    carrier = ScopeCarrier(["state"], ["state"], [])

    def add(scope, x):
        scope.put_variable("state", "n", scope.get_variable("state", "n") + x)
        return 2 * x

    scope = bind({"state": {"n": jnp.ones((1, 3))}}, mutable=True)
    same(pmap(add, carrier, [axis(0)])(scope, X[None]), 2 * X[None])
    same(scope.get_variable("state", "n"), 1 + X[None])

    mesh = jax.make_mesh((1,), ("i",), axis_types=(jax.sharding.AxisType.Auto,))
    scope = bind({"state": {"n": jnp.ones(3)}}, mutable=True)
    mapped = shard_map(add, carrier, group_specs=[(P("i"), P("i"))], in_specs=P("i"), out_specs=P("i"), mesh=mesh)
    same(mapped(scope, X), 2 * X)
    same(scope.get_variable("state", "n"), 1 + X)

    def checked(scope, x):
        jax_checks.check(jnp.all(x > 0), "not positive")
        return add(scope, x)

    error, _ = checkify(checked, carrier)(scope, X)
    with pytest.raises(Exception, match="not positive"):
        error.throw()
    same(scope.get_variable("state", "n"), 1 + 2 * X)
