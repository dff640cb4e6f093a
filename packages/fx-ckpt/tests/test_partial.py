"""Parts of checkpoints, other dtypes where asked for, iterators beside the tree, other backends."""

import os
import shutil
import threading

import fx_ckpt
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fx_ckpt import errors, iterators
from fx_core import struct
from fx_core.files import MANIFEST
from fx_core.scope import DenyList

BACKENDS = ["msgpack", "safetensors", "orbax"]


@struct.dataclass
class Weight:
    value: jax.Array


@struct.dataclass
class LoRA(Weight):
    pass


def tree(fill=1.0):
    return {
        "params": {"dense": {"kernel": jnp.full((2, 3), fill), "bias": jnp.full(3, fill)}, "head": [jnp.full(2, fill)]},
        "opt": (jnp.full(2, fill), {1: fill, "1": -fill}),
        "step": int(fill),
    }


@pytest.fixture(params=BACKENDS)
def path(request, tmp_path):
    return fx_ckpt.save(tmp_path / "x", tree(), backend=request.param)


def test_a_part_goes_into_the_target_and_the_rest_stays(path):
    target = tree(5.0)
    back = fx_ckpt.restore(path, target, only="params")
    np.testing.assert_array_equal(back["params"]["dense"]["kernel"], np.ones((2, 3)))
    np.testing.assert_array_equal(back["params"]["head"][0], np.ones(2))
    assert back["opt"] is not target["opt"] or back["opt"] == target["opt"]
    np.testing.assert_array_equal(back["opt"][0], target["opt"][0])
    assert back["opt"][1] == {1: 5.0, "1": -5.0}
    assert back["step"] == 5


def test_a_part_without_a_target_is_what_was_chosen(path):
    assert list(fx_ckpt.restore(path, only="step")) == ["step"]
    back = fx_ckpt.restore(path, only=["params/*/kernel", "params/head", "opt[1]"])
    assert list(back["params"]["dense"]) == ["kernel"]
    assert isinstance(back["params"]["head"], list)
    # What is left of the tuple is a dictionary of positions, and key 1 is not taken for "1".
    assert back["opt"] == {1: {1: 1.0, "1": -1.0}}
    assert fx_ckpt.restore(path, only="opt[1]{1}")["opt"] == {1: {1: 1.0}}


def test_the_rest_of_the_target_may_differ(path):
    target = {"params": {"dense": {"kernel": jnp.zeros((2, 3)), "adapter": jnp.zeros(7)}}, "new": 3}
    back = fx_ckpt.restore(path, target, only="params/dense/kernel")
    np.testing.assert_array_equal(back["params"]["dense"]["kernel"], np.ones((2, 3)))
    np.testing.assert_array_equal(back["params"]["dense"]["adapter"], np.zeros(7))
    assert back["new"] == 3
    with pytest.raises(errors.RestoreMismatchError, match=r"1 place(.|\n)*missing in the checkpoint: new"):
        fx_ckpt.restore(path, target, only=["params/dense/kernel", "new"])
    with pytest.raises(errors.RestoreMismatchError, match=r"only in the checkpoint: params/dense/bias"):
        fx_ckpt.restore(path, {"params": {"dense": {}}}, only="params/dense/bias")


def test_filters_are_functions_classes_and_all_but_some(tmp_path):
    model = {"a": Weight(jnp.ones(2)), "b": LoRA(jnp.ones(2)), "c": jnp.ones(2)}
    path = fx_ckpt.save(tmp_path / "x", model)
    zero = jax.tree.map(jnp.zeros_like, model)

    def changed(only, target=zero):
        back = fx_ckpt.restore(path, target, only=only)
        return [name for name in "abc" if float(jax.tree.leaves(back[name])[0][0]) == 1]

    assert changed(Weight) == ["a", "b"]
    assert changed(LoRA) == ["b"]
    assert changed(DenyList(LoRA)) == ["a", "c"]
    assert changed(DenyList(["a", "c"])) == ["b"]
    assert changed(lambda path, leaf: path[0] == "c" or path == ("a", "value")) == ["a", "c"]
    assert changed(lambda path, leaf: leaf.shape == (2,)) == ["a", "b", "c"]
    assert changed(True) == changed(None) == ["a", "b", "c"]
    # Without a target a class is known by its name, which a subclass does not share.
    assert list(fx_ckpt.restore(path, only=Weight)) == ["a"]


@pytest.mark.parametrize("only", [False, "parms", [], lambda path, leaf: False, int])
def test_a_filter_that_chooses_nothing_is_a_mistake(path, only):
    with pytest.raises(errors.ArgumentError, match=r"'only' is wrong(.|\n)*a filter that chooses something"):
        fx_ckpt.restore(path, tree(), only=only)


def test_what_is_no_filter(path):
    with pytest.raises(errors.ArgumentError, match=r"'only' is wrong(.|\n)*a pattern, a class, a function"):
        fx_ckpt.restore(path, only=3)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_cast_is_made_only_where_asked_for(tmp_path, backend):
    saved = {"w": jnp.full(3, 1 / 3), "n": np.arange(3), "c": np.ones(2, np.complex128), "b": np.ones(2, bool)}
    path = fx_ckpt.save(tmp_path / "x", saved, backend=backend)
    target = {
        "w": jnp.zeros(3, jnp.bfloat16),
        "n": np.zeros(3, np.int8),
        "c": np.zeros(2, np.complex64),
        "b": np.zeros(2, bool),
    }
    with pytest.raises(
        errors.RestoreMismatchError, match=r"in 3 places(.|\n)*saved float32\[3\] \(weakly typed\), target bfloat16"
    ):
        fx_ckpt.restore(path, target)
    back = fx_ckpt.restore(path, target, cast=True)
    assert [back[name].dtype for name in target] == [target[name].dtype for name in target]
    np.testing.assert_array_equal(back["w"], saved["w"].astype(jnp.bfloat16))
    np.testing.assert_array_equal(back["n"], [0, 1, 2])
    half = fx_ckpt.restore(path, cast=jnp.bfloat16)
    assert [half[name].dtype.name for name in saved] == ["bfloat16", "int64", "complex128", "bool"]
    assert fx_ckpt.restore(path, {**saved, "w": jnp.zeros(3, jnp.float16)}, cast=jnp.float16)["w"].dtype == jnp.float16


def test_a_cast_stays_within_one_kind_of_numbers(tmp_path):
    path = fx_ckpt.save(tmp_path / "x", {"n": np.array([-1, 300]), "w": np.ones(2)})
    with pytest.raises(errors.CastError, match=r"Numbers of int64 do not fit into uint8(.|\n)*from -1 to 300"):
        fx_ckpt.restore(path, {"n": np.zeros(2, np.uint8), "w": np.ones(2)}, cast=True)
    for target in ({"n": np.zeros(2), "w": np.ones(2)}, {"n": np.zeros(2, int), "w": np.ones(2, complex)}):
        with pytest.raises(errors.RestoreMismatchError, match="in 1 place"):
            fx_ckpt.restore(path, target, cast=True)
    for cast in (True, np.int8, np.complex64):
        with pytest.raises(errors.ArgumentError, match="'cast' is wrong"):
            fx_ckpt.restore(path, cast=cast)


class Numbers:
    def __init__(self):
        self.at = 0

    def __next__(self):
        self.at += 1
        return self.at

    def get_state(self):
        return {"at": self.at, "buffer": np.arange(self.at), "opaque": b"\0"}

    def set_state(self, state):
        assert len(state["buffer"]) == state["at"]
        self.at = state["at"]


def test_iterators_go_on_where_they_were(tmp_path):
    data = Numbers()
    with fx_ckpt.CheckpointManager(tmp_path / "run") as run:
        for step in (1, 2, 3):
            next(data)
            run.save(step, {"step": step}, iterators={"train": data, "test": Numbers()})
    again = Numbers()
    assert run.restore(2, iterators={"train": again, "test": Numbers()}) == {"step": 2}
    assert next(again) == 3
    moved = fx_ckpt.convert(run.path(3), "safetensors", tmp_path / "moved")
    fx_ckpt.restore(moved, iterators={"train": again, "test": Numbers()})
    assert next(again) == 4
    with pytest.raises(errors.CheckpointError, match=r"expected: test, train(.|\n)*got: train"):
        run.restore(iterators={"train": again})
    with pytest.raises(errors.ArgumentError, match="get_state and set_state as 'train'"):
        run.save(4, {}, iterators={"train": [1, 2]})


class Living(Numbers):
    """Gives the very state that it goes on with."""

    def __init__(self):
        self.state = {"at": 0, "buffer": np.zeros(2, np.int32)}

    def __next__(self):
        self.state["at"] += 1
        self.state["buffer"] += 1

    def get_state(self):
        return self.state

    def set_state(self, state):
        self.state = state


def test_a_state_is_that_of_the_save_although_it_is_written_later(tmp_path, monkeypatch):
    data, again, go = Living(), Living(), threading.Event()
    write = iterators.write
    monkeypatch.setattr(iterators, "write", lambda *arguments: (go.wait(), write(*arguments)))
    with fx_ckpt.CheckpointManager(tmp_path) as run:
        next(data)
        run.save(1, {}, iterators={"train": data})
        next(data)
        go.set()
    run.restore(iterators={"train": again})
    assert (again.state["at"], again.state["buffer"].tolist()) == (1, [1, 1])


@pytest.mark.parametrize("to", BACKENDS)
def test_conversion_keeps_everything_but_the_format(path, to):
    before = fx_ckpt.inspect(path)
    assert fx_ckpt.convert(path, to) == path
    after = fx_ckpt.verify(path)
    assert (after.backend, after.structure, after.created) == (to, before.structure, before.created)
    assert after.backend_reason == f"converted from {before.backend}"
    back = fx_ckpt.restore(path, tree(0.0))
    assert repr(back) == repr(tree())
    assert os.listdir(path.parent) == ["x"]


def test_conversion_to_another_place(tmp_path):
    run = fx_ckpt.CheckpointManager(tmp_path / "run")
    run.save(7, tree(), metrics={"loss": 0.5}, metadata={"note": "first"})
    path = fx_ckpt.convert(run.path(7), "safetensors", tmp_path / "out")
    info = fx_ckpt.inspect(path)
    assert (info.step, dict(info.metrics), info.metadata) == (7, {"loss": 0.5}, {"note": "first"})
    with pytest.raises(Exception, match="something at this path"):
        fx_ckpt.convert(run.path(7), "msgpack", path)
    fx_ckpt.convert(run.path(7), "msgpack", path, overwrite=True)
    (path / MANIFEST).unlink()
    with pytest.raises(Exception, match="no manifest"):
        fx_ckpt.convert(path, "msgpack")


def test_the_backend_of_one_process_is_msgpack_and_says_why(tmp_path, caplog):
    with caplog.at_level("INFO", "fx.ckpt"):
        info = fx_ckpt.inspect(fx_ckpt.save(tmp_path / "x", tree()))
    assert info.backend == "msgpack"
    assert "one process has every array" in info.backend_reason
    assert "Backend msgpack" in caplog.text
    assert fx_ckpt.inspect(fx_ckpt.save(tmp_path / "y", {}, backend="safetensors")).backend_reason == "asked for"


@pytest.mark.parametrize("backend", BACKENDS)
def test_arrays_may_stay_in_the_file(tmp_path, backend):
    saved = {
        "j": jnp.arange(64.0),
        "n": np.arange(64.0),
        "i": jnp.ones((2, 3), jnp.int4),
        "e": np.zeros((0, 2)),
        "s": 3,
    }
    path = fx_ckpt.save(tmp_path / "x", saved, backend=backend)
    back = fx_ckpt.restore(path, saved, mapped=True)
    assert back["n"].flags.writeable == (backend == "orbax")
    shutil.rmtree(path)
    assert repr(back) == repr(saved)
    assert float(jax.jit(jnp.sum)(back["j"])) == 2016
    np.testing.assert_array_equal(jax.jit(lambda x: x + 1, donate_argnums=0)(back["j"]), np.arange(64.0) + 1)
    np.testing.assert_array_equal(back["n"], np.arange(64.0))
