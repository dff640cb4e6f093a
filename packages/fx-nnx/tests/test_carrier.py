"""The carrier of objects passes the suite for carriers."""

import fx_nnx as nnx
import fx_transforms
from fx_core.testing.carriers import CarrierSuite
from fx_nnx.transforms.carrier import ObjectCarrier
from fx_nnx.transforms.layout import Handle
from fx_nnx.transforms.policies import Grouping, GroupPolicy, Returns


class State:
    """A handle of the carrier suite: two variables in one argument."""

    def __new__(cls, a, b):
        handle = Handle(((nnx.Dict(a=nnx.Param(a), b=nnx.BatchStat(b)),), {}))
        return handle


def by_type(tree):
    del tree
    return lambda leaf, path, value: int(isinstance(value, nnx.BatchStat))


class TestObjectCarrier(CarrierSuite):
    def engine(self):
        return fx_transforms

    def carrier(self):
        groups = [GroupPolicy(kind, Returns.ALL) for kind in ("a", "b")]
        return ObjectCarrier(groups=groups, grouping=Grouping(by_type), transform="test")

    def make(self, a, b):
        return State(a, b)

    def read(self, state):
        model = state.tree[0][0]
        return model.a.get_raw_value(), model.b.get_raw_value()

    def write(self, state, a, b):
        model = state.tree[0][0]
        model.a.set_raw_value(a)
        model.b.set_raw_value(b)
