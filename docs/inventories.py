"""Where the documentation of other projects lists its names, so that `jax.vmap` in a text is a link.

Off by default, since a build must not depend on other sites. ``FX_DOCS_ONLINE=1`` fetches the lists of the sites that
answer; ``FX_DOCS_INVENTORIES=DIRECTORY`` takes ``jax.inv``, ``optax.inv`` and so on from there, without network.
"""

import os
import urllib.request
from collections.abc import Mapping
from pathlib import Path

SITES = {
    "jax": "https://docs.jax.dev/en/latest/",
    "numpy": "https://numpy.org/doc/stable/",
    "optax": "https://optax.readthedocs.io/en/latest/",
    "orbax": "https://orbax.readthedocs.io/en/latest/",
    "python": "https://docs.python.org/3/",
}


def answers(url: str) -> bool:
    """Returns whether the list of a site can be fetched."""
    try:
        with urllib.request.urlopen(url + "objects.inv", timeout=3):
            return True
    except OSError:
        return False


def mapping(environment: Mapping[str, str] = os.environ) -> dict[str, tuple[str, str | None]]:
    """Returns ``intersphinx_mapping``: for each project its site and the file with its list, None to fetch that."""
    if directory := environment.get("FX_DOCS_INVENTORIES"):
        files = {name: Path(directory).resolve() / f"{name}.inv" for name in SITES}
        return {name: (SITES[name], str(file)) for name, file in files.items() if file.exists()}
    online = environment.get("FX_DOCS_ONLINE") == "1"
    return {name: (url, None) for name, url in SITES.items() if online and answers(url)}
