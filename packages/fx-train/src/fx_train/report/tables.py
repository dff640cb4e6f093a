"""Confusion matrices, parameters and settings."""

import base64
import math
import struct
import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from fx_core.pages import escaped as _

from fx_train.report.numbers import percent

LARGEST_TABLE = 40
"""Classes up to which a confusion matrix is a table with numbers."""


def confusion(table: Mapping[str, Any]) -> str:
    """Returns a confusion matrix: a table, or a picture and the worst confusions where there are many classes."""
    counts = np.asarray(table["counts"])
    classes = [str(name) for name in table.get("classes") or range(len(counts))]
    caption = f"rows: label, columns: prediction, after step {_(table.get('step', '?'))}"
    return (_matrix if len(counts) <= LARGEST_TABLE else _picture)(counts, classes, caption)


def parameters(entries: Sequence[Mapping[str, Any]]) -> str:
    """Returns names, shapes and sizes."""
    if not entries:
        return ""
    sizes = [math.prod(entry["shape"]) for entry in entries]
    total, largest = sum(sizes), max([*sizes, 1])
    rows = "".join(
        f"<tr><td><code>{_(entry['path'])}</code></td><td>{_(' × '.join(map(str, entry['shape'])) or 'scalar')}</td>"
        f"<td>{_(entry['dtype'])}</td><td class='number'>{size:,}</td>"
        f'<td class="bar"><i style="width:{100 * size / largest:.1f}%"></i></td></tr>'
        for entry, size in zip(entries, sizes)
    )
    summary = f"{total:,} numbers in {len(entries)} array{'s' if len(entries) > 1 else ''}"
    return (
        f"<details{' open' if len(entries) <= 24 else ''}><summary>{summary}</summary>"
        '<div class="scroll"><table><tr><th>name</th><th>shape</th><th>dtype</th><th class="number">numbers</th>'
        f"<th></th></tr>{rows}</table></div></details>"
    )


def facts(values: Mapping[str, Any]) -> str:
    """Returns names and values; what is nested has names with dots."""
    rows = "".join(f"<tr><th>{_(name)}</th><td><code>{_(value)}</code></td></tr>" for name, value in _flat(values))
    return f'<table class="facts">{rows}</table>' if rows else ""


def _matrix(counts: np.ndarray, classes: Sequence[str], caption: str) -> str:
    with np.errstate(invalid="ignore", divide="ignore"):
        shares = counts / counts.sum(axis=1, keepdims=True)
        recall, precision = np.diag(counts) / counts.sum(axis=1), np.diag(counts) / counts.sum(axis=0)
        accuracy = np.trace(counts) / counts.sum()
    head = "".join(f"<th>{_(name)}</th>" for name in classes)
    rows = []
    for i, label in enumerate(classes):
        cells = "".join(
            f'<td class="{"hit" if i == j else "miss"}{" strong" if share > 0.5 else ""}" '
            f'style="--share:{0 if math.isnan(share) else share:.3f}">{count or "·"}</td>'
            for j, (count, share) in enumerate(zip(counts[i], shares[i]))
        )
        rows.append(f"<tr><th>{_(label)}</th>{cells}<td class='rate'>{percent(recall[i])}</td></tr>")
    foot = "".join(f"<td class='rate'>{percent(value)}</td>" for value in precision)
    return (
        f'<div class="scroll"><table class="confusion"><caption>{caption}</caption>'
        f"<tr><th></th>{head}<th>recall</th></tr>{''.join(rows)}"
        f"<tr><th>precision</th>{foot}<td class='rate total'>{percent(accuracy)}</td></tr></table></div>"
    )


def _picture(counts: np.ndarray, classes: Sequence[str], caption: str) -> str:
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    # The square root shows rare confusions beside frequent hits.
    data = base64.b64encode(_png(np.rint(255 * np.sqrt(shares)).astype(np.uint8))).decode()
    wrong = counts * (1 - np.eye(len(counts), dtype=counts.dtype))
    worst = [divmod(int(i), len(counts)) for i in np.argsort(-wrong, axis=None, kind="stable")[:12]]
    rows = "".join(
        f"<tr><td>{_(classes[i])}</td><td>{_(classes[j])}</td><td class='number'>{counts[i, j]:,}</td>"
        f"<td class='number'>{percent(shares[i, j])}</td></tr>"
        for i, j in worst
        if wrong[i, j]
    )
    accuracy = np.trace(counts) / counts.sum() if counts.sum() else math.nan
    return (
        f'<div class="heat"><div><img class="matrix" alt="Confusion matrix" '
        f'src="data:image/png;base64,{data}"><p>{caption}</p></div>'
        f"<div><p>accuracy <b>{percent(accuracy)}</b>; the most frequent confusions:</p><table><tr><th>label</th>"
        f"<th>prediction</th><th class='number'>count</th><th class='number'>of the label</th></tr>{rows}"
        "</table></div></div>"
    )


def _png(opacity: np.ndarray) -> bytes:
    """Blue of so much opacity, (height, width) bytes, which suits light and dark pages."""
    height, width = opacity.shape
    pixels = np.empty((height, 1 + 4 * width), np.uint8)
    pixels[:, 0] = 0
    pixels[:, 1:] = np.stack([np.full_like(opacity, c) for c in (0x2F, 0x7F, 0xEE)] + [opacity], -1).reshape(height, -1)
    header = struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(pixels.tobytes())), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, ", ".join(map(str, value)) if isinstance(value, list) else value
