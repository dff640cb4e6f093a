"""What every plugin has to do."""

import subprocess
import sys
from typing import Any

from fx_core.plugins.doctor import examine
from fx_core.plugins.entries import Entry
from fx_core.plugins.known import FAMILY
from fx_core.plugins.registry import Registry
from fx_core.plugins.sources import PluginSource, installed_sources
from fx_core.plugins.switches import Switches, normalize

# What a plugin module must not import: each costs every program that uses fx, whether or not it uses the plugin.
_HEAVY = ("fx_linen", "fx_nnx", "fx_transforms", "orbax", "tensorflow", "torch", "onnx", "flax", "click")


class PluginSuite:
    """The contract of an installed plugin: subclass it and name the distribution.

    Attributes:
      distribution: name of the distribution, as in its ``pyproject.toml``.
    """

    distribution: str = ""

    def sources(self) -> list[PluginSource]:
        """Returns the entry points of the distribution in the group ``fx``."""
        found = [s for s in installed_sources() if normalize(s.origin.owner) == normalize(self.distribution)]
        assert found, f"{self.distribution!r} is not installed or has no entry point in the group 'fx'"
        return found

    def registry(self) -> Registry:
        """Returns a registry with this plugin alone."""
        return Registry(self.sources(), Switches())

    def entries(self) -> list[Entry]:
        """Returns everything that the plugin registers."""
        return [entry for status in self.registry().plugins for entry in status.entries]

    def test_loads_without_problems(self):
        registry = self.registry()
        assert [str(problem) for problem in registry.problems] == []
        assert [status.state for status in registry.plugins] == ["loaded"] * len(registry.plugins)

    def test_registers_something_or_listens(self):
        hooks: list[Any] = [name for s in self.sources() for name in dir(s.load()) if name.startswith("fx_")]
        assert [name for name in hooks if name != "fx_api_version"]

    def test_declares_its_api_version(self):
        for source in self.sources():
            assert isinstance(getattr(source.load(), "fx_api_version", None), str)

    def test_names_carry_the_vendor(self):
        if normalize(self.distribution) not in FAMILY:
            bare = [e.name for e in self.entries() if "." not in e.name and e.kind != "command"]
            assert bare == []

    def test_summaries_are_one_line(self):
        for entry in self.entries():
            assert entry.summary.strip(), entry.name
            assert "\n" not in entry.summary, entry.name

    def test_every_entry_loads(self):
        assert [str(finding) for finding in examine(self.registry()) if finding.level == "problem"] == []

    def test_clashes_with_nothing_installed(self):
        everything = Registry(switches=Switches())
        mine = {entry.name for entry in self.entries()}
        assert [str(clash) for clash in everything.clashes() if clash.name in mine] == []

    def test_being_discovered_imports_nothing_heavy(self):
        modules = [source.origin.module.partition(":")[0] for source in self.sources()]
        imports = "; ".join(f"import {module}" for module in modules)
        code = f"import sys; {imports}; print([m for m in {_HEAVY} if m in sys.modules])"
        run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert (run.stdout.strip(), run.stderr) == ("[]", "")
