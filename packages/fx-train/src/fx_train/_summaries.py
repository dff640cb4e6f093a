"""The messages that TensorBoard reads. Needs tensorboardX; `fx_train.tensorboard` is the door.

Scalars are simple values, which every reader of event files knows. The rest are tensors with the metadata of
TensorBoard's plugins (its second format), since that holds several images or sounds under one tag.
"""

import io
import struct
import time
import wave
import zlib
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from tensorboardX import summary as builders
from tensorboardX.proto.event_pb2 import Event, SessionLog  # pyright: ignore[reportAttributeAccessIssue]
from tensorboardX.proto.summary_pb2 import Summary, SummaryMetadata  # pyright: ignore[reportAttributeAccessIssue]
from tensorboardX.proto.tensor_pb2 import TensorProto  # pyright: ignore[reportAttributeAccessIssue]
from tensorboardX.proto.tensor_shape_pb2 import TensorShapeProto  # pyright: ignore[reportAttributeAccessIssue]

from fx_train.errors import summary_shape

# Numbers of TensorFlow's types, from its public types.proto.
_TYPES = {
    "float32": 1, "float64": 2, "int32": 3, "uint8": 4, "int16": 5, "int8": 6, "int64": 9, "bool": 10,
    "bfloat16": 14, "uint16": 17, "float16": 19, "uint32": 22, "uint64": 23,
}  # fmt: skip
_STRING = 7


def event(summary: Any, step: int) -> Any:
    """Returns a summary with its step and the time."""
    return Event(wall_time=time.time(), step=step, summary=summary)


def session_start(step: int) -> Any:
    """That a process begins at a step: what is in earlier files from that step on does not count."""
    return Event(wall_time=time.time(), step=step, session_log=SessionLog(status=SessionLog.START))


def scalar(tag: str, value: float) -> Any:
    """Returns a number."""
    return Summary(value=[Summary.Value(tag=tag, simple_value=value)])


def images(tag: str, batch: np.ndarray) -> Any:
    """Images (batch, height, width, channels) as PNG."""
    if batch.dtype != np.uint8:
        # As TensorFlow converts: every number of 8 bits has an interval of the same length.
        batch = np.floor(np.clip(batch.astype(np.float32), 0, 1) * 255.5).astype(np.uint8)
    _, height, width, _ = batch.shape
    return _strings(tag, [b"%d" % width, b"%d" % height, *map(png, batch)], _metadata("images"))


def sounds(tag: str, batch: np.ndarray, rate: int) -> Any:
    """Sounds (batch, samples, channels) as WAV of 16 bits, each with an empty label."""
    pieces = [part for sound in batch for part in (wav(sound, rate), b"")]
    return _strings(tag, pieces, _metadata("audio"), (len(batch), 2))


def histogram(tag: str, values: np.ndarray, bins: int) -> Any:
    """Rows (left, right, count) of equal intervals."""
    counts, edges = np.histogram(values, bins)
    return tensor(tag, np.stack([edges[:-1], edges[1:], counts], axis=1), _metadata("histograms"))


def text(tag: str, strings: np.ndarray) -> Any:
    """Strings of any shape."""
    encoded = [_bytes(s) for s in strings.ravel()]
    return _strings(tag, encoded, _metadata("text"), strings.shape)


def hyperparameters(values: Mapping[str, Any]) -> Iterable[Any]:
    """Returns what the hyperparameter plugin reads."""
    return builders.hparams(dict(values), {})


def tensor(tag: str, array: np.ndarray, metadata: Any) -> Any:
    """Any array."""
    if array.dtype.kind in "SUO":
        return _strings(tag, [_bytes(s) for s in array.ravel()], metadata, array.shape)
    if array.dtype.name not in _TYPES:
        raise summary_shape("tensor", tag, f"a type among {', '.join(_TYPES)}", array.dtype)
    message = TensorProto(
        dtype=_TYPES[array.dtype.name],
        tensor_shape=_shape(array.shape),
        tensor_content=np.ascontiguousarray(array).tobytes(),
    )
    return Summary(value=[Summary.Value(tag=tag, tensor=message, metadata=metadata)])


def png(image: np.ndarray) -> bytes:
    """Returns a uint8 image (height, width, channels) of 1, 3 or 4 channels as PNG."""
    height, width, channels = image.shape
    rows = np.ascontiguousarray(image).reshape(height, width * channels)
    # A zero before every row: the filter that filters nothing.
    raw = np.concatenate([np.zeros((height, 1), np.uint8), rows], axis=1).tobytes()
    color = {1: 0, 3: 2, 4: 6}[channels]
    header = struct.pack(">IIBBBBB", width, height, 8, color, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(raw)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )


def wav(sound: np.ndarray, rate: int) -> bytes:
    """Samples (samples, channels) from -1 to 1 as WAV."""
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setnchannels(sound.shape[1])
        writer.setsampwidth(2)
        writer.setframerate(rate)
        writer.writeframes(np.rint(np.clip(sound, -1, 1) * 32767).astype("<i2").tobytes())
    return file.getvalue()


def _bytes(value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()


def _metadata(plugin: str) -> Any:
    return SummaryMetadata(plugin_data=SummaryMetadata.PluginData(plugin_name=plugin))


def _shape(shape: Iterable[int]) -> Any:
    return TensorShapeProto(dim=[TensorShapeProto.Dim(size=size) for size in shape])


def _strings(tag: str, strings: list[bytes], metadata: Any, shape: tuple[int, ...] | None = None) -> Any:
    shape = (len(strings),) if shape is None else shape
    message = TensorProto(dtype=_STRING, tensor_shape=_shape(shape), string_val=strings)
    return Summary(value=[Summary.Value(tag=tag, tensor=message, metadata=metadata)])
