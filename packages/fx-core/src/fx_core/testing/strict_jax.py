"""A pytest plugin that makes JAX strict; enable it with ``-p fx_core.testing.strict_jax``.

Implicit rank promotion raises, since it hides a missing axis; compiled programs are kept between runs in the
directory that ``JAX_COMPILATION_CACHE_DIR`` names, or in ``.jax_cache`` beside the pytest configuration.

Between two tests JAX forgets its compiled programs once they are more than ``REMEMBERED``, and finds them again in
that directory. Each one takes a megabyte and a half of memory, and makes the next ones slower to lower and to compile.
"""

import os

import jax
import pytest

REMEMBERED = 400

_compiled: list[str] = []


def pytest_configure(config: pytest.Config) -> None:
    """Set the flags before any test module is imported."""
    jax.config.update("jax_numpy_rank_promotion", "raise")
    if not os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        jax.config.update("jax_compilation_cache_dir", str(config.rootpath / ".jax_cache"))
    # To read the smallest program takes a quarter of the time to compile it, and to write it next to none.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    # A worker may read what another one has not written to its end: JAX says so, and compiles it.
    config.addinivalue_line("filterwarnings", "ignore:Error reading persistent compilation cache entry:UserWarning")
    jax.monitoring.register_event_duration_secs_listener(_count)


def _count(event: str, duration_secs: float, **details: str | int) -> None:
    del duration_secs, details
    if event == "/jax/core/compile/backend_compile_duration":
        _compiled.append(event)


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown() -> None:
    """Forget compiled programs, if they are many."""
    if len(_compiled) > REMEMBERED:
        _compiled.clear()
        jax.clear_caches()
