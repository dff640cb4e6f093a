"""Errors of networks that need a number where a size is to stay free: where in the model, and what to do."""

import re
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import jax
import numpy as np
from fx_core.compat import jax as compat
from fx_core.errors import FxError

from fx_export.errors import UnsupportedProgramError
from fx_export.models import model_entry, module_path_of
from fx_export.sizes import symbols_of

_LIBRARIES = tuple(
    f"/{name}/" for name in ("jax", "numpy", "fx_core", "fx_linen", "fx_nnx", "fx_transforms", "fx_export")
)


@contextmanager
def sizes_stay_free(inputs: Any) -> Iterator[None]:
    """Turns what is raised where a symbolic size has to be a number into an error that says where.

    Args:
      inputs: descriptions of the inputs.

    Raises:
      UnsupportedProgramError: a size cannot stay free.
    """
    try:
        yield
    except compat.InconclusiveDimensionOperation as error:
        raise _not_free(error) from error
    except (ValueError, NotImplementedError) as error:
        # What JAX says where it would have to know more of a size, as to reflect the end of an axis.
        if isinstance(error, FxError) or not re.search(r"(?i)shape polymorphism|polymorphic shape", str(error)):
            raise
        raise _not_free(error) from error
    except TypeError as error:
        # What Python and NumPy say of a symbol that they take for a number, and of a shape with one.
        names = {name for spec in jax.tree.leaves(inputs) for size in np.shape(spec) for name in symbols_of(size)}
        if not re.search("|".join(["_DimExpr", *(rf"got '.*\b{name}\b" for name in names)]), str(error)):
            raise
        raise _not_free(error) from error


def _not_free(error: Exception) -> UnsupportedProgramError:
    frames = list(traceback.walk_tb(error.__traceback__))
    theirs = [frame for frame, _ in frames if not any(own in frame.f_code.co_filename for own in _LIBRARIES)]
    lines = {id(frame): line for frame, line in frames}
    found = theirs[-1] if theirs else frames[-1][0]
    where = f"{found.f_code.co_qualname} ({Path(found.f_code.co_filename).name}:{lines[id(found)]})"
    module = module_path_of([frame.f_locals["self"] for frame, _ in frames if _in_module(frame)])
    return UnsupportedProgramError(
        "A size cannot stay free here.",
        path=f"{module}: {where}" if module else where,
        expected="operations that work for all values of the symbols",
        got=str(error).partition("\nThis error arises")[0],
        fix='Give that size as a number in the inputs, or say more about it: constraints=["length >= 2"], or "2*half".',
    )


def _in_module(frame: FrameType) -> bool:
    return model_entry(frame.f_locals.get("self")) is not None
