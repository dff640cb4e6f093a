"""One browser for all tests of a process."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from chromium import Browser, Page


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    browser = Browser(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


@pytest.fixture
def show(browser: Browser) -> Any:
    """Open a file: ``show(file, width=390, scheme="dark")``."""

    def show(file: Path, **options: Any) -> Page:
        return Page(browser, file, **options)

    return show
