"""Text from files and programs on its way to a terminal."""

import unicodedata

__all__ = ["plain"]


def plain(text: str) -> str:
    """The text without what a terminal would obey: control and formatting characters are written as escapes.

    >>> plain("a\\x1b[31mb\\n")
    'a\\\\x1b[31mb\\n'
    """
    return "".join(char if char == "\n" or _is_visible(char) else _escape(char) for char in text)


def _is_visible(char: str) -> bool:
    return char.isprintable() and not unicodedata.category(char).startswith("C")


def _escape(char: str) -> str:
    # Spaces of other alphabets count as not printable, too.
    return char if unicodedata.category(char) == "Zs" else ascii(char)[1:-1]
