"""A stale record is impossible: random edits, each compared with a fresh walk."""

import copy
import pickle
import threading

import fx_nnx as nnx
import jax
import jax.numpy as jnp
from fx_nnx.graph.record import record_of, walk_graph
from hypothesis import given, settings
from hypothesis import strategies as st

ARRAY = jnp.zeros(1)


class Node(nnx.Module):
    def __init__(self):
        self.value = nnx.Param(ARRAY)
        self.array = ARRAY
        self.static = 0
        self.sizes = [1, {"deep": [2]}]
        self.plain = nnx.data([nnx.Param(ARRAY), {"k": ARRAY}])
        self.items = nnx.List([])
        self.names = nnx.Dict()


class OtherList(nnx.List):
    pass


OTHER_META = nnx.Param(ARRAY, other=1)._nnx_meta


def nodes_of(root):
    return [node for _, node in nnx.iter_graph(root) if type(node) is Node]


def variables_of(root):
    return [value for _, value in nnx.iter_graph(root) if isinstance(value, nnx.Variable)]


def check(root):
    kept, fresh = record_of(root), walk_graph(root)
    assert kept.graphdef == fresh.graphdef
    assert repr(kept.graphdef.attributes) == repr(fresh.graphdef.attributes)  # so that 0.0 is not -0.0
    assert kept.graphdef.paths == fresh.graphdef.paths
    kept_leaves, fresh_leaves = kept.read(), fresh.read()
    assert len(kept_leaves) == len(fresh_leaves)
    assert all(a is b for a, b in zip(kept_leaves, fresh_leaves))


def attach(node, root, other):
    node.child = other


def drop(node, root, other):
    if hasattr(node, "child"):
        del node.child


def merged_back(node, root, other):
    graphdef, state = nnx.split(node)
    nnx.merge(graphdef, state).static = 5


def in_a_thread(node, root, other):
    thread = threading.Thread(target=lambda: node.items.append(nnx.Param(ARRAY)))
    thread.start()
    record_of(root)  # while the other thread may be at it
    thread.join()


def in_a_trace(node, root, other):
    def edit(state):
        inside = nnx.merge(graphdef, state, copy=True)
        check(inside)
        inside.fresh = nnx.Param(ARRAY)
        check(inside)
        return nnx.split(inside)

    graphdef, state = nnx.split(node)
    node.made = nnx.merge(*jax.eval_shape(edit, state))


def named_in(plain):
    """The dict in a plain list, which another edit may have replaced by a list without one."""
    return plain[1] if isinstance(plain[1], dict) else {}


EDITS = {
    "set static": lambda n, r, o: setattr(n, "static", n.static + 1),
    "new static": lambda n, r, o: setattr(n, f"s{len(vars(n))}", None),
    "through vars": lambda n, r, o: vars(n).update(static=n.static + 1),
    "replace variable": lambda n, r, o: setattr(n, "value", nnx.Param(ARRAY)),
    "share variable": lambda n, r, o: setattr(n, "value", o.value),
    "change type": lambda n, r, o: setattr(n, "value", nnx.BatchStat(ARRAY)),
    "array to variable": lambda n, r, o: setattr(n, "array", nnx.Param(ARRAY)),
    "array to array": lambda n, r, o: setattr(n, "array", jnp.ones(1)),
    "metadata": lambda n, r, o: n.value.set_metadata(tag=n.static) if isinstance(n.value, nnx.Variable) else None,
    "metadata away": lambda n, r, o: n.value.has_metadata("tag") and n.value.del_metadata("tag"),
    "value": lambda n, r, o: n.value.set_value(jnp.ones(1)),
    "append": lambda n, r, o: n.items.append(Node()),
    "append shared": lambda n, r, o: n.items.append(o),
    "append static": lambda n, r, o: n.items.append(3),
    "insert": lambda n, r, o: n.items.insert(0, nnx.Param(ARRAY)),
    "pop item": lambda n, r, o: n.items.pop() if len(n.items) else None,
    "reverse": lambda n, r, o: n.items.reverse(),
    "name": lambda n, r, o: n.names.update(a=nnx.Param(ARRAY), b=len(n.names)),
    "unname": lambda n, r, o: n.names.pop("a", None),
    "plain append": lambda n, r, o: n.plain.append(nnx.Param(ARRAY)),
    "plain static": lambda n, r, o: n.plain.append(len(n.plain)),
    "plain swap": lambda n, r, o: n.plain.__setitem__(0, nnx.Param(ARRAY)),
    "plain array": lambda n, r, o: named_in(n.plain).update(k=jnp.ones(1)),
    "plain node": lambda n, r, o: named_in(n.plain).update(m=o),
    "plain key away": lambda n, r, o: named_in(n.plain).pop("m", None),
    "attach": attach,
    "drop": drop,
    "merge": merged_back,
    "eval": lambda n, r, o: r.set_attributes(static=1),
    "pop": lambda n, r, o: nnx.pop(n, nnx.BatchStat),
    "update": lambda n, r, o: nnx.update(n, {"fresh": nnx.Param(ARRAY)}),
    "copy": lambda n, r, o: setattr(n, "copy", copy.deepcopy(o)),
    "pickle": lambda n, r, o: setattr(n, "copy", pickle.loads(pickle.dumps(o))),
    "clone": lambda n, r, o: setattr(n, "made", nnx.clone(o)),
    "merge back": lambda n, r, o: setattr(n, "made", nnx.merge(*nnx.split(o), copy=True)),
    "share a clone's part": lambda n, r, o: setattr(n, "made", nnx.clone(o).items),
    "view": lambda n, r, o: setattr(n, "made", nnx.with_attributes(o, static=7)),
    "map": lambda n, r, o: setattr(n, "made", nnx.map(lambda path, x: x, o)),
    "update values": lambda n, r, o: nnx.update(n, nnx.state(nnx.clone(n))),
    "metadata of all": lambda n, r, o: nnx.set_metadata(n, level=n.static),
    "replace list": lambda n, r, o: setattr(n, "plain", nnx.data([o, ARRAY])) if len(n.plain) > 4 else None,
    "set slice": lambda n, r, o: n.items.__setitem__(slice(0, 1), [nnx.Param(ARRAY), o]),
    "break sharing": lambda n, r, o: setattr(n, "value", nnx.Param(ARRAY)) if hasattr(n, "value") else None,
    "thread": in_a_thread,
    "trace": in_a_trace,
    "split part": lambda n, r, o: nnx.split(o),
    "state again": lambda n, r, o: n.__setstate__(
        ({"kept": n.static, "own": nnx.Param(ARRAY)}, {"kept": False, "own": True})
    ),
    "initialize again": lambda n, r, o: variables_of(n)[0].__init__(ARRAY, again=n.static) if variables_of(n) else None,
    "restore variable": lambda n, r, o: (
        variables_of(n)[0].__setstate__((ARRAY, OTHER_META)) if variables_of(n) else None
    ),
    "class": lambda n, r, o: setattr(n, "__class__", type(n)),
    "list class": lambda n, r, o: setattr(n.items, "__class__", OtherList),
    "zero sign": lambda n, r, o: n.plain.append(0.0),
    "other zero": lambda n, r, o: n.plain.__setitem__(-1, -0.0) if n.plain[-1] == 0.0 else None,
    "inside static": lambda n, r, o: getattr(n, "sizes", []).append(n.static),
    "deep inside static": lambda n, r, o: hasattr(n, "sizes") and n.sizes[1]["deep"].append(o.static),
    "share static": lambda n, r, o: setattr(n, "sizes", getattr(o, "sizes", [1, {"deep": []}])),
    "tracing": lambda n, r, o: jax.eval_shape(lambda: nnx.split(nnx.clone(n))),
}
STEP = st.tuples(st.sampled_from(sorted(EDITS)), st.integers(0, 1000), st.integers(0, 1000))


@settings(deadline=None, max_examples=50)
@given(st.lists(STEP, min_size=1, max_size=12))
def test_a_record_always_equals_a_fresh_walk(steps):
    root = Node()
    check(root)
    for name, i, j in steps:
        nodes = nodes_of(root)
        if len(nodes) > 40:
            break
        node, other = nodes[i % len(nodes)], nodes[j % len(nodes)]
        if name in ("metadata", "metadata away", "value", "share variable") and not (
            hasattr(node, "value") and hasattr(other, "value")
        ):
            continue
        EDITS[name](node, root, other)
        check(root)
        check(other)


def test_edits_from_another_thread_are_seen():
    root, child = Node(), Node()
    root.items.append(child)
    check(root)

    def edit():
        for i in range(200):
            child.static = i
            child.value.set_metadata(tag=i)

    thread = threading.Thread(target=edit)
    thread.start()
    while thread.is_alive():
        record_of(root)
    thread.join()
    check(root)
    assert root.items[0].static == 199


def test_edits_inside_a_trace_are_seen():
    def f():
        root = Node()
        check(root)
        root.items.append(Node())
        check(root)
        root.items[0].value[...] = jnp.ones(1)
        check(root)
        return len(nnx.to_flat_state(nnx.state(root)))

    assert jax.jit(f)() == 8


def test_a_class_may_change_in_place():
    class Child(Node):
        pass

    root = nnx.Dict(node=Node())
    check(root)
    root.node.__class__ = Child
    check(root)
    assert type(nnx.clone(root).node) is Child
    assert "__class__" not in vars(root.node)


def test_attributes_that_nobody_announced_are_part_of_the_structure():
    node = Node()
    object.__setattr__(node, "hidden", 5)
    object.__setattr__(node, "weight", nnx.Param(ARRAY))
    check(node)
    made = nnx.clone(node)
    assert (made.hidden, type(made.weight)) == (5, nnx.Param)
    assert "weight" in nnx.state(node)
    assert len(jax.tree.leaves(node)) == len(jax.tree.leaves(made))
