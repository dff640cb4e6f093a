"""The pytest plugin of fx-core: it tests everything that a distribution registers.

A module of tests that has the name ``fx_distribution`` gets the suites of `fx_core.testing` for each entry of that
distribution; see `fx_core.testing.conformance`. Fixtures: ``fx_entry``, each entry in turn, and ``fx_registry``, a
registry that knows that distribution alone. Nothing of fx is imported where no module has that name.
"""

from collections.abc import Iterable
from typing import Any

import pytest

_NAME = "fx_distribution"


def pytest_pycollect_makeitem(collector: Any, name: str, obj: object) -> list[Any] | None:
    """Collect the suites where a module says which distribution it tests."""
    if name != _NAME or not isinstance(obj, str) or not isinstance(collector, pytest.Module):
        return None
    from fx_core.testing.conformance import suites

    module = collector.obj
    found = suites(obj, *(getattr(module, f"fx_{part}", None) for part in ("arguments", "inputs", "kwargs")))
    for key, suite in found.items():
        suite.__module__ = module.__name__
        setattr(module, key, suite)
    return [pytest.Class.from_parent(collector, name=key) for key in found]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give ``fx_entry`` each entry of the distribution."""
    if "fx_entry" in metafunc.fixturenames:
        from fx_core.testing.conformance import entries_of_distribution

        entries: Iterable[Any] = entries_of_distribution(_distribution(metafunc.module))
        metafunc.parametrize("fx_entry", [pytest.param(one, id=f"{one.kind}-{one.name}") for one in entries])


@pytest.fixture
def fx_registry(request: pytest.FixtureRequest) -> Any:
    """Returns a registry that knows the plugins of the distribution alone."""
    from fx_core.testing.plugins import PluginSuite

    suite = PluginSuite()
    suite.distribution = _distribution(request.module)
    return suite.registry()


def _distribution(module: Any) -> str:
    found = getattr(module, _NAME, None)
    if not isinstance(found, str):
        raise pytest.UsageError(f'{module.__name__} does not say what it tests: write {_NAME} = "acme-layers".')
    return found
