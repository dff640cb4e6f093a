"""fx_core.spmd: logical axis rules."""

import subprocess
import sys
import threading

import jax
import jax.numpy as jnp
import pytest
from fx_core import errors, placement, spmd
from jax.sharding import AbstractMesh, AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

RULES = (("batch", "data"), ("embed", "model"), ("embed", None), ("heads", "model"), ("both", ("data", "model")))
GRID = AbstractMesh((4, 2), ("data", "model"))


@pytest.fixture
def mesh():
    return jax.make_mesh((1,), ("data",), axis_types=(AxisType.Auto,))


@pytest.mark.parametrize(
    ("names", "mapped"),
    [
        (("batch", "embed"), ("data", None)),
        (("heads", "embed"), ("model", None)),
        (("foo", None), ("foo", None)),
        (("both", "embed"), (("data", "model"), None)),
        ((("batch", "embed"), None), (("batch", "embed"), None)),
        ((), ()),
    ],
)
def test_the_last_rule_of_a_name_counts_and_names_without_one_stay(names, mapped):
    assert spmd.from_sharding_rules(names, RULES) == mapped
    assert spmd.apply_rules(names, RULES) == P(*mapped)
    assert spmd.get_pspec(P(*names), RULES) == P(*mapped)


def test_no_sharding_stays_no_sharding():
    assert spmd.apply_rules(None, RULES) is None
    assert spmd.get_pspec(None) is None
    assert spmd.map_sharding(str, None) is None


def test_named_shardings_keep_their_mesh(mesh):
    sharding = NamedSharding(mesh, P("data"))
    assert spmd.apply_rules(sharding, (("data", None),)) == NamedSharding(mesh, P(None))
    assert spmd.get_mesh(sharding) == mesh
    assert spmd.get_mesh(("data",)) is None


def test_rules_combine_unless_they_disagree():
    first, second = (("a", "x"), ("b", None)), (("c", "y"), ("a", "x"))
    assert spmd.composite_rules(first, second) == (("a", "x"), ("b", None), ("c", "y"))
    assert spmd.composite_rules(None, second) == second
    assert spmd.composite_rules(first, None) == first
    with pytest.raises(errors.ShardingRuleError, match=r"'b' disagree.\n.*'b' -> None.*\n  got: also 'b' -> 'z'"):
        spmd.composite_rules(first, (("b", "z"),))


def test_rules_in_force_end_with_their_block_and_nest():
    assert spmd.get_logical_axis_rules() == ()
    with spmd.logical_axis_rules(RULES):
        assert spmd.get_pspec(("batch", "embed")) == P("data", None)
        assert spmd.get_pspec(("batch", "q"), (("q", "model"),)) == P("data", "model")
        with spmd.logical_axis_rules((("batch", "z"),)):
            assert spmd.get_pspec(("batch", "embed")) == P("z", "embed")
        with pytest.raises(errors.ShardingRuleError, match="logical axis 'batch'"):
            spmd.get_pspec(("batch",), (("batch", "z"),))
    assert spmd.get_logical_axis_rules() == ()


def test_rules_belong_to_their_thread():
    seen = []

    def work():
        seen.append(spmd.get_logical_axis_rules())
        spmd.set_logical_axis_rules((("inner", "x"),))
        seen.append(spmd.get_logical_axis_rules())

    with spmd.logical_axis_rules(RULES):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        assert spmd.get_logical_axis_rules() == RULES
    assert seen == [(), (("inner", "x"),)]


@pytest.mark.parametrize(
    ("shape", "names", "error", "text"),
    [
        (
            (8, 3),
            ("batch", "heads"),
            errors.ShardingRuleError,
            r"'heads', dimension 1 of an array of shape \(8, 3\), cannot be divided over mesh axis 'model' of size 2",
        ),
        ((6,), ("both",), errors.ShardingRuleError, r"mesh axis \('data', 'model'\) of size 8"),
        (
            (8,),
            ("foo",),
            errors.ShardingRuleError,
            r"'foo' of an array of shape \(8,\) is mapped to 'foo', which .*\n.*\{'data': 4, 'model': 2\}",
        ),
        (
            (8, 8),
            ("heads", "both"),
            errors.ShardingRuleError,
            r"'heads' and 'both' of an array of shape \(8, 8\) are both mapped to mesh axis 'model' of size 2",
        ),
        ((), ("batch",), errors.ShardingRuleError, r"shape \(\) has 1 axis names"),
    ],
)
def test_a_rule_that_cannot_be_met_names_axis_shape_and_size(shape, names, error, text):
    with pytest.raises(error, match=text) as caught:
        placement.check_spec(shape, tuple(spmd.get_pspec(names, RULES)), GRID, names)
    assert isinstance(caught.value, errors.ShardingRuleError)
    assert caught.value.shape == shape


def test_values_are_laid_out_by_names(mesh):
    x = jnp.ones((2, 2))
    assert spmd.shard_value(x, None, None, None) is x
    assert spmd.shard_value(x, ("batch", None), RULES, mesh).sharding == NamedSharding(mesh, P("data", None))
    assert spmd.shard_value(x, NamedSharding(mesh, P("data")), RULES, None).sharding.spec == P("data")
    with jax.set_mesh(mesh):
        assert spmd.shard_value({"x": x}, ("batch",), RULES, None)["x"].sharding.spec == P("data")
        with pytest.raises(errors.ShardingRuleError, match=r"'heads' of an array .* mapped to 'model'"):
            spmd.shard_value(x, ("heads",), RULES, None)
    with pytest.raises(errors.ShardingRuleError, match=r"got: P.*'data'.* and no mesh"):
        spmd.shard_value(x, ("batch",), RULES, None)


EIGHT_DEVICES = """
import jax
jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", 8)
import jax.numpy as jnp
from jax.sharding import AxisType, PartitionSpec as P
from fx_core import errors, meta, spmd
AUTO, EXPLICIT = AxisType.Auto, AxisType.Explicit
x = jnp.arange(32.0).reshape(8, 4)

for kinds in ((AUTO, AUTO), (EXPLICIT, EXPLICIT), (AUTO, EXPLICIT)):
    with jax.set_mesh(jax.make_mesh((4, 2), ("data", "model"), axis_types=kinds)):
        box = meta.Partitioned(x, ("data", "model"))
        for made in (box.unbox(), jax.jit(meta.unbox)(box), jax.jit(box.unbox)()):
            assert {shard.data.shape for shard in made.addressable_shards} == {(2, 2)}, (kinds, made.sharding)
            assert (made == x).all()

mesh = jax.make_mesh((4, 2), ("data", "model"), axis_types=(AUTO, AUTO))
box = meta.Partitioned(x, ("data", "model"), mesh)
for made in (box.unbox(), jax.jit(box.unbox)()):
    assert {shard.data.shape for shard in made.addressable_shards} == {(2, 2)}
with jax.set_mesh(mesh):
    made = jax.vmap(lambda row: meta.Partitioned(row, ("model",)).unbox())(x)
    gradient = jax.grad(lambda x: (meta.Partitioned(x, ("data", "model")).unbox() ** 2).sum())(x)
assert (made == x).all() and (gradient == 2 * x).all()
try:
    spmd.shard_value(x[:6], ("batch", None), (("batch", "data"),), mesh)
except errors.ShardingRuleError as error:
    assert "'batch', dimension 0 of an array of shape (6, 4)" in str(error) and "'data' of size 4" in str(error)
else:
    raise AssertionError("6 rows on 4 devices")

# Inside of jit the compiler lays out what cannot be divided evenly, unless the axis is Explicit.
import warnings
uneven = lambda kinds: meta.Partitioned(
    x[:6], ("data", None), jax.make_mesh((4, 2), ("data", "model"), axis_types=kinds)
)
with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    made = jax.jit(lambda box: 2 * box.unbox())(uneven((AUTO, EXPLICIT)))
assert (made == 2 * x[:6]).all() and "'data' of size 4" in str(said[0].message), said
try:
    jax.jit(lambda box: box.unbox())(uneven((EXPLICIT, AUTO)))
except errors.ShardingRuleError as error:
    assert "expected: a multiple of 4" in str(error)
else:
    raise AssertionError("6 rows on 4 explicit devices")

# Inside shard_map the arrays are pieces: names of manual axes ask for nothing.
def piece(part):
    assert part.shape == (2, 2)
    part = meta.Partitioned(part, ("data", "model"), mesh).unbox()
    return meta.Partitioned(part, ("data", "model")).unbox()
with jax.set_mesh(mesh):
    out = jax.jit(jax.shard_map(piece, in_specs=P("data", "model"), out_specs=P("data", "model")))(x)
assert (out == x).all()
print("done")
"""


def test_layouts_on_eight_devices():
    done = subprocess.run([sys.executable, "-c", EIGHT_DEVICES], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "done", done.stderr
