"""The text: Python's own reference manual, as it comes inside every Python."""

import pydoc_data.topics

import numpy as np


def load() -> str:
    """The manual's topics in alphabetic order, as printable ASCII."""
    topics = pydoc_data.topics.topics
    text = "\n\n".join(topics[name] for name in sorted(topics))
    return "".join(c for c in text if c == "\n" or " " <= c <= "~")


def encode(text: str) -> np.ndarray:
    """Characters as tokens: 0 for a line's end, then the 95 printable ones; int32 (characters,)."""
    if strange := {c for c in text if c != "\n" and not " " <= c <= "~"}:
        raise ValueError(f"The text may have printable ASCII and line ends only, got {sorted(strange)}.")
    codes = np.frombuffer(text.encode("ascii"), np.uint8).astype(np.int32)
    return np.where(codes == 10, 0, codes - 31)


def decode(tokens: np.ndarray) -> str:
    """The characters of tokens."""
    tokens = np.asarray(tokens)
    return np.where(tokens == 0, 10, tokens + 31).astype(np.uint8).tobytes().decode("ascii")


VOCABULARY = 96


def windows(tokens: np.ndarray, length: int) -> dict[str, np.ndarray]:
    """Consecutive windows, each with the character that follows every one of its own: two arrays (windows, length)."""
    count = (len(tokens) - 1) // length
    cut = tokens[: count * length + 1]
    return {"x": cut[:-1].reshape(count, length), "y": cut[1:].reshape(count, length)}
