"""Adapters in inference views: they become part of the layers that they change."""

import fx_compress
import fx_linen as nn
import fx_nnx as nnx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

VECTOR = jax.random.normal(jax.random.key(1), (3, 6))


def close(got, want):
    np.testing.assert_allclose(got, want, rtol=2e-4, atol=2e-4 * float(jnp.abs(want).max()))


class Adapted(nnx.Module):
    def __init__(self, rngs):
        self.first = nnx.LoRALinear(6, 5, lora_rank=2, rngs=rngs)
        self.rest = nnx.List([nnx.LoRA(5, 2, 4, base_module=nnx.Linear(5, 4, rngs=rngs), rngs=rngs)])
        self.conv = nnx.LoRA(4, 2, 4, base_module=nnx.Conv(4, 4, (1,), rngs=rngs), rngs=rngs)

    def __call__(self, x):
        return self.conv(self.rest[0](jax.nn.relu(self.first(x)))[None])


def test_adapters_become_linear_layers():
    model = Adapted(nnx.Rngs(0))
    nnx.update(model, jax.tree.map(lambda x: x + 0.3, nnx.state(model, nnx.LoRAParam)))
    view, report = fx_compress.for_inference(model, VECTOR)
    close(view(VECTOR), model(VECTOR))
    assert type(view.first) is type(view.rest[0]) is nnx.Linear
    assert type(view.conv) is nnx.LoRA
    assert [(c.path, c.what) for c in report.changes[-1:]] == [("conv", "adapter merged into conv/base_module/kernel")]
    assert all(change.done for change in report.changes)
    left = [change for change in fx_compress.for_inference(model)[1].changes if not change.done]
    assert [(c.path, c.what) for c in left] == [("conv", "adapter not merged: its layer is a Conv, not a Linear")]
    whole, _ = fx_compress.for_inference(model.first)
    assert type(whole) is nnx.Linear
    close(whole(VECTOR), model.first(VECTOR))
    assert type(model.first) is nnx.LoRALinear
    small = fx_compress.quantize(model, {"first/kernel": fx_compress.int8()})
    assert "dequantize it first" in str(fx_compress.for_inference(small)[1])
    twice = nnx.LoRA(6, 2, 5, base_module=model.first, rngs=nnx.Rngs(3))
    twice.lora_b[...] += 0.2
    close(fx_compress.for_inference(twice)[0](VECTOR), twice(VECTOR))


class LinenAdapted(nn.Module):
    """Adapters over layers inside and beside them, twice over one, and over a layer that two of them share."""

    @nn.compact
    def __call__(self, x):
        x = jnp.tanh(nn.LoRA(2, nn.Dense(5, name="one"), name="first")(x))
        x = nn.LoRA(2, nn.LoRA(3, nn.Dense(6, use_bias=False, name="two"), name="inner"), name="outer")(x)
        shared = nn.Dense(6, name="shared")
        x = nn.LoRA(2, shared, name="third")(x) + nn.LoRA(2, shared, name="fourth")(x)
        return nn.LoRA(2, nn.Conv(4, (1,), name="conv"), name="last")(x)


def test_linen_adapters_are_merged_into_the_kernels_that_they_change():
    net = LinenAdapted()
    variables = net.init(jax.random.key(0), VECTOR)
    variables = jax.tree_util.tree_map_with_path(lambda p, x: x + 0.3 if "lora" in p[-1].key else x, variables)
    (_, view), report = fx_compress.for_inference((net, variables), VECTOR)
    close(net.apply(view, VECTOR), net.apply(variables, VECTOR))
    done = {c.path: c.what for c in report.changes if c.done}
    assert done == {
        "params/first": "adapter merged into params/one/kernel",
        "params/inner": "adapter merged into params/two/kernel",
        "params/outer": "adapter merged into params/two/kernel",
        "params/last": "adapter merged into params/conv/kernel",
    }
    assert {c.path for c in report.changes if not c.done} == {"params/third", "params/fourth"}
    want = (
        variables["params"]["one"]["kernel"]
        + variables["params"]["first"]["lora_a"] @ variables["params"]["first"]["lora_b"]
    )
    close(view["params"]["one"]["kernel"], want)
    for name in ("first", "inner", "outer"):
        assert not view["params"][name]["lora_b"].any()
    np.testing.assert_array_equal(view["params"]["shared"]["kernel"], variables["params"]["shared"]["kernel"])
    # Codes take no change, and without inputs nobody knows which layer an adapter changes.
    small = fx_compress.quantize(variables, {"*/one/kernel": fx_compress.int8()})
    assert "params/first: adapter not merged: its layer has no kernel of floats" in str(
        fx_compress.for_inference((net, small), VECTOR)[1]
    )
    assert "left: params/first: adapter not merged: there are no sample" in str(
        fx_compress.for_inference((net, variables))[1]
    )


@pytest.mark.parametrize(
    ("options", "place"),
    [
        ({"padding": "SAME"}, (1, 1)),
        ({"padding": ((0, 2), (4, 0)), "kernel_dilation": (1, 2)}, (0, 2)),
        ({"padding": ((2, 0), (1, 1)), "kernel_dilation": (1, 1), "use_bias": False}, (2, 1)),
        ({"padding": ((1, 1), (1, 3)), "kernel_dilation": (1, 2)}, "is for the position of the result"),
        ({"feature_group_count": 3}, "strides or groups"),
        ({"padding": "CIRCULAR"}, "no kernel of floats for the same inputs"),
    ],
)
def test_adapters_of_convolutions_change_what_meets_the_position_of_the_result(options, place):
    net, x = nn.LoRA(2, nn.Conv(3, (3, 3), name="conv", **options)), jax.random.normal(jax.random.key(0), (2, 5, 4, 3))
    net = nn.Sequential([net])
    variables = jax.tree.map(lambda a: a + 0.1, net.init(jax.random.key(1), x))
    (_, view), report = fx_compress.for_inference((net, variables), x)
    close(net.apply(view, x), net.apply(variables, x))
    (change,) = report.changes
    assert change.done == isinstance(place, tuple)
    if not change.done:
        assert place in change.what
        return
    kernels = [jax.tree_util.tree_flatten_with_path(each)[0] for each in (variables, view)]
    (moved,) = (b - a for (path, a), (_, b) in zip(*kernels) if path[-1].key == "kernel")
    assert float(jnp.abs(moved[place]).min()) > 0
    assert not moved.at[place].set(0.0).any()


def test_an_adapter_whose_change_is_the_result_stays():
    class Net(nnx.Module):
        def __init__(self, rngs):
            self.adapter = nnx.LoRA(6, 2, 4, rngs=rngs)

        def __call__(self, x):
            return self.adapter(x)

    _, report = fx_compress.for_inference(Net(nnx.Rngs(0)), jnp.ones((2, 6)))
    assert "left: adapter: adapter not merged: its change is not added to the result of a layer" in str(report)
