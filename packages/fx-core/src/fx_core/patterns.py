"""Patterns of names, in which a star stands for anything."""


def glob(text: str, pattern: str) -> bool:
    """Returns whether a whole text matches a pattern; only the star is special, and no text takes long.

    >>> glob("bn1.num_batches_tracked", "*.num_batches_tracked"), glob("a[0]", "a[0]"), glob("ab", "a")
    (True, True, False)
    """
    first, *rest = pattern.split("*")
    if not rest:
        return text == pattern
    *middle, last = rest
    if not text.startswith(first):
        return False
    at = len(first)
    # The first place of each piece leaves most for the others, so that there is nothing to come back to.
    for piece in middle:
        found = text.find(piece, at)
        if found < 0:
            return False
        at = found + len(piece)
    return text.endswith(last) and len(text) - len(last) >= at
