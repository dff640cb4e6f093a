"""A pytest plugin that makes JAX strict; enable it with ``-p fx_core.testing.strict_jax``.

Implicit rank promotion raises, since it hides a missing axis; compiled programs are kept between runs in the
directory that ``JAX_COMPILATION_CACHE_DIR`` names, or in ``.jax_cache`` beside the pytest configuration.
"""

import os

import jax
import pytest


def pytest_configure(config: pytest.Config) -> None:
    """Set the flags before any test module is imported."""
    jax.config.update("jax_numpy_rank_promotion", "raise")
    if not os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        jax.config.update("jax_compilation_cache_dir", str(config.rootpath / ".jax_cache"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
