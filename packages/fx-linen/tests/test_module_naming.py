"""Names of submodules and variables, and where modules belong."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import fx_linen as nn
import jax
import jax.numpy as jnp
import pytest
from fx_core import config, errors, struct
from fx_core.frozen_dict import FrozenDict

KEY = jax.random.key(0)
X = jnp.ones((1, 3))


class Affine(nn.Module):
    features: int = 3

    @nn.compact
    def __call__(self, x):
        w = self.param("w", jax.nn.initializers.normal(), (x.shape[-1], self.features))
        return x @ w


def names(variables):
    return {"/".join(k.key for k in path) for path, _ in jax.tree_util.tree_leaves_with_path(variables["params"])}


def test_compact_submodules_count_per_class():
    class Block(nn.Module):
        @nn.compact
        def __call__(self, x):
            return Affine()(x)

    class Net(nn.Module):
        @nn.compact
        def __call__(self, x):
            for _ in range(2):
                x = Affine()(Block()(x))
            return Affine(name="head")(x)

    assert names(Net().init(KEY, X)) == {
        "Affine_0/w", "Affine_1/w", "Block_0/Affine_0/w", "Block_1/Affine_0/w", "head/w",
    }  # fmt: skip


def test_calling_twice_shares_the_parameters():
    class Net(nn.Module):
        @nn.compact
        def __call__(self, x):
            block = Pair()
            return block(block(x))

    class Pair(nn.Module):
        @nn.compact
        def __call__(self, x):
            return Affine()(Affine()(x))

    assert names(Net().init(KEY, X)) == {"Pair_0/Affine_0/w", "Pair_0/Affine_1/w"}


def test_setup_names_by_attribute():
    class Net(nn.Module):
        def setup(self):
            self.one = Affine()
            self.many = [Affine(), {"a": Affine(), "b": (Affine(),)}]
            self.named = Affine(name="other")
            self.alias = self.one

        def __call__(self, x):
            assert isinstance(self.many, tuple)
            assert isinstance(self.many[1], FrozenDict)
            assert self.alias is self.one
            for layer in (self.one, self.many[0], self.many[1]["a"], self.many[1]["b"][0], self.named):
                x = layer(x)
            return x

    assert names(Net().init(KEY, X)) == {"one/w", "many_0/w", "many_1_a/w", "many_1_b_0/w", "other/w"}


def test_setup_and_compact_together():
    class Net(nn.Module):
        def setup(self):
            self.first = Affine()

        @nn.compact
        def __call__(self, x):
            return Affine()(self.first(x))

    assert names(Net().init(KEY, X)) == {"first/w", "Affine_0/w"}


def test_modules_in_fields():
    class Pair(NamedTuple):
        left: Any
        right: Any

    @struct.dataclass
    class Box:
        inner: Any

    class Net(nn.Module):
        body: nn.Module
        layers: Sequence[Any]
        table: Any
        pair: Any
        box: Any

        def __call__(self, x):
            layers = [self.body, *self.layers, *self.table.values(), *self.pair, self.box.inner]
            for layer in layers:
                x = layer(x)
            return x

    net = Net(Affine(), [Affine(name="ignored"), Affine()], {"k": Affine()}, Pair(Affine(), Affine()), Box(Affine()))
    expected = {"body/w", "layers_0/w", "layers_1/w", "table_k/w", "pair_0/w", "pair_1/w", "box_inner/w"}
    assert names(net.init(KEY, X)) == expected
    assert net.layers[0].name == "ignored"
    assert net.layers[0].scope is None


def test_preserve_adopted_names():
    class Net(nn.Module):
        body: nn.Module
        preserve_adopted_names = True

        def __call__(self, x):
            return self.body(x)

    assert names(Net(Affine(name="mine")).init(KEY, X)) == {"mine/w"}
    assert names(Net(Affine()).init(KEY, X)) == {"body/w"}


class Holder(nn.Module):
    body: Any

    def __call__(self, x):
        return self.body(x)


def test_a_module_from_outside_is_shared_below_one_top():
    shared = Affine()

    class Net(nn.Module):
        def setup(self):
            self.a, self.b = Holder(shared), Holder(shared)

        def __call__(self, x):
            assert self.a.body is self.b.body
            return self.b(self.a(x))

    assert names(Net().init(KEY, X)) == {"a/body/w"}
    assert shared.scope is None


def test_modules_made_inside_belong_to_the_maker():
    class Compact(nn.Module):
        @nn.compact
        def __call__(self, x):
            inner = Affine()
            return Holder(inner)(Holder(Affine(name="u"))(Holder(inner)(x)))

    class Setup(nn.Module):
        def setup(self):
            self.a = Holder(Affine())
            shared = Affine()
            self.b = Holder(shared)
            self.shared = shared
            self.c = Holder(Affine(name="u"))

        def __call__(self, x):
            assert self.shared is self.b.body
            return self.c(self.b(self.a(x)))

    class Orphan(nn.Module):
        @nn.compact
        def __call__(self, x):
            return Holder(Affine(parent=None), name="h")(x)

    assert names(Compact().init(KEY, X)) == {"Affine_0/w", "u/w"}
    assert names(Setup().init(KEY, X)) == {"a/body/w", "b/body/w", "u/w"}
    assert names(Orphan().init(KEY, X)) == {"h/body/w"}


def test_names_are_given_back_after_an_exception():
    class Failing(nn.Module):
        @nn.compact
        def __call__(self, x):
            Affine()(x)
            raise KeyError("on purpose")

    class Net(nn.Module):
        @nn.compact
        def __call__(self, x):
            failing = Failing()
            for _ in range(2):
                with pytest.raises(KeyError):
                    failing(x)
            return Affine()(x)

    assert names(Net().init(KEY, X)) == {"Affine_0/w", "Failing_0/Affine_0/w"}


def test_inherited_compact_methods_count_on():
    class Base(nn.Module):
        @nn.compact
        def __call__(self, x):
            return Affine()(x)

    class Derived(Base):
        @nn.compact
        def __call__(self, x):
            return super().__call__(x) + Affine()(x)

    class Other(Base):
        @nn.compact
        def other(self, x):
            return Affine()(self(x))

    assert names(Derived().init(KEY, X)) == {"Affine_0/w", "Affine_1/w"}
    assert names(Other().init(KEY, X, method="other")) == {"Affine_0/w", "Affine_1/w"}


def test_compact_name_scopes():
    class Net(nn.Module):
        @nn.compact_name_scope
        def up(self, x):
            return Affine(4)(x)

        @nn.compact_name_scope
        def down(self, x):
            return Affine(3)(x)

        def __call__(self, x):
            return self.down(self.up(self.down(self.up(x))))

        @nn.compact
        def both(self, x):
            return Affine(2)(self.down(self.up(x)))

        @nn.compact_name_scope
        def nested(self, x):
            return self.down(self.up(Affine()(x)))

    assert names(Net().init(KEY, X)) == {"up/Affine_0/w", "down/Affine_0/w"}
    assert names(Net().init(KEY, X, method="both")) == {"up/Affine_0/w", "down/Affine_0/w", "Affine_0/w"}
    assert names(Net().init(KEY, X, method="nested")) == {"up/Affine_0/w", "down/Affine_0/w", "nested/Affine_0/w"}
    with pytest.raises(nn.module.UnboundModuleError, match="compact_name_scope method 'up'"):
        Net().up(X)


def test_a_name_scope_may_not_take_a_name_in_use():
    class Net(nn.Module):
        @nn.compact_name_scope
        def up(self, x):
            return Affine()(x)

        @nn.compact
        def __call__(self, x):
            return self.up(Affine(name="up")(x))

    with pytest.raises(errors.NameInUseError, match="submodule 'up'"):
        Net().init(KEY, X)


def test_nowrap_lets_a_helper_make_submodules():
    class Net(nn.Module):
        @nn.nowrap
        def make(self, n):
            return Affine(n)

        @nn.compact
        def __call__(self, x):
            return self.make(2)(x)

    assert names(Net().init(KEY, X)) == {"Affine_0/w"}
    assert Net().make(5).features == 5


@pytest.mark.parametrize("first", ["param", "module"])
def test_names_in_use(first):
    class Net(nn.Module):
        @nn.compact
        def __call__(self, x):
            for what in (first, "module"):
                if what == "param":
                    self.param("a", jax.nn.initializers.zeros, ())
                else:
                    x = Affine(name="a")(x)
            return x

    with pytest.raises(errors.NameInUseError, match="submodule 'a'") as caught:
        Net().init(KEY, X)
    assert "Net" in caught.value.path


def test_names_in_use_by_setup():
    class Net(nn.Module):
        def setup(self):
            self.a = Affine()

        @nn.compact
        def __call__(self, x):
            return self.param("a", jax.nn.initializers.zeros, ())

    class Twice(nn.Module):
        def setup(self):
            self.a = Affine()
            self.a = Affine()

        def __call__(self, x):
            return x

    with pytest.raises(errors.NameInUseError, match="param 'a'"):
        Net().init(KEY, X)
    with pytest.raises(errors.NameInUseError, match="submodule 'a'"):
        Twice().init(KEY, X)


def test_one_name_in_several_collections():
    class Net(nn.Module):
        features: int = 2

        @nn.compact
        def __call__(self, x):
            a = self.param("features", jax.nn.initializers.ones, ())
            b = self.variable("state", "features", jnp.zeros, ())
            return a + b.value

    assert float(Net().init_with_output(KEY, X)[0]) == 1.0


def test_share_scope_moves_the_wrapped_module_up():
    class Lora(nn.Module):
        base: nn.Module

        def setup(self):
            nn.share_scope(self, self.base)

        @nn.compact
        def __call__(self, x):
            self.param("a", jax.nn.initializers.zeros, (2,))
            return self.base(x)

    class Deep(nn.Module):
        layers: Any

        def __call__(self, x):
            for layer in self.layers:
                x = layer(x)
            return x

    class Outside(nn.Module):
        @nn.compact
        def __call__(self, x):
            return Lora(Affine(name="b"))(x)

    assert names(Lora(Affine()).init(KEY, X)) == {"a", "w"}
    assert names(Lora(Deep([Affine(), Affine()])).init(KEY, X)) == {"a", "layers_0/w", "layers_1/w"}
    assert names(Outside().init(KEY, X)) == {"b/a", "b/w"}
    with pytest.raises(errors.CallShareScopeOnUnboundModuleError, match="needs bound modules"):
        nn.share_scope(Affine(), Affine())


def test_several_compact_methods():
    class Net(nn.Module):
        @nn.compact
        def up(self, x):
            return Affine(4)(x)

        @nn.compact
        def down(self, x):
            return Affine(3)(x)

        @nn.compact
        def within(self, x):
            return self.down(self.up(x))

        def after(self, x):
            return self.down(self.up(x))

        def shared(self, x):
            return self.down(self.down(x))

    assert names(Net().init(KEY, X, method="up")) == {"Affine_0/w"}
    assert names(Net().init(KEY, X, method="within")) == {"Affine_0/w", "Affine_1/w"}
    assert names(Net().init(KEY, X, method="shared")) == {"Affine_0/w"}
    with pytest.raises(errors.MultipleMethodsCompactError, match="more than one compact method") as caught:
        Net().init(KEY, X, method="after")
    assert isinstance(caught.value.__cause__, errors.ScopeParamShapeError)
    with pytest.raises(errors.ScopeParamShapeError, match="w"):
        Net().apply(Net().init(KEY, X, method="up"), X, method="after")


def test_preserve_adopted_names_everywhere():
    with config.override(preserve_adopted_names=True):
        assert names(Holder(Affine(name="mine")).init(KEY, X)) == {"mine/w"}
    assert names(Holder(Affine(name="mine")).init(KEY, X)) == {"body/w"}
