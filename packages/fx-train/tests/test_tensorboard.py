import gc
import io
import struct
import sys
import warnings
import wave
import zlib

import numpy as np
import pytest
from fx_train.errors import InvalidAttributeError, MetricError, MissingPackageError
from fx_train.tensorboard import SummaryWriter


def read(directory):
    """Values by tag, and steps, of the one event file in a directory."""
    from tensorboardX.proto.event_pb2 import Event

    (file,) = directory.glob("events.out.tfevents.*")
    content, at, values = file.read_bytes(), 0, {}
    while at < len(content):
        (length,) = struct.unpack_from("<Q", content, at)
        event = Event.FromString(content[at + 12 : at + 12 + length])
        at += 16 + length
        for value in event.summary.value:
            values.setdefault(value.tag, []).append((event.step, value))
    return values


def test_scalars_are_on_the_disk_at_once(tmp_path):
    writer = SummaryWriter(tmp_path)
    for step, loss in [(1, 0.5), (2, np.array([0.25]))]:
        writer.scalar("loss", loss, step)
        assert len(read(tmp_path)["loss"]) == step
    assert [(step, value.simple_value) for step, value in read(tmp_path)["loss"]] == [(1, 0.5), (2, 0.25)]
    writer.close()
    writer.close()


def test_unflushed_summaries_wait_for_flush(tmp_path):
    writer = SummaryWriter(tmp_path, auto_flush=False)
    writer.scalar("loss", 1.0, 1)
    writer.flush()
    assert len(read(tmp_path)["loss"]) == 1
    writer.close()


def decoded(png):
    """Pixels of a PNG without filters."""
    at, parts = 8, {}
    while at < len(png):
        (length,) = struct.unpack_from(">I", png, at)
        kind, data = png[at + 4 : at + 8], png[at + 8 : at + 8 + length]
        assert struct.unpack_from(">I", png, at + 8 + length)[0] == zlib.crc32(kind + data)
        parts[kind] = data
        at += 12 + length
    width, height = struct.unpack_from(">II", parts[b"IHDR"])
    rows = np.frombuffer(zlib.decompress(parts[b"IDAT"]), np.uint8).reshape(height, -1)
    return rows[:, 1:].reshape(height, width, -1)


def test_images(tmp_path):
    gray = np.linspace(0, 1, 6).reshape(2, 3)
    color = np.random.default_rng(0).integers(0, 256, (5, 2, 3, 3), np.uint8)
    with SummaryWriter(tmp_path) as writer:
        writer.image("gray", gray, 1)
        writer.image("color", color, 2, max_outputs=2)
        writer.image("alpha", np.zeros((2, 2, 4)), 3)
    values = read(tmp_path)
    tensor = values["color"][0][1].tensor
    assert list(tensor.string_val[:2]) == [b"3", b"2"]
    assert len(tensor.string_val) == 4
    np.testing.assert_array_equal(decoded(tensor.string_val[3]), color[1])
    np.testing.assert_array_equal(
        decoded(values["gray"][0][1].tensor.string_val[2])[..., 0], [[0, 51, 102], [153, 204, 255]]
    )
    gray = decoded(values["gray"][0][1].tensor.string_val[2])
    assert gray.shape == (2, 3, 3)
    assert (gray == gray[..., :1]).all()
    assert values["alpha"][0][1].metadata.plugin_data.plugin_name == "images"


def test_audio(tmp_path):
    with SummaryWriter(tmp_path) as writer:
        writer.audio("beep", np.array([0.0, 1.0, -1.0, 7.0]), 1, sample_rate=8000)
    (_, value), *_ = read(tmp_path)["beep"]
    with wave.open(io.BytesIO(value.tensor.string_val[0])) as sound:
        assert (sound.getframerate(), sound.getnchannels()) == (8000, 1)
        assert np.frombuffer(sound.readframes(4), "<i2").tolist() == [0, 32767, -32767, 32767]
    assert [dim.size for dim in value.tensor.tensor_shape.dim] == [1, 2]


def test_histogram_text_tensor_and_hyperparameters(tmp_path):
    with SummaryWriter(tmp_path) as writer:
        writer.histogram("weights", np.array([[0.0, 1.0], [1.0, 2.0]]), 1, bins=2)
        writer.histogram("default", np.arange(5), 1)
        writer.text("note", "hello", 1)
        writer.text("table", [["a", "b"]], 1)
        writer.write("any", np.arange(3, dtype=np.int32), 4)
        writer.write("names", np.array(["x", "y"]), 4)
        writer.hparams({"lr": np.float32(0.5), "net": {"depth": 3, "name": "cnn"}, "layers": [1, 2]})
    values = read(tmp_path)
    rows = np.frombuffer(values["weights"][0][1].tensor.tensor_content).reshape(-1, 3)
    assert rows.tolist() == [[0, 1, 1], [1, 2, 3]]
    assert [dim.size for dim in values["default"][0][1].tensor.tensor_shape.dim] == [30, 3]
    assert list(values["note"][0][1].tensor.string_val) == [b"hello"]
    assert [dim.size for dim in values["table"][0][1].tensor.tensor_shape.dim] == [1, 2]
    assert np.frombuffer(values["any"][0][1].tensor.tensor_content, np.int32).tolist() == [0, 1, 2]
    assert values["any"][0][0] == 4
    assert list(values["names"][0][1].tensor.string_val) == [b"x", b"y"]
    content = values["_hparams_/session_start_info"][0][1].metadata.plugin_data.content
    assert all(name in content for name in (b"lr", b"net/depth", b"net/name", b"[1, 2]"))


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda w: w.scalar("s", [1.0, 2.0], 1), "No scalar can be made for 's'.\n  expected: one element"),
        (lambda w: w.image("i", np.zeros((2, 2, 2, 2)), 1), "No image can be made"),
        (lambda w: w.image("i", np.full((2, 2), 200), 1), "uint8, or floating point from 0 to 1\n  got: int64"),
        (lambda w: w.audio("a", np.zeros((1, 1, 1, 1)), 1), "No audio can be made"),
        (lambda w: w.histogram("h", [], 1), "finite values, at least one"),
        (lambda w: w.histogram("h", [np.inf], 1), "finite values, at least one"),
        (lambda w: w.write("t", np.array([1j]), 1), "a type among float32"),
    ],
)
def test_impossible_summaries(tmp_path, call, text):
    with SummaryWriter(tmp_path) as writer, pytest.raises(MetricError, match=text):
        call(writer)


def test_missing_package_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX.event_file_writer", None)
    with pytest.raises(MissingPackageError, match=r"pip install 'fx-train\[tensorboard\]'"):
        SummaryWriter(tmp_path)


def test_a_batch_of_gray_images(tmp_path):
    batch = np.random.default_rng(0).integers(0, 256, (2, 4, 5), np.uint8)
    with SummaryWriter(tmp_path) as writer:
        writer.image("batch", batch, 1)
    strings = read(tmp_path)["batch"][0][1].tensor.string_val
    assert (list(strings[:2]), len(strings)) == ([b"5", b"4"], 4)
    for png, image in zip(strings[2:], batch):
        np.testing.assert_array_equal(decoded(png), np.repeat(image[..., None], 3, axis=-1))


def test_bytes_are_text(tmp_path):
    with SummaryWriter(tmp_path) as writer:
        writer.text("note", b"hello", 1)
    assert list(read(tmp_path)["note"][0][1].tensor.string_val) == [b"hello"]


def test_a_closed_writer_writes_nothing(tmp_path):
    writer = SummaryWriter(tmp_path)
    writer.close()
    calls = [writer.flush, lambda: writer.scalar("s", 1.0, 1), lambda: writer.supersede(1), lambda: writer.hparams({})]
    for call in [*calls, lambda: writer.write("t", np.ones(1), 1)]:
        with pytest.raises(InvalidAttributeError, match="The writer is closed"):
            call()
    assert issubclass(InvalidAttributeError, AttributeError)


def test_a_writer_that_nobody_holds_closes_its_file(tmp_path):
    writer = SummaryWriter(tmp_path, auto_flush=False)
    writer.scalar("loss", 0.5, 1)
    del writer
    with warnings.catch_warnings():
        warnings.simplefilter("error", ResourceWarning)
        gc.collect()
    assert len(read(tmp_path)["loss"]) == 1
