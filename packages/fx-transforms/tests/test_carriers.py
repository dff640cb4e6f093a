import fx_transforms
import jax
from fx_core.scope import bind
from fx_core.testing.carriers import CarrierSuite
from fx_transforms import Outcome, ScopeCarrier, Static


class DictCarrier:
    """The smallest carrier: a dict of arrays, one group per name."""

    def __init__(self, *names):
        self.names = names

    def split(self, handle):
        return Static(self.names), tuple({name: handle[name]} for name in self.names)

    def merge(self, shape, groups):
        return {name: x for group in groups if group is not None for name, x in group.items()}

    def collect(self, inner, out):
        return Outcome(Static(self.names), tuple({name: inner[name]} for name in self.names), out)

    def absorb(self, handle, shape, groups, out):
        for group in groups:
            handle.update(group or {})
        return out

    def follow(self, before, after):
        return before

    def join(self, shapes):
        return shapes[0]

    def writes(self, shape):
        return [True] * len(self.names)

    def label(self, group, path):
        return f"entry {self.names[group]!r}" + jax.tree_util.keystr(path[1:])


class TestDictCarrier(CarrierSuite):
    def engine(self):
        return fx_transforms

    def carrier(self):
        return DictCarrier("a", "b")

    def make(self, a, b):
        return {"a": a, "b": b}

    def read(self, state):
        return state["a"], state["b"]

    def write(self, state, a, b):
        state.update(a=a, b=b)


class TestScopeCarrier(CarrierSuite):
    whole = (0, 1)

    def engine(self):
        return fx_transforms

    def carrier(self):
        return ScopeCarrier(["first", "second"], ["first", "second"], [True], "suite", whole=self.whole)

    def make(self, a, b):
        variables = {"first": {"in": {"a": a}}, "second": {"b": b}}
        return bind(variables, {"noise": jax.random.key(0)}, mutable=True)

    def read(self, state):
        inner = state.push("in", reuse=True)
        return inner.get_variable("first", "a"), state.get_variable("second", "b")

    def write(self, state, a, b):
        state.push("in", reuse=True).put_variable("first", "a", a)
        state.put_variable("second", "b", b)


class TestTreesOfScopes(TestScopeCarrier):
    """Two scopes as the handle, one of them inside the other."""

    def make(self, a, b):
        scope = super().make(a, b)
        return {"inner": scope.push("in"), "outer": scope}

    def read(self, state):
        return state["inner"].get_variable("first", "a"), state["outer"].get_variable("second", "b")

    def write(self, state, a, b):
        state["inner"].put_variable("first", "a", a)
        state["outer"].put_variable("second", "b", b)
