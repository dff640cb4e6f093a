"""Lifted loops over axes against those of flax.core.lift: same variables, same keys, same numbers, to the bit."""

import flax.core
import fx_transforms.axes_scan
import fx_transforms.lift
import jax
import jax.numpy as jnp
import pytest
from jax import random
from lifted import KEY, RNGS, XS, Ours, Theirs, X, check, dense, in_a

CASES = {}


def case(fn):
    CASES[fn.__name__] = fn
    return fn


@case
def in_and_out(f):
    def fn(scope, c, x):
        y = scope.variable("made", "y", lambda: x).value
        return c + scope.get_variable("given", "a"), y

    fn = f.lift.scan(fn, variable_axes={"given": f.lift.In(0), "made": f.lift.Out(1)}, in_axes=0)
    return f.apply(fn, mutable=True)({"given": {"a": jnp.arange(2.0)}}, 0.0, XS)


def body(scope, c, x):
    y = dense(scope, x)
    return c + y.sum(), (y, random.key_data(scope.make_rng("noise")))


def scans(**options):
    return lambda f: f.init(lambda s, x: in_a(lambda s: f.lift.scan(body, **options)(s, 0.0, x))(s))(RNGS, XS)


CASES["scan_axes"] = scans(variable_axes={True: 0}, split_rngs={True: True})
CASES["scan_axis_1"] = scans(variable_axes={"params": 1, "state": 0}, split_rngs={True: True}, in_axes=1, out_axes=1)
CASES["scan_negative"] = scans(
    variable_axes={"params": -1, "state": 0}, split_rngs={True: True}, in_axes=-1, out_axes=-1
)
CASES["scan_broadcast"] = scans(variable_broadcast=True, split_rngs={"params": False, "noise": True})
CASES["scan_mixed"] = scans(
    variable_broadcast="params", variable_axes={"state": 0}, split_rngs={"params": False, "noise": True}
)
CASES["scan_reverse"] = scans(variable_axes={True: 0}, split_rngs={True: True}, reverse=True, length=2)
CASES["scan_unroll"] = scans(variable_axes={True: 0}, split_rngs={True: True}, unroll=2)


@case
def scan_carry(f):
    fn = f.lift.scan(dense_body, variable_broadcast="params", variable_carry="state")
    variables = {"params": {"w": XS.T}, "state": {"n": jnp.float32(3)}}
    return f.apply(fn, mutable=["state"])(variables, 1.0, XS)


def dense_body(scope, c, x):
    y = dense(scope, x)
    return c + y.sum(), (y, scope.get_variable("state", "n"))


@case
def scan_broadcast_arguments(f):
    fn = f.lift.scan(
        lambda s, c, x, b: (c + dense(s, x) @ b, (x, b)),
        variable_axes={True: 0},
        split_rngs={True: True},
        in_axes=(0, f.axes_scan.broadcast),
        out_axes=(0, f.axes_scan.broadcast),
    )
    return f.init(fn)(KEY, 0.0, XS, jnp.ones(2))


@case
def scan_unchecked(f):
    fn = f.lift.scan(
        dense_body, variable_broadcast="params", variable_axes={"state": 0}, check_constancy_invariants=False
    )
    variables = {"params": {"w": XS.T}, "state": {"n": jnp.arange(2.0)}}
    return f.apply(fn, mutable=["state"])(variables, 1.0, XS)


@case
def scan_data_transform(f):
    def double(variable_groups, rng_groups):
        return jax.tree.map(lambda x: 2 * x, variable_groups), rng_groups

    fn = f.lift.scan(dense_body, variable_broadcast="params", variable_axes={"state": 0}, data_transform=double)
    return f.apply(fn, mutable=["state"])({"params": {"w": XS.T}, "state": {"n": jnp.arange(2.0)}}, 1.0, XS)


@case
def scan_partitioned(f):
    def fn(scope, x, _):
        return jnp.tanh(x @ scope.param("w", f.meta.with_partitioning(random.normal, ("in", "out")), (3, 3))), None

    params = {f.meta.PARTITION_NAME: "layers"}
    looped = f.lift.scan(fn, {"params": 0}, split_rngs={"params": True}, length=4, metadata_params=params)
    y, variables = f.init(looped)(KEY, X, None)
    assert variables["params"]["w"].names == ("layers", "in", "out")
    return y, variables, f.apply(looped)(variables, X, None)


@case
def scan_gradient(f):
    fn = f.lift.scan(dense_body, variable_axes={True: 0}, split_rngs={True: True})
    _, variables = f.init(fn)(KEY, 0.0, XS)
    return jax.grad(lambda v: f.apply(fn, mutable=True)(v, 0.0, XS)[0][0] ** 2)(variables)


@case
def scan_of_vmap_of_remat(f):
    inner = f.lift.vmap(f.lift.remat(dense), {"params": 0, "state": 0}, {True: True}, in_axes=None, axis_size=2)
    fn = f.lift.scan(
        lambda s, c, x: (c + 1, inner(s.push("in"), x)), {"state": 0}, "params", split_rngs={"params": False}
    )
    return f.init(fn)(KEY, 0, XS)


@case
def vmap_of_scan(f):
    looped = f.lift.scan(dense_body, {"state": 0}, "params", split_rngs={"params": False})
    fn = f.lift.vmap(lambda s, x: looped(s, 0.0, x), {True: 1}, {True: True}, in_axes=0)
    return f.init(lambda s, x: fn(s.push("m"), x))(KEY, jnp.ones((2, 4, 3)))


@case
def remat_scan(f):
    def layer(scope, x):
        return jnp.tanh(x @ scope.param("w", random.normal, (3, 3)))

    fn = f.lift.remat_scan(layer, (2, 3))
    y, variables = f.init(fn)(KEY, X)
    return y, variables, jax.grad(lambda v: f.apply(fn)(v, X).sum())(variables)


@case
def remat_scan_axis(f):
    def layer(scope, x):
        return x + random.normal(scope.make_rng("noise"), x.shape) * scope.param("w", random.normal, (3,))

    fn = f.lift.remat_scan(layer, (2, 2), variable_axes={"params": 1}, split_rngs={"params": True, "noise": True})
    return f.init(fn)(RNGS, X)


@case
def axes_scan(f):
    loop = f.axes_scan.scan(lambda b, c, x: (b + 2, c + 1, 2 * x), in_axes=1, out_axes=-1, reverse=True)
    both = (0, f.axes_scan.broadcast)
    shared = f.axes_scan.scan(lambda b, c, x, y: (b, c + x, (x, b * y)), in_axes=both, out_axes=both)
    return jax.tree.map(jnp.asarray, (loop(1, 2, XS), shared(3, 0.0, X, 5)))


@pytest.mark.parametrize("name", sorted(CASES))
def test_same_as_flax(name):
    run = CASES[name]
    check(run(Ours), run(Theirs))


def test_build_shaped_array():
    for batch_dim in (True, False):
        ours = fx_transforms.axes_scan.build_shaped_array(XS, batch_dim)
        assert ours == flax.core.axes_scan.build_shaped_array(XS, batch_dim)
