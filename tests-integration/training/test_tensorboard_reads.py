"""TensorBoard itself reads the files that fx writes: every number, pixel, sample and word comes back."""

import io
import wave

import numpy as np
import pytest
from fx_train import Log, Run
from fx_train.loggers import TensorBoardLogger
from fx_train.tensorboard import SummaryWriter
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.event_multiplexer import EventMultiplexer
from tensorboard.plugins.hparams import plugin_data_pb2
from tensorboard.util import tensor_util


def read(directory):
    found = EventAccumulator(str(directory), size_guidance={"scalars": 0, "tensors": 0})
    found.Reload()
    return found


def tensors(found, tag):
    return [(event.step, tensor_util.make_ndarray(event.tensor_proto)) for event in found.Tensors(tag)]


def plugin(found, tag):
    return found.SummaryMetadata(tag).plugin_data.plugin_name


@pytest.fixture
def writer(tmp_path):
    with SummaryWriter(tmp_path) as writer:
        yield writer


def test_scalars(writer, tmp_path):
    values = [0.5, np.float32(0.25), -1e-30, 1e30, np.inf, np.nan]
    for step, value in enumerate(values):
        writer.scalar("eval/loss", value, 10 * step)
    events = read(tmp_path).Scalars("eval/loss")
    assert [event.step for event in events] == [0, 10, 20, 30, 40, 50]
    np.testing.assert_array_equal([event.value for event in events], np.float32(values))
    assert all(event.wall_time > 1.6e9 for event in events)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_images(writer, tmp_path, channels):
    pixels = np.random.default_rng(0).integers(0, 256, (2, 5, 7, channels), np.uint8)
    writer.image("whole numbers", pixels, 3)
    writer.image("shares", pixels.astype(np.float32) / 255, 3)
    found = read(tmp_path)
    for tag in ("whole numbers", "shares"):
        assert plugin(found, tag) == "images"
        ((step, (width, height, *images)),) = tensors(found, tag)
        assert (step, width, height, len(images)) == (3, b"7", b"5", 2)
        for image, expected in zip(images, pixels):
            decoded = np.asarray(Image.open(io.BytesIO(image)))
            np.testing.assert_array_equal(decoded, np.repeat(expected, 3, -1) if channels == 1 else expected)


def test_sounds(writer, tmp_path):
    samples = np.random.default_rng(0).uniform(-1, 1, (2, 100, 2)).astype(np.float32)
    writer.audio("noise", samples, 4, sample_rate=8000)
    found = read(tmp_path)
    assert plugin(found, "noise") == "audio"
    ((step, sounds),) = tensors(found, "noise")
    assert (step, sounds.shape) == (4, (2, 2))
    for sound, expected in zip(sounds[:, 0], samples):
        with wave.open(io.BytesIO(sound)) as file:
            assert (file.getframerate(), file.getnchannels(), file.getnframes()) == (8000, 2, 100)
            decoded = np.frombuffer(file.readframes(100), "<i2").reshape(100, 2) / 32767
        np.testing.assert_allclose(decoded, expected, atol=1 / 32767)


def test_histograms(writer, tmp_path):
    values = np.random.default_rng(0).normal(size=(10, 100))
    writer.histogram("weights", values, 1, bins=20)
    writer.histogram("constant", np.full(7, 2.0), 1)
    found = read(tmp_path)
    assert plugin(found, "weights") == "histograms"
    ((_, rows),) = tensors(found, "weights")
    counts, edges = np.histogram(values, 20)
    np.testing.assert_array_equal(rows, np.stack([edges[:-1], edges[1:], counts], 1))
    ((_, rows),) = tensors(found, "constant")
    assert rows[:, 2].sum() == 7


def test_text_and_arrays(writer, tmp_path):
    writer.text("note", "**bold** ü", 1)
    writer.text("table", [["a", "b"], ["c", "d"]], 2)
    arrays = {
        name: np.arange(6, dtype=name).reshape(2, 3) for name in ("float32", "float64", "int32", "int64", "uint8")
    }
    for name, array in arrays.items():
        writer.write(name, array, 3)
    found = read(tmp_path)
    assert plugin(found, "note") == "text"
    ((_, note),) = tensors(found, "note")
    assert [word.decode() for word in note.ravel()] == ["**bold** ü"]
    assert tensors(found, "table")[0][1].tolist() == [[b"a", b"b"], [b"c", b"d"]]
    for name, array in arrays.items():
        ((_, stored),) = tensors(found, name)
        assert stored.dtype == array.dtype
        np.testing.assert_array_equal(stored, array)


def test_hyperparameters(writer, tmp_path):
    writer.hparams({"rate": 0.1, "net": {"depth": 3, "name": "cnn"}, "half": True})
    found = read(tmp_path)
    content = found.SummaryMetadata("_hparams_/session_start_info").plugin_data
    assert content.plugin_name == "hparams"
    given = plugin_data_pb2.HParamsPluginData.FromString(content.content).session_start_info.hparams
    values = {name: getattr(value, value.WhichOneof("kind")) for name, value in given.items()}
    assert values == {"rate": 0.1, "net/depth": 3.0, "net/name": "cnn", "half": True}


def test_a_resumed_run_replaces_what_its_dead_predecessor_logged_after_the_checkpoint(tmp_path):
    logger = TensorBoardLogger(tmp_path)
    for step in range(1, 8):
        logger.log(step, {"loss": float(step)})
    # No close: it was killed. The next process goes on after step 4.
    second = TensorBoardLogger(tmp_path)
    for step in range(5, 10):
        second.log(step, {"loss": 10.0 * step})
    second.close()
    logger.close()
    events = read(tmp_path).Scalars("loss")
    assert [(e.step, e.value) for e in events] == [
        (1, 1.0), (2, 2.0), (3, 3.0), (4, 4.0), (5, 50.0), (6, 60.0), (7, 70.0), (8, 80.0), (9, 90.0),
    ]  # fmt: skip


def test_runs_side_by_side(tmp_path):
    for name in ("one", "two"):
        with Run(tmp_path / name, total_steps=4, callbacks=[Log("tensorboard", every=2)]) as run:
            for step, _ in run.steps([None] * 4):
                run.record(None, {"loss": 1.0 / (step + 1), "accuracy": float(step)})
    both = EventMultiplexer().AddRunsFromDirectory(str(tmp_path)).Reload()
    assert sorted(both.Runs()) == ["one", "two"]
    for name in ("one", "two"):
        assert [(e.step, e.value) for e in both.Scalars(name, "accuracy")] == [(2, 1.0), (4, 3.0)]
