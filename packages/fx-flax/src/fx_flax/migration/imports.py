"""What becomes of each import statement of Flax, and of each name that it binds."""

import collections
from collections.abc import Callable, Iterator
from typing import Any

import libcst as cst

from fx_flax.migration.names import Binding, Use, dotted
from fx_flax.migration.places import FACADES, LATER, SHADOWED, Found, main_place, resolve, shown_places
from fx_flax.table import module_names

__all__ = ["ImportPlan", "of_flax"]

Import = cst.Import | cst.ImportFrom


def of_flax(module: cst.Module) -> dict[Import, list[Binding]]:
    """Returns the import statements of Flax, each with the modules of Flax that it gives names to."""
    return {statement: list(_bindings(statement)) for statement in _imports(module)}


def _imports(node: cst.CSTNode) -> Iterator[Import]:
    if isinstance(node, cst.Import):
        if any((dotted(alias.name) or [""])[0] == "flax" for alias in node.names):
            yield node
    elif isinstance(node, cst.ImportFrom):
        if not node.relative and (dotted(node.module) or [""])[0] == "flax":
            yield node
    else:
        for child in node.children:
            yield from _imports(child)


def _bindings(statement: Import) -> Iterator[Binding]:
    if isinstance(statement.names, cst.ImportStar):
        return
    base = dotted(statement.module) if isinstance(statement, cst.ImportFrom) else []
    for alias in statement.names:
        parts = [*(base or []), *(dotted(alias.name) or [])]
        if parts[0] != "flax":
            continue
        found = resolve("flax", parts[1:])
        if found.kind != "module":
            continue
        whole = isinstance(statement, cst.Import) and alias.asname is None
        name = "flax" if whole else bound_name(alias)
        yield Binding(name, "flax" if whole else found.module, whole, statement, found.module)


def bound_name(alias: cst.ImportAlias) -> str:
    """The name that an alias of an import binds."""
    own = alias.asname.name if alias.asname is not None else alias.name
    return (dotted(own) or [""])[-1]


class ImportPlan:
    """What to write in place of the imports and names of a program.

    Args:
      statements: the imports with their bindings, whose uses are known.
      lines: of the imports.
      report: takes the line, the name and the reason of what is not translated.

    Attributes:
      expressions: new text for nodes.
      main: for each binding the module of fx that its name stands for from now on; None where it stands for none.
      needed: for each import the imports of fx that stand next to it, since names are written in full.
      packages: what is imported of fx.
    """

    def __init__(self, statements: dict[Import, list[Binding]], lines: dict[Import, int], report: Callable[..., None]):
        self.statements, self.lines, self.report = statements, lines, report
        self.expressions: dict[cst.CSTNode, str] = {}
        self.needed: dict[Import, list[str]] = collections.defaultdict(list)
        self.main: dict[Binding, str | None] = {}
        self.packages: set[str] = set()
        bindings = [binding for several in statements.values() for binding in several]
        self._share_whole([binding for binding in bindings if binding.whole])
        for binding in bindings:
            self.main[binding] = self._main(binding)
            for use in binding.uses:
                self._translate(binding, use)

    def _share_whole(self, bindings: list[Binding]) -> None:
        """Give each use of ``flax`` to one import: that which names the longest part of it, or the first."""
        owners: dict[Use, list[Binding]] = collections.defaultdict(list)
        for binding in bindings:
            for use in binding.uses:
                owners[use].append(binding)
        for binding in bindings:
            binding.uses = []
        for use, several in owners.items():
            text = ".".join(["flax", *use.parts]) + "."
            fitting = [binding for binding in several if text.startswith(binding.asked + ".")] or several[:1]
            max(fitting, key=lambda binding: len(binding.asked)).uses.append(use)
        shared = {binding: several for several in owners.values() for binding in several}
        # An import whose names all came with other imports of the same scope has nothing left to do.
        self.idle = {binding for binding, several in shared.items() if not binding.uses and len(several) > 1}

    def _main(self, binding: Binding) -> str | None:
        if binding.whole:
            return None
        known = module_names(binding.module)
        direct = collections.Counter(
            known.places[use.parts[0]].partition(":")[0]
            for use in binding.uses
            if known is not None and use.parts and use.parts[0] in known.places
        )
        usual = main_place(binding.module)
        if usual in FACADES or not direct:
            return usual
        return max(direct, key=lambda place: (direct[place], place == usual))

    def _translate(self, binding: Binding, use: Use) -> None:
        name = ".".join([binding.name, *use.parts])
        found = resolve(binding.module, use.parts)
        if found.kind == "missing":
            binding.kept = True
            self.report(use.line, ".".join([binding.name, *use.parts[: found.used]]), found.why)
        elif found.kind == "name":
            self._write(binding, use.nodes[found.used], found.module, found.name)
        elif use.parts:
            place = main_place(found.module)
            if place is None:
                binding.kept = True
                self.report(use.line, name, "a package of Flax is used as a value; fx has no one module like it")
            else:
                self._mixed(use, name, found.module, place)
                self._write(binding, use.nodes[found.used], place, None)
        elif binding.whole or self.main[binding] is None:
            binding.kept = True
            self.report(use.line, name, "a package of Flax is used as a value; fx has no one module like it")
        else:
            self._mixed(use, name, binding.module, self.main[binding] or "")

    def _mixed(self, use: Use, name: str, module: str, place: str) -> None:
        """Note that a module that is used as a value has names that are elsewhere in fx."""
        others = {other for other in shown_places(module) if other != place and not other.startswith("fx_core.typing")}
        if others:
            self.report(use.line, name, f"used as a value: {place} now; some names of {module} are elsewhere", "note")

    def _write(self, binding: Binding, node: cst.CSTNode, place: str, name: str | None) -> None:
        main, ending = self.main[binding], f".{name}" if name else ""
        self.need_package(place)
        if name and place.startswith(SHADOWED):
            self.need(binding.statement, place, f"from {place} import {name}")
            self.expressions[node] = name
            return
        if place == main:
            text = binding.name
        elif main in FACADES and place.startswith(f"{main}.") and place not in LATER:
            text = binding.name + place.removeprefix(main or "")
        else:
            text = place
            self.need(binding.statement, place)
        self.expressions[node] = text + ending

    def need(self, statement: Any, place: str, text: str | None = None) -> None:
        """Have a module of fx imported next to an import, or a name in the way that the text says."""
        text = text or f"import {place}"
        if text not in self.needed[statement]:
            self.needed[statement].append(text)
        self.need_package(place)

    def need_package(self, place: str) -> None:
        """Records that a package of fx is imported."""
        package = place.partition(".")[0]
        if package.startswith("fx_"):
            self.packages.add(package)

    def targets(self, statement: Import) -> Iterator[tuple[cst.ImportAlias, Found, Binding | None]]:
        """What each alias of an import means."""
        base = dotted(statement.module) if isinstance(statement, cst.ImportFrom) else []
        bindings = list(self.statements[statement])
        assert not isinstance(statement.names, cst.ImportStar)
        for alias in statement.names:
            parts = [*(base or []), *(dotted(alias.name) or [])]
            found = resolve("flax", parts[1:]) if parts[0] == "flax" else Found("missing", "", 0, why="other")
            yield alias, found, bindings.pop(0) if found.kind == "module" and parts[0] == "flax" else None
