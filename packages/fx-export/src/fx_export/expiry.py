"""How long a StableHLO program is read: JAX promises so for half a year after it was written."""

import datetime
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax.export

from fx_export.errors import ExpiryWarning

PROMISED, NOTICE = datetime.timedelta(days=180), datetime.timedelta(days=30)


def dates(today: datetime.date) -> dict[str, Any]:
    """Returns what is recorded about a program that is written today.

    >>> dates(datetime.date(2026, 1, 1))["expires"]
    '2026-06-30'
    """
    convention = jax.export.maximum_supported_calling_convention_version
    return {
        "written": today.isoformat(),
        "expires": (today + PROMISED).isoformat(),
        "calling_convention": convention,
        "jax": jax.__version__,
    }


def check_expiry(path: Path, index: Mapping[str, Any], today: datetime.date) -> None:
    """Warns where the promise has run out, or does so within a month; bundles of version 0.1 have no date.

    Args:
      path: the bundle's data.
      index: what was recorded.
      today: the date.
    """
    try:
        expires = datetime.date.fromisoformat(str(index.get("expires")))
    except ValueError:
        return
    # What this JAX wrote itself, it reads.
    if index.get("jax") == jax.__version__ or expires - today > NOTICE:
        return
    past = "has run out" if expires < today else "runs out"
    text = (
        f"JAX's promise to read this program {past} on {expires}, half a year after jax {index.get('jax')} wrote it: "
        f"{path}. Write it anew: fx export renew {path.parent}"
    )
    warnings.warn(text, ExpiryWarning, stacklevel=4)
