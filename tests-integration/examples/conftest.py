"""The programs in examples/, each with its own modules `network`, `data`, …, as if one had started it there."""

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def forget() -> None:
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None)).startswith(str(EXAMPLES)):
            del sys.modules[name]


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, str], ModuleType]]:
    """Import a module of an example: ``example("gpt", "network")``."""

    def load(name: str, module: str) -> ModuleType:
        monkeypatch.syspath_prepend(str(EXAMPLES / name))
        return importlib.import_module(module)

    forget()
    yield load
    forget()
