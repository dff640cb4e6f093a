"""The plugin of pytest that all tests here run under."""

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import pytest
from fx_core.testing import strict_jax

TEST = """
import jax, jax.numpy as jnp

def test_sum():
    assert jax.jit(lambda x: (x * 3).sum())(jnp.ones(4)) == 12.0
"""


def test_rank_promotion_raises():
    with pytest.raises(ValueError, match="rank"):
        jnp.ones((2, 3)) + jnp.ones(3)


def test_many_programs_are_forgotten_between_tests(monkeypatch):
    traces = []
    program = jax.jit(lambda x: traces.append(x) or x + 1)
    program(jnp.ones(2))
    monkeypatch.setattr(strict_jax, "REMEMBERED", 10_000)
    strict_jax.pytest_runtest_teardown()
    program(jnp.ones(2))
    assert len(traces) == 1
    monkeypatch.setattr(strict_jax, "REMEMBERED", 0)
    strict_jax.pytest_runtest_teardown()
    program(jnp.ones(2))
    assert len(traces) == 2


@pytest.mark.slow
def test_programs_that_are_half_written_are_compiled_again(tmp_path):
    cache = tmp_path / "cache"
    (tmp_path / "test_sum.py").write_text(TEST)
    (tmp_path / "pytest.ini").write_text("[pytest]\nfilterwarnings = error\n")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "fx_core.testing.strict_jax", "-p", "no:cacheprovider"]

    def run():
        env = {**os.environ, "JAX_COMPILATION_CACHE_DIR": str(cache), "PYTEST_ADDOPTS": ""}
        done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout

    run()
    kept = list(cache.glob("*-cache"))
    assert kept
    for number, file in enumerate(kept):
        file.write_bytes(file.read_bytes()[: 50 * (number % 2)])
    run()
