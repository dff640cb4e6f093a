"""Images of digits as one PNG, with nothing but the standard library and NumPy."""

import struct
import zlib
from pathlib import Path

import numpy as np


def grid(images: np.ndarray, columns: int, scale: int = 6) -> np.ndarray:
    """Lay images (count, 64) from 0 to 1 out in rows, with a gap; gives bytes (height, width), ink is dark."""
    padding = -len(images) % columns
    tiles = np.pad(images, ((0, padding), (0, 0))).reshape(-1, columns, 8, 8)
    tiles = np.pad(tiles, ((0, 0), (0, 0), (1, 1), (1, 1)))
    page = tiles.transpose(0, 2, 1, 3).reshape(tiles.shape[0] * 10, columns * 10)
    return np.rint(255 * (1 - np.clip(page, 0, 1))).astype(np.uint8).repeat(scale, 0).repeat(scale, 1)


def write_png(file: Path, pixels: np.ndarray) -> None:
    """Write gray bytes (height, width) as PNG."""
    height, width = pixels.shape
    rows = np.pad(pixels, ((0, 0), (1, 0))).tobytes()  # a zero before every row: no filter
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(rows, 9)), (b"IEND", b"")]
    file.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + b"".join(struct.pack(">I", len(b)) + k + b + struct.pack(">I", zlib.crc32(k + b)) for k, b in chunks)
    )
