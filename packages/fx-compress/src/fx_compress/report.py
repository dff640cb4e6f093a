"""What compression did to a model: bytes and errors, parameter by parameter."""

import dataclasses
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from fx_core.array_node import ArrayNode, array_of
from fx_core.terminal import table_text

from fx_compress.array import QuantizedArray
from fx_compress.errors import CompressError
from fx_compress.parameters import parameters

__all__ = ["Report", "Row", "compare"]


@dataclasses.dataclass(frozen=True)
class Row:
    """One parameter before and after.

    Attributes:
      path: where it is.
      shape: of the array.
      stored: how it is stored now: a dtype, or a number format.
      bytes_before: as it was stored.
      bytes_after: as it is stored.
      sqnr: signal to quantization noise ratio in decibels, 10 · log10(Σ w² / Σ (w − w')²); infinite if nothing changed.
      zeros: fraction of elements that are zero now.
    """

    path: str
    shape: tuple[int, ...]
    stored: str
    bytes_before: int
    bytes_after: int
    sqnr: float
    zeros: float


@dataclasses.dataclass(frozen=True)
class Report:
    """What `compare` found; as text it is a table.

    Attributes:
      rows: one per parameter, in the order of the model.
      figures: what was measured before and after, by name, such as ``{"accuracy": (0.994, 0.991)}``.

    >>> import jax.numpy as jnp
    >>> import fx_compress
    >>> params = {"kernel": jnp.ones((64, 64))}
    >>> report = fx_compress.compare(params, fx_compress.quantize(params, fx_compress.int8()))
    >>> report.bytes_before, report.bytes_after
    (16384, 4352)
    """

    rows: tuple[Row, ...]
    figures: Mapping[str, tuple[float, float]] = dataclasses.field(default_factory=dict)

    @property
    def bytes_before(self) -> int:
        """Bytes of all parameters before."""
        return sum(row.bytes_before for row in self.rows)

    @property
    def bytes_after(self) -> int:
        """Bytes of all parameters after."""
        return sum(row.bytes_after for row in self.rows)

    @property
    def ratio(self) -> float:
        """Bytes after over bytes before."""
        return self.bytes_after / max(self.bytes_before, 1)

    def as_dicts(self) -> list[dict[str, Any]]:
        """Returns the rows as plain dicts, for JSON."""
        return [dataclasses.asdict(row) for row in self.rows]

    def as_json(self) -> dict[str, Any]:
        """Returns what JSON can hold: sums, figures, and the rows, whose ``sqnr`` is None where it is infinite."""
        rows = [{**row, "sqnr": row["sqnr"] if math.isfinite(row["sqnr"]) else None} for row in self.as_dicts()]
        figures = {name: list(pair) for name, pair in self.figures.items()}
        sums = {"bytes_before": self.bytes_before, "bytes_after": self.bytes_after, "ratio": self.ratio}
        return {"format": _FORMAT, "version": 1, **sums, "figures": figures, "rows": rows}

    def write(self, file: str | Path) -> Path:
        """Writes the report for ``fx compress report``.

        Args:
          file: a JSON file; missing directories are made.

        Returns:
          The file.

        >>> import tempfile
        >>> file = Report(()).write(Path(tempfile.mkdtemp()) / "int8.json")
        >>> Report.read(file)
        Report(rows=(), figures={})
        """
        file = Path(file)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(self.as_json(), indent=1, allow_nan=False) + "\n", encoding="utf-8")
        return file

    @classmethod
    def read(cls, file: str | Path) -> "Report":
        """Returns the report that `write` wrote.

        Raises:
          CompressError: the file is not there, or holds something else.
        """
        try:
            found = json.loads(Path(file).read_text(encoding="utf-8"))
            if (found["format"], found["version"]) != (_FORMAT, 1):
                raise ValueError(f"{found['format']}, version {found['version']}")
            rows = [
                Row(**{**row, "shape": tuple(row["shape"]), "sqnr": math.inf if row["sqnr"] is None else row["sqnr"]})
                for row in found["rows"]
            ]
            figures = {name: (float(before), float(after)) for name, (before, after) in found["figures"].items()}
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            raise CompressError(
                "This is no report on compression.",
                path=str(file),
                expected="a JSON file that Report.write wrote",
                got=f"{type(error).__name__}: {error}",
                fix='fx_compress.compare(model, smaller).write("int8.json") in the program that compresses',
            ) from error
        return cls(tuple(rows), figures)

    def __str__(self) -> str:
        cells = [
            (
                row.path,
                "×".join(map(str, row.shape)),
                row.stored,
                f"{row.bytes_after:,}",
                f"{row.bytes_before:,}",
                "exact" if np.isinf(row.sqnr) else f"{row.sqnr:.1f}",
                f"{row.zeros:.0%}",
            )
            for row in self.rows
        ]
        foot = ("all", "", f"{self.ratio:.3f} ×", f"{self.bytes_after:,}", f"{self.bytes_before:,}", "", "")
        head = ("parameter", "shape", "stored", "bytes", "was", "SQNR dB", "zeros")
        table = table_text(head, cells, total=foot, right=head[3:])
        return "\n".join([table, *(f"{name}: {was:.6g} → {now:.6g}" for name, (was, now) in self.figures.items())])


_FORMAT = "fx-compress report"


def compare(before: Any, after: Any, figures: Mapping[str, tuple[float, float]] | None = None) -> Report:
    """Compares a model with what became of it.

    Args:
      before: the model.
      after: the same model, quantized or pruned.
      figures: what was measured of both, by name: ``{"accuracy": (0.994, 0.991)}``.

    Returns:
      A row per parameter that both have; ``print`` shows a table.

    Raises:
      CompressError: a parameter is missing in one of them, or has another shape.

    >>> import fx_compress, jax.numpy as jnp
    >>> model = {"kernel": jnp.linspace(-1, 1, 64).reshape(8, 8), "bias": jnp.zeros(8)}
    >>> print(compare(model, fx_compress.quantize(model, fx_compress.int8())))
    parameter  shape  stored   bytes  was  SQNR dB  zeros
    ---------  -----  -------  -----  ---  -------  -----
    bias       8      float32     32   32    exact   100%
    kernel     8×8    int8        96  256     49.0     0%
    ---------  -----  -------  -----  ---  -------  -----
    all               0.444 ×    128  288
    """
    old = {parameter.path: parameter.value for parameter in parameters(before)}
    new = {parameter.path: parameter.value for parameter in parameters(after)}
    if {path: x.shape for path, x in old.items()} != {path: x.shape for path, x in new.items()}:
        differ = sorted(path for path in old.keys() | new.keys() if _shape(old, path) != _shape(new, path))
        raise CompressError(
            "The two are not one model before and after.",
            path=differ[0],
            expected=f"shape {_shape(old, differ[0])}",
            got=f"shape {_shape(new, differ[0])}",
            fix="compare the whole model with the whole model, or the parameters with the parameters",
        )
    return Report(tuple(_row(path, old[path], new[path]) for path in old), dict(figures or {}))


def _shape(found: dict[str, Any], path: str) -> Any:
    return found[path].shape if path in found else None


def _row(path: str, old: Any, new: Any) -> Row:
    stored = new.format if isinstance(new, QuantizedArray) else str(new.dtype)
    exact = new is old or not jnp.issubdtype(old.dtype, jnp.number)
    was, now = (np.asarray(array_of(x), np.float64) for x in ((0.0, 0.0) if exact else (old, new)))
    noise = float(((was - now) ** 2).sum())
    sqnr = float("inf") if noise == 0 else 10 * float(np.log10(max(float((was**2).sum()), 1e-300) / noise))
    zeros = 0.0 if not jnp.issubdtype(new.dtype, jnp.number) else float((np.asarray(array_of(new)) == 0).mean())
    return Row(path, tuple(new.shape), stored, _bytes(old), _bytes(new), sqnr, zeros)


def _bytes(x: Any) -> int:
    return x.nbytes if isinstance(x, ArrayNode) or not hasattr(x, "itemsize") else x.size * x.dtype.itemsize
