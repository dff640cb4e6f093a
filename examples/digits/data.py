"""The data (1,797 images of 8 by 8 pixels that come inside scikit-learn) and a picture of the errors."""

from typing import NamedTuple

import numpy as np
from sklearn.datasets import load_digits


class Images(NamedTuple):
    """Images (n, 8, 8, 1) from 0 to 1 in float32, labels (n,) in int32."""

    images: np.ndarray
    labels: np.ndarray


def load(seed: int = 0) -> tuple[Images, Images]:
    """Training and test images: four fifths and one fifth, drawn by ``seed``."""
    digits = load_digits()
    order = np.random.default_rng(seed).permutation(len(digits.target))
    images = digits.images[order, :, :, None].astype(np.float32) / 16
    labels = digits.target[order].astype(np.int32)
    cut = len(order) * 4 // 5
    return Images(images[:cut], labels[:cut]), Images(images[cut:], labels[cut:])


def picture(counts: np.ndarray) -> str:
    """A confusion table as text: the darker, the larger its share of the row."""
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    shades = np.array(list(" ░▒▓█"))[np.ceil(np.clip(shares, 0, 1) * 4).astype(int)]
    lines = ["         predicted", "         " + "".join(f"{digit:>4}" for digit in range(len(counts)))]
    for digit, (row, shade) in enumerate(zip(counts, shades)):
        cells = "".join(f"{mark}{mark}{count:>2}" if count else "   ·" for count, mark in zip(row, shade))
        lines.append(f"{'label' if digit == 0 else '':<6}{digit:>3}{cells}")
    return "\n".join(lines)
