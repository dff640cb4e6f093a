"""The plugin of pytest: ``pytest -p fx_flax.pytest`` runs tests that were written for Flax on fx."""

import pytest

from fx_flax.installing import install
from fx_flax.table import API_VERSION

__all__ = ["pytest_load_initial_conftests", "pytest_report_header"]


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests() -> None:
    """Install before any ``conftest.py`` or test imports Flax."""
    install()


def pytest_report_header() -> str:
    """Say in the head of the report what the tests run on."""
    return f"flax: fx, with the names of Flax {API_VERSION}"
