"""FrozenDict: same texts, structures, copies and mistakes as the reference."""

import flax.core.frozen_dict
import fx_core.frozen_dict
import jax
import jax.numpy as jnp
import pytest

BOTH = [fx_core.frozen_dict, flax.core.frozen_dict]
# Keys are in order, since the reference sorts what it copies and we keep the order of insertion.
TREES = [
    {},
    {"a": {}},
    {"a": {"y": None, "z": 2}, "b": 1},
    {"a": {"b": {"c": 1, "d": "x"}}, "l": [{"x": 1}], "t": ({"x": 1}, ())},
    {0: {}, 1: 2},
    {"n": {"w": jnp.ones(1)}, "w": jnp.ones((2, 2))},
]
CALLS = {
    "repr": lambda m, d: repr(d),
    "pretty_repr": lambda m, d: [d.pretty_repr(2), m.pretty_repr(d.unfreeze(), 3), m.pretty_repr(3)],
    "views": lambda m, d: [repr(d.keys()), repr(d.values()), list(map(repr, d.items()))],
    "paths": lambda m, d: [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_flatten_with_path(d)[0]],
    "structure": lambda m, d: str(jax.tree.structure(d)),
    "map": lambda m, d: repr(jax.tree.map(lambda x: (x, x), d)),
    "with keys": lambda m, d: repr(d.tree_flatten_with_keys()),
    "unfreeze": lambda m, d: [repr(m.unfreeze(d)), repr(m.unfreeze({"x": d, "l": [d]}))],
    "freeze": lambda m, d: [repr(m.freeze({"x": d, "l": [d]})), repr(m.FrozenDict([("a", d)], b=d))],
    "copy": lambda m, d: [repr(d.copy({"a": {"n": d}})), repr(m.copy({"x": {"y": 1}}, d)), repr(m.copy(d, {"q": 0}))],
    "pop": lambda m, d: [repr((d.pop(k), m.pop(d, k), m.pop(d.unfreeze(), k))) for k in d],
    "get": lambda m, d: [repr(d.get(k)) for k in [*d, "none"]] + [len(d), bool(d), "a" in d],
    "equal": lambda m, d: (d is d, m.freeze({"x": None}) == {"x": None}, m.freeze({"x": {}}) == {"x": {}}),
}


@pytest.mark.parametrize("tree", TREES, ids=lambda tree: "-".join(map(str, tree)) or "empty")
@pytest.mark.parametrize("call", CALLS)
def test_the_same_comes_out(call, tree):
    ours, theirs = (CALLS[call](m, m.freeze(tree)) for m in BOTH)
    assert ours == theirs


MISUSE = {
    "set": (ValueError, lambda m: m.freeze({}).__setitem__("a", 1)),
    "pop": (KeyError, lambda m: m.freeze({}).pop("a")),
    "pop dict": (KeyError, lambda m: m.pop({}, "a")),
    "copy other": (TypeError, lambda m: m.copy(3, {})),
    "pop other": (TypeError, lambda m: m.pop(3, "a")),
    "freeze other": (TypeError, lambda m: m.freeze(3)),
    "hash": (TypeError, lambda m: hash(m.freeze({"a": jnp.ones(1)}))),
    "item": (KeyError, lambda m: m.freeze({})["a"]),
}


@pytest.mark.parametrize("case", MISUSE)
def test_the_same_mistakes_raise(case):
    kind, misuse = MISUSE[case]
    for m in BOTH:
        with pytest.raises(kind):
            misuse(m)
