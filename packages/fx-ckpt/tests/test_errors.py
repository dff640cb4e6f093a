"""Every mistake has its own error, with where, expected, got, and what to do."""

import pickle

import fx_ckpt
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fx_ckpt import errors
from fx_ckpt.tree.apart import put_together, take_apart
from fx_ckpt.tree.fit import compare
from fx_ckpt.tree.leaves import decode
from fx_ckpt.tree.structure import Leaf, from_json
from fx_core.errors import ArgumentError
from fx_core.errors.plugins import UnknownEntryError


def mismatch(saved, target):
    with pytest.raises(errors.RestoreMismatchError) as error:
        compare(take_apart(saved)[0], target, "ckpt")
    return error.value


def test_one_report_of_everything_that_differs():
    saved = {"w": jnp.ones((3, 4)), "b": jnp.ones(2), "old": 1, 1: 2, "k": jax.random.key(0), "e": {}, "s": "x"}
    target = {
        "w": jnp.ones((3, 5)),
        "b": jnp.ones(2, jnp.bfloat16),
        "new": [jnp.ones(2)],
        "1": 2,
        "k": jax.random.key(0, impl="rbg"),
        "e": (),
        "s": 5,
    }
    error = mismatch(saved, target)
    assert error.missing == ("new[0] (float32[2])",)
    assert error.extra == ("old (Python int)",)
    assert error.different == (
        "1: other kinds of keys, saved {1}",
        "b: saved float32[2], target bfloat16[2]",
        "e: saved empty dictionary, target empty sequence or class",
        "k: saved PRNG key threefry2x32[], target PRNG key rbg[]",
        "s: saved Python str, target Python int",
        "w: saved float32[3, 4], target float32[3, 5]",
    )
    text = str(error)
    assert "does not fit the target in 8 places" in text
    assert "missing in the checkpoint: new[0]" in text
    assert "only in the checkpoint: old" in text
    assert "different: w: saved float32[3, 4]" in text


def test_long_reports_are_cut_but_kept():
    error = mismatch({str(i): i for i in range(100)}, {})
    assert "… and 61 more" in str(error)
    assert len(error.extra) == 100


@pytest.mark.parametrize(
    ("saved", "target"),
    [
        (1, 1.0),
        (1, True),
        (np.float32(1), 1),
        (jnp.ones(1), 1.0),
        (jnp.int32(1), jnp.int8(1)),
        (None, 0),
        (jnp.ones(2), None),
        ([1, 2], (1,)),
        ({"a": 1}, [1]),
        (jax.random.key(0), jnp.zeros(2, jnp.uint32)),
        (np.array("a"), np.array("ab")),
        (b"x", "x"),
    ],
)
def test_nothing_is_cast_or_dropped(saved, target):
    assert "does not fit" in str(mismatch({"x": saved}, {"x": target}))


def test_restore_reports_before_it_reads(tmp_path):
    path = fx_ckpt.save(tmp_path / "x", {"w": jnp.ones(2)}, backend="msgpack")
    (path / "data/state.msgpack").write_bytes(b"")
    with pytest.raises(errors.RestoreMismatchError, match=str(path)):
        fx_ckpt.restore(path, {"w": jnp.ones(3)})


class Opaque:
    pass


deleted = jnp.ones(3)
deleted.delete()


@pytest.mark.parametrize(
    ("leaf", "text"),
    [
        (print, "builtin_function_or_method"),
        (Opaque(), "Opaque"),
        (np.array([None]), "dtype object"),
        (np.zeros(2, [("a", "i4")]), "dtype"),
        (np.ma.array([1]), "MaskedArray"),
        (np.longdouble(1), "longdouble|float128"),
        (np.void(b"xx"), "V2"),
        ("\ud800", "no text"),
        (deleted, "deleted or donated"),
        ({1, 2}, "set"),
    ],
)
def test_leaves_that_cannot_be_stored(leaf, text):
    with pytest.raises(errors.UnsupportedLeafError, match=rf"cannot be stored(.|\n)*a\[0\](.|\n)*({text})"):
        take_apart({"a": [leaf]})


def test_saving_inside_jit_is_refused():
    with pytest.raises(errors.UnsupportedLeafError, match=r"a tracer(.|\n)*outside of jit"):
        jax.jit(lambda x: take_apart({"a": x}))(1.0)


@pytest.mark.parametrize("key", [b"x", (b"x",), float("nan"), frozenset()])
def test_keys_that_cannot_be_stored(key):
    with pytest.raises(
        errors.UnsupportedLeafError, match=r"dictionary key cannot be stored(.|\n)*where: a(.|\n)*of type"
    ):
        take_apart({"a": {key: 1}})


def test_a_tree_that_contains_itself():
    loop: dict = {}
    loop["x"] = [loop]
    with pytest.raises(errors.DamagedDataError, match="contains itself"):
        take_apart(loop)


@pytest.mark.parametrize(
    ("leaf", "stored", "text"),
    [
        (Leaf("array", "float32", (2,)), np.ones(2), r"float32\[2\](.|\n)*float64\[2\]"),
        (Leaf("array", "float32", (2,)), np.ones(3, np.float32), r"float32\[2\](.|\n)*float32\[3\]"),
        (Leaf("array", "float32", (2,)), 3, "an array of float32(.|\n)*int"),
        (Leaf("int"), 1.0, "Python int(.|\n)*float"),
        (Leaf("int"), "__import__('os')", "Python int(.|\n)*str"),
        (Leaf("bool"), 1, "Python bool(.|\n)*int"),
        (Leaf("bytes"), b"x", "an array of uint8(.|\n)*bytes"),
        (Leaf("key", impl="threefry2x32"), np.zeros(3, np.uint32), "PRNG key"),
        (Leaf("key", impl="os"), np.zeros(2, np.uint32), "PRNG key os"),
        (Leaf("key", shape=(2,), impl="threefry2x32"), np.zeros(2, np.uint32), r"\(2,\)(.|\n)*\(\)"),
        (Leaf("array", "<U2", (2,), raw=True), np.zeros(8, np.uint8), "8 bytes"),
        (Leaf("array", "O", (1,), raw=True), np.zeros(8, np.uint8), "dtype of strings"),
    ],
)
def test_backends_that_return_something_else(leaf, stored, text):
    with pytest.raises(errors.DamagedDataError, match=rf"inconsistent(.|\n)*where: a(.|\n)*{text}"):
        decode(leaf, stored, "a")


def test_states_that_lack_an_entry():
    node, _ = take_apart({"a": {"b": 1}})
    with pytest.raises(errors.DamagedDataError, match=r"an entry 'b'"):
        put_together(node, {"a": {}})


BRANCH = {"kind": "mapping", "type": "dict", "keys": ["a"], "children": [{"kind": "int"}]}
DEEP: dict = {"kind": "int"}
for _ in range(300):
    DEEP = {"kind": "sequence", "type": "list", "keys": [0], "children": [DEEP]}


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (None, "not an object"),
        ({}, "unknown kind"),
        ({"kind": "pickle"}, "unknown kind"),
        ({"kind": "int", "extra": 1}, "wrong fields"),
        ({"kind": "array", "dtype": 5}, "wrong fields"),
        ({"kind": "array", "shape": [-1]}, "impossible shape"),
        ({"kind": "array", "shape": "no"}, "impossible shape"),
        ({"kind": "array", "origin": "cuda"}, "unknown kind"),
        ({**BRANCH, "keys": []}, "do not match"),
        ({**BRANCH, "keys": [{}]}, "a key is of an unknown kind"),
        ({**BRANCH, "type": None}, "wrong fields"),
        ({**BRANCH, "more": None}, "wrong fields"),
        ({**BRANCH, "keys": ["a", "a"], "children": BRANCH["children"] * 2}, "a key twice"),
        ({**BRANCH, "kind": "sequence"}, "wrong positions"),
        ({**BRANCH, "kind": "fields", "keys": [1]}, "field names are not strings"),
        ({**BRANCH, "children": [3]}, "not an object"),
        (DEEP, "nested more than"),
    ],
)
def test_hostile_structures(data, text):
    with pytest.raises(errors.DamagedDataError, match=f"not valid: (.|\n)*{text}"):
        from_json(data)


def test_metadata_and_backend_names(tmp_path):
    with pytest.raises(ArgumentError, match="metadata"):
        fx_ckpt.save(tmp_path / "x", {}, backend="msgpack", metadata={"a": (1,)})
    with pytest.raises(UnknownEntryError, match="msgpack"):
        fx_ckpt.save(tmp_path / "x", {}, backend="msgpak")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "error",
    [
        errors.unsupported_leaf("a", "b"),
        errors.RestoreMismatchError("p", ["a"], ["b"], ["c"]),
        errors.unreadable("p", expected=1, got=2),
        errors.no_checkpoint("d", 3, [1]),
        errors.StepTakenError("d", 3, 4),
    ],
)
def test_errors_pickle(error):
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


def test_advice_names_what_helps(tmp_path):
    path = fx_ckpt.save(tmp_path / "x", {"a": {"b": 1}, "c": 2})
    cases = {
        r"Choose among a/b, c(.|\n)*inspect\(path\)\.leaves\(\)": lambda: fx_ckpt.restore(path, only="d"),
        r"cast=jnp\.float32": lambda: fx_ckpt.restore(path, cast="floaty"),
        r"Pass only=": lambda: fx_ckpt.restore(path, only=3),
        r"None keeps all": lambda: fx_ckpt.CheckpointManager(tmp_path, keep=0),
        r"Pass metrics=\{'loss': …\} with every save": lambda: fx_ckpt.CheckpointManager(tmp_path, best="loss").save(
            1, {}
        ),
    }
    for text, call in cases.items():
        with pytest.raises(errors.ArgumentError, match=rf"what to do: (.|\n)*{text}"):
            call()
