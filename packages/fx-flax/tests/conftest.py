import fx_flax
import pytest


@pytest.fixture
def in_place(monkeypatch):
    """fx in the place of Flax, during a test."""
    fx_flax.install()
    yield
    fx_flax.uninstall()
