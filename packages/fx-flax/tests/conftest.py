import fx_flax
import pytest


@pytest.fixture
def in_place():
    """fx in the place of Flax, during a test.

    It does not ask for ``monkeypatch``: what a test patches, such as `sys.meta_path`, is undone first.
    """
    fx_flax.install()
    yield
    fx_flax.uninstall()
    assert not fx_flax.installed()
