"""Links from the site to the documentation of other projects."""

import subprocess
import sys
import zlib
from pathlib import Path

import inventories

DOCS = Path(__file__).parents[2] / "docs"
HEADER = b"# Sphinx inventory version 2\n# Project: JAX\n# Version: 0.12\n# The rest is compressed using zlib.\n"


def write_inventory(file, *lines):
    file.write_bytes(HEADER + zlib.compress("".join(f"{line}\n" for line in lines).encode()))


def test_a_build_asks_no_other_site_by_default(monkeypatch):
    monkeypatch.setattr(inventories, "answers", lambda url: 1 / 0)
    assert inventories.mapping({}) == {}


def test_sites_that_answer_are_used_online(monkeypatch):
    monkeypatch.setattr(inventories, "answers", lambda url: "jax" in url)
    assert inventories.mapping({"FX_DOCS_ONLINE": "1"}) == {"jax": ("https://docs.jax.dev/en/latest/", None)}


def test_names_of_other_projects_are_links(tmp_path):
    lists, source, site = tmp_path / "lists", tmp_path / "source", tmp_path / "site"
    lists.mkdir()
    source.mkdir()
    write_inventory(lists / "jax.inv", "jax.vmap py:function 1 _autosummary/jax.vmap.html#$ -")
    write_inventory(lists / "optax.inv", "optax.adam py:function 1 api/optimizers.html#$ -")
    (source / "conf.py").write_text(
        f"import sys\nsys.path.insert(0, {str(DOCS)!r})\nimport inventories\n"
        f"intersphinx_mapping = inventories.mapping({{'FX_DOCS_INVENTORIES': {str(lists)!r}}})\n"
        "extensions = ['sphinx.ext.intersphinx']\ndefault_role = 'py:obj'\n"
    )
    (source / "index.rst").write_text("Names\n=====\n\nSee `jax.vmap`, `optax.adam` and `orbax.unknown`.\n")
    subprocess.run([sys.executable, "-m", "sphinx", "-q", "-W", "-b", "html", source, site], check=True)
    page = (site / "index.html").read_text()
    assert 'href="https://docs.jax.dev/en/latest/_autosummary/jax.vmap.html#jax.vmap"' in page
    assert 'href="https://optax.readthedocs.io/en/latest/api/optimizers.html#optax.adam"' in page
