"""Showing models where programs run: as pages in a notebook, as text elsewhere."""

import sys
from typing import Any

__all__ = ["display"]


def display(*args: Any) -> None:
    """Shows modules, states and anything else.

    In a notebook with treescope installed (the extra ``fx-nnx[display]``) this is a page to fold and unfold, with
    pictures of arrays; what is in several places or contains itself is marked. Elsewhere it is the printed ``repr``.

    Args:
      *args: what to show.

    >>> import fx_nnx as nnx
    >>> display(nnx.Param(1))
    Param(
      value=1
    )
    """
    treescope = _treescope() if "IPython" in sys.modules else None
    for value in args:
        if treescope is None:
            print(value)
        else:
            treescope.display(value, ignore_exceptions=True, autovisualize=True)


def _treescope() -> Any:
    try:
        import treescope
        from IPython import get_ipython  # pyright: ignore[reportMissingImports]  # comes with notebooks
    except ImportError:
        return None
    return treescope if get_ipython() is not None else None
