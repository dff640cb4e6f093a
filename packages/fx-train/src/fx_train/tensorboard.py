"""Summaries for TensorBoard, written without TensorFlow.

Needs the extra ``fx-train[tensorboard]``, which brings tensorboardX for the format of the files. What the summaries
look like is in `fx_train._summaries`.
"""

import itertools
import os
import weakref
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from fx_core.errors import InvalidAttributeError

from fx_train.errors import missing_extra, summary_shape

__all__ = ["SummaryWriter"]

_SERIAL = itertools.count()


class SummaryWriter:
    """Writes an event file that TensorBoard shows.

    >>> import tempfile
    >>> with SummaryWriter(tempfile.mkdtemp()) as writer:
    ...     writer.scalar("loss", 0.5, step=1)
    ...     writer.text("note", "**bold**", step=1)

    Args:
      log_dir: directory of the file; made if absent.
      auto_flush: whether every summary is on the disk when the call returns.

    Raises:
      MissingPackageError: tensorboardX is not installed.
      InvalidAttributeError: by all methods but `close`, after that.
    """

    def __init__(self, log_dir: str | Path, auto_flush: bool = True):
        try:
            from tensorboardX.event_file_writer import EventsWriter

            from fx_train import _summaries
        except ImportError as error:
            raise missing_extra("SummaryWriter", "tensorboardX", "tensorboard") from error
        self._make = _summaries
        self._auto_flush = auto_flush
        # tensorboardX's own writer of summaries works in a thread, and its flush does not wait for it.
        Path(log_dir).mkdir(parents=True, exist_ok=True)
        writer = EventsWriter(str(Path(log_dir) / "events"), f".{os.getpid()}.{next(_SERIAL)}")
        self._open_writer: Any = writer
        # Who drops this object without `close` leaves no file open.
        self._close = weakref.finalize(self, writer.close)

    def scalar(self, tag: str, value: Any, step: int) -> None:
        """Records a number.

        Args:
          tag: name of the curve; a slash groups curves.
          value: a number or an array of one element.
          step: position on the curve.

        Raises:
          MetricError: ``value`` has several elements.
        """
        value = np.asarray(value)
        if value.size != 1:
            raise summary_shape("scalar", tag, "one element", value.shape)
        self._add(self._make.scalar(tag, float(value.reshape(()))), step)

    def image(self, tag: str, image: Any, step: int, max_outputs: int = 3) -> None:
        """Records images.

        Args:
          tag: name.
          image: (height, width), (height, width, channels), (batch, height, width) or (batch, height, width,
            channels), with 1 (gray, recorded as RGB), 3 (RGB) or 4 (RGBA) channels, so that an array of three axes is
            a batch if its last one is no such number; uint8, or floating point from 0 to 1, clipped.
          step: when.
          max_outputs: how many of a batch to record.

        Raises:
          MetricError: the shape is another one, or the dtype one of other whole numbers.
        """
        image = np.asarray(image)
        if image.ndim == 2 or (image.ndim == 3 and image.shape[-1] not in (1, 3, 4)):
            image = image[..., None]
        if image.ndim == 3:
            image = image[None]
        if image.ndim != 4 or image.shape[-1] not in (1, 3, 4):
            raise summary_shape("image", tag, "(batch, height, width, 1, 3 or 4 channels)", image.shape)
        if image.dtype.kind in "iu" and image.dtype != np.uint8:
            raise summary_shape("image", tag, "uint8, or floating point from 0 to 1", image.dtype)
        if image.shape[-1] == 1:
            image = np.repeat(image, 3, axis=-1)
        self._add(self._make.images(tag, image[:max_outputs]), step)

    def audio(self, tag: str, audiodata: Any, step: int, sample_rate: int = 44100, max_outputs: int = 3) -> None:
        """Records sounds.

        Args:
          tag: name.
          audiodata: (samples,), (samples, channels) or (batch, samples, channels), from -1 to 1, clipped.
          step: when.
          sample_rate: samples per second.
          max_outputs: how many of a batch to record.

        Raises:
          MetricError: the shape is another one.
        """
        audio = np.asarray(audiodata)
        if audio.ndim == 1:
            audio = audio[:, None]
        if audio.ndim == 2:
            audio = audio[None]
        if audio.ndim != 3:
            raise summary_shape("audio", tag, "(batch, samples, channels)", audio.shape)
        self._add(self._make.sounds(tag, audio[:max_outputs], sample_rate), step)

    def histogram(self, tag: str, values: Any, step: int, bins: int | None = None) -> None:
        """Records the distribution of values of any shape, in 30 intervals unless ``bins`` says otherwise.

        Raises:
          MetricError: there is no value, or one is not finite.
        """
        values = np.asarray(values, np.float64).ravel()
        if not values.size or not np.isfinite(values).all():
            raise summary_shape("histogram", tag, "finite values, at least one", values.shape)
        self._add(self._make.histogram(tag, values, 30 if bins is None else bins), step)

    def text(self, tag: str, textdata: Any, step: int) -> None:
        """Records a string, or an array of strings as a table; TensorBoard shows Markdown."""
        self._add(self._make.text(tag, np.asarray(textdata, object)), step)

    def write(self, tag: str, tensor: Any, step: int, metadata: Any = None) -> None:
        """Records any array, with the metadata (a ``SummaryMetadata`` message) that a TensorBoard plugin looks for."""
        self._add(self._make.tensor(tag, np.asarray(tensor), metadata), step)

    def hparams(self, hparams: Mapping[str, Any]) -> None:
        """Records the hyperparameters of the run: booleans, numbers, strings; nested mappings become
        ``outer/inner``.
        """
        for summary in self._make.hyperparameters(_flat(hparams)):
            self._add(summary, 0)

    def supersede(self, step: int) -> None:
        """Lets what earlier files of the directory have from a step on not count: a killed process left it.

        Args:
          step: the first step that is written anew.
        """
        self._writer.write_event(self._make.session_start(int(step)))

    def flush(self) -> None:
        """Writes what is buffered to the disk."""
        self._writer.flush()

    def close(self) -> None:
        """Writes what is buffered and closes the file. Closing twice is harmless."""
        self._open_writer = None
        self._close()

    @property
    def _writer(self) -> Any:
        if self._open_writer is None:
            raise InvalidAttributeError(
                "The writer is closed.",
                expected="summaries before close, and inside of `with`",
                fix="Write it earlier, or make another SummaryWriter of the same directory.",
            )
        return self._open_writer

    def _add(self, summary: Any, step: int) -> None:
        self._writer.write_event(self._make.event(summary, int(step)))
        if self._auto_flush:
            self._writer.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{name}/")
        elif isinstance(value, bool | int | float | str):
            flat[prefix + name] = value
        elif np.ndim(value) == 0 and np.asarray(value).dtype.kind in "biuf":
            flat[prefix + name] = np.asarray(value).item()
        else:
            flat[prefix + name] = str(value)
    return flat
