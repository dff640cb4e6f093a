"""Classify digits with the exported bundle; no training code, no network definition is needed.

python serve.py runs/digits/bundle
"""

import sys

import fx_export
import numpy as np
from data import load


def main(bundle: str) -> None:
    """Print the predictions for the first test images."""
    predict = fx_export.load(bundle)
    _, test = load()
    probabilities = np.asarray(predict(test.images[:10]))
    for label, row in zip(test.labels, probabilities):
        print(f"label {label}: predicted {row.argmax()} with probability {row.max():.3f}")


if __name__ == "__main__":
    main(sys.argv[1])
