"""Variables that functions create in their arguments, next to attributes that are bare arrays."""

import fx_nnx as nnx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fx_nnx.errors import StateStructureError, TraceLevelError
from fx_transforms.errors import BroadcastVariableError, CarryChangedError


class Carried(nnx.Pytree):
    def __init__(self, x):
        self.x = nnx.data(x)
        self.parts = nnx.data([x, {"deep": x}])


class Net(nnx.Module):
    def __init__(self):
        self.w = nnx.Param(jnp.array(2.0))
        self.table = jnp.array([1.0])

    def __call__(self, x):
        y = self.w * x
        self.sow(nnx.Intermediate, "seen", y)
        return y


MODES = [{}, {"graph_updates": False}, {"graph": False}]


def advance(c):
    c.x = c.x * 2
    c.parts[0] = c.parts[0] + 1
    c.parts[1]["deep"] = c.parts[1]["deep"] + 2
    return c


@pytest.mark.parametrize("mode", MODES, ids=str)
@pytest.mark.parametrize("compiled", [False, True])
def test_a_carry_with_arrays_in_attributes_next_to_what_is_sown(mode, compiled):
    axes = nnx.StateAxes({nnx.Intermediate: 0, ...: nnx.Carry})

    def step(net, c):
        c = advance(c)
        net(c.x)
        net.table = net.table + 1
        return c

    if mode:
        axes = None
    loop = nnx.scan(step, in_axes=(axes, nnx.Carry), out_axes=nnx.Carry, length=3, **mode)
    net, c = Net(), Carried(jnp.array(1.0))
    out = (nnx.jit(loop) if compiled else loop)(net, c)
    assert (float(out.x), float(out.parts[0]), float(out.parts[1]["deep"])) == (8.0, 4.0, 7.0)
    if not mode:
        assert out is c
        np.testing.assert_array_equal(net.seen[...][0], [4.0, 8.0, 16.0])
        assert float(net.table[0]) == 4.0


def test_a_carry_of_several_objects_and_arrays():
    net, c = Net(), Carried(jnp.array(1.0))

    @nnx.scan(in_axes=(nnx.Carry, 0), out_axes=(nnx.Carry, 0))
    def loop(carry, x):
        c, n, (other,) = carry
        c.x = c.x + x
        other.x = other.x + n
        return (c, n + 1, (other,)), c.x

    (c2, n, (other,)), xs = loop((c, 0, (Carried(jnp.array(0)),)), jnp.arange(4.0))
    assert c2 is c
    assert (float(c.x), int(n), int(other.x)) == (7.0, 4, 6)
    np.testing.assert_array_equal(xs, [1, 2, 4, 7])
    del net


def test_containers_that_a_step_replaces():
    class Holder(nnx.Pytree):
        def __init__(self):
            self.items = nnx.data([jnp.array(0.0)])
            self.pair = nnx.data((jnp.array(0.0),))

    @nnx.jit
    def grow(net, holder):
        holder.items = [holder.items[0] + 1]
        net(1.0)

    holder = Holder()
    grow(Net(), holder)
    assert float(holder.items[0]) == 1.0

    def replace(net, holder):
        net(1.0)
        holder.pair = (holder.pair[0] + 1,)
        return holder

    with pytest.raises(StateStructureError, match="immutable tuple"):
        nnx.scan(replace, in_axes=(None, nnx.Carry), out_axes=nnx.Carry, length=2, graph_updates=False)(Net(), Holder())


def test_objects_that_a_function_replaces_keep_what_they_had():
    class Pair(nnx.Pytree):
        def __init__(self):
            self.part = Carried(jnp.array(1.0))

    pair = Pair()
    old = pair.part

    @nnx.jit
    def replace(pair):
        pair.part = Carried(jnp.array(5.0))

    replace(pair)
    assert float(pair.part.x) == 5.0
    assert float(old.x) == 1.0


def test_variables_created_in_a_wrong_place_are_named():
    def step(net, c):
        net(c.x)
        return c

    with pytest.raises(BroadcastVariableError, match="argument 0/seen"):
        nnx.scan(step, in_axes=(None, nnx.Carry), out_axes=nnx.Carry, length=2)(Net(), Carried(jnp.array(1.0)))
    with pytest.raises(CarryChangedError, match="seen"):
        nnx.scan(step, in_axes=(nnx.StateAxes({...: nnx.Carry}), nnx.Carry), out_axes=nnx.Carry, length=2)(
            Net(), Carried(jnp.array(1.0))
        )


TRANSFORMS = {
    "jit": nnx.jit,
    "remat": nnx.remat,
    "value_and_grad": lambda f, **m: lambda net, x: nnx.value_and_grad(f, **m)(net, x)[0],
    "cond": lambda f, **m: lambda net, x: nnx.cond(True, f, f, net, x, **m),
    "jit of grad": lambda f, **m: nnx.jit(lambda net, x: nnx.value_and_grad(f, **m)(net, x)[0]),
    "jit of remat": lambda f, **m: nnx.jit(nnx.remat(f, **m), **m),
}


@pytest.mark.parametrize("mode", MODES, ids=str)
@pytest.mark.parametrize("transform", TRANSFORMS)
def test_capture_around_transforms(transform, mode):
    net, f = Net(), TRANSFORMS[transform](lambda net, x: net(x), **mode)
    if mode:
        f(net, 3.0)  # compiled without a capture
        assert not hasattr(net, "seen")
    for x in (3.0, 4.0):
        y, found = nnx.capture(f, nnx.Intermediate)(net, x)
        assert float(y) == float(found["seen"][0]) == 2 * x
    assert not hasattr(net, "seen")


@pytest.mark.parametrize("mode", MODES, ids=str)
def test_gradients_of_a_captured_function_have_the_structure_that_came_in(mode):
    net = Net()
    grads, found = nnx.capture(nnx.grad(lambda net, x: net(x), **mode), nnx.Intermediate)(net, 3.0)
    assert float(grads.w[...]) == 3.0
    assert float(found["seen"][0]) == 6.0
    assert "seen" not in (vars(grads) if mode else grads)


@pytest.mark.parametrize("mode", MODES, ids=str)
def test_what_all_steps_share_cannot_be_sown_into(mode):
    def looped(net, xs):
        return nnx.scan(lambda net, c, x: (c, net(x)), in_axes=(None, nnx.Carry, 0), out_axes=(nnx.Carry, 0), **mode)(
            net, 0, xs
        )

    with pytest.raises((BroadcastVariableError, CarryChangedError), match="argument 0/__captures__"):
        nnx.capture(looped, nnx.Intermediate)(Net(), jnp.ones(2))


def test_dropout_of_a_model_merged_inside_of_jax_grad():
    model = nnx.MultiHeadAttention(2, 8, 8, 8, rngs=nnx.Rngs(0), dropout_rate=0.1)
    model.train()
    graphdef, params, rest = nnx.split(model, nnx.Param, ...)
    x = jnp.ones((4, 6, 8))

    def loss(params, rest, copy):
        return nnx.merge(graphdef, params, rest, copy=copy)(x, decode=False).sum()

    grads = jax.grad(loss)(params, rest, True)
    assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(grads))
    with pytest.raises(TraceLevelError, match=r"(?s)count.*copy=True"):
        jax.grad(loss)(params, rest, False)
    jax.grad(loss)(params, rest, True)
    assert model(x, decode=False).shape == x.shape
