"""Programs written for Flax give the same numbers after `fx migrate`."""

import sys
import types
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

pytest.importorskip("libcst")

from fx_flax.migration.source import migrate_source

PROGRAMS = sorted((Path(__file__).parent / "flax_programs").glob("*.py"))


def run(name: str, text: bytes) -> dict[str, object]:
    """What the program computes. It is a module of its own, as dataclasses and pickles look theirs up."""
    module = types.ModuleType(name)
    sys.modules[name] = module
    try:
        exec(compile(text, f"{name}.py", "exec"), vars(module))
        return module.main()
    finally:
        del sys.modules[name]


def plain(value: object) -> np.ndarray:
    if isinstance(value, jax.Array) and jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
        return np.asarray(jax.random.key_data(value))
    return np.asarray(value)


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda path: path.stem)
@pytest.mark.filterwarnings("ignore")
def test_a_program_gives_the_same_numbers(path):
    text = path.read_bytes()
    done = migrate_source(text)
    left = [finding for finding in done.findings if finding.kind == "left"]
    assert left == []
    assert b"import flax" not in done.text
    assert b"from flax" not in done.text
    assert b"flax." not in done.text
    assert migrate_source(done.text).text == done.text
    with jax.numpy_rank_promotion("allow"):
        theirs, mine = run(f"on_flax_{path.stem}", text), run(f"on_fx_{path.stem}", done.text)
    theirs, mine = jax.tree.map(plain, dict(theirs)), jax.tree.map(plain, dict(mine))
    assert jax.tree.structure(theirs) == jax.tree.structure(mine)
    for (where, expected), got in zip(jax.tree.leaves_with_path(theirs), jax.tree.leaves(mine), strict=True):
        if expected.dtype.kind in "US":
            assert str(expected) == str(got), where
        else:
            np.testing.assert_allclose(got, expected, rtol=2e-5, atol=1e-6, err_msg=jax.tree_util.keystr(where))
