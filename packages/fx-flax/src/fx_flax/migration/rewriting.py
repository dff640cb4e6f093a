"""Writing what `fx_flax.migration.imports` has planned."""

import collections
from collections.abc import Sequence
from typing import Any

import libcst as cst

from fx_flax.migration.imports import Import, ImportPlan, bound_name
from fx_flax.migration.names import Binding, dotted
from fx_flax.migration.places import Found, main_place, shown_places

__all__ = ["Rewriting"]


class Rewriting(cst.CSTTransformer):
    """Replaces nodes and imports statements."""

    def __init__(self, plan: ImportPlan):
        super().__init__()
        self.plan = plan

    def on_leave(self, original_node: cst.CSTNode, updated_node: Any) -> Any:
        """Replaces what is planned, keeps the rest."""
        text = self.plan.expressions.get(original_node)
        if text is not None and text != _code(original_node):
            new = cst.parse_expression(text)
            if isinstance(updated_node, cst.Name | cst.Attribute):
                new = new.with_changes(lpar=updated_node.lpar, rpar=updated_node.rpar)
            return new
        return super().on_leave(original_node, updated_node)

    def leave_SimpleStatementLine(
        self, original_node: cst.SimpleStatementLine, updated_node: cst.SimpleStatementLine
    ) -> Any:
        """Writes the statements that an import becomes, each on a line."""
        parts = self._statements(original_node.body, updated_node.body)
        if parts is None:
            return updated_node
        if not parts:
            return cst.RemoveFromParent() if not updated_node.leading_lines else updated_node.with_changes(body=[])
        if len(original_node.body) > 1:
            return updated_node.with_changes(body=_joined(parts))
        first, *others = (cst.SimpleStatementLine([part]) for part in parts)
        comments = updated_node.leading_lines, updated_node.trailing_whitespace
        first = first.with_changes(leading_lines=comments[0], trailing_whitespace=comments[1])
        return cst.FlattenSentinel([first, *others])

    def leave_SimpleStatementSuite(
        self, original_node: cst.SimpleStatementSuite, updated_node: cst.SimpleStatementSuite
    ) -> cst.SimpleStatementSuite:
        """Writes the statements that an import becomes, all on the line of its block."""
        parts = self._statements(original_node.body, updated_node.body)
        return updated_node if parts is None else updated_node.with_changes(body=_joined(parts or [cst.Pass()]))

    def leave_IndentedBlock(self, original_node: cst.IndentedBlock, updated_node: cst.IndentedBlock) -> Any:
        """Keeps a block that has lost its only statement."""
        if updated_node.body or not original_node.body:
            return updated_node
        return updated_node.with_changes(body=[cst.SimpleStatementLine([cst.Pass()])])

    def _statements(
        self, originals: Sequence[cst.BaseSmallStatement], updated: Sequence[cst.BaseSmallStatement]
    ) -> list[cst.BaseSmallStatement] | None:
        if not any(node in self.plan.statements for node in originals):
            return None
        parts: list[cst.BaseSmallStatement] = []
        for before, now in zip(originals, updated, strict=True):
            if isinstance(before, cst.Import | cst.ImportFrom) and before in self.plan.statements:
                parts += self._import(before, now)
            else:
                parts.append(now)
        return parts

    def _import(self, before: Import, now: Any) -> list[cst.BaseSmallStatement]:
        if isinstance(before, cst.ImportFrom) and isinstance(before.names, cst.ImportStar):
            return self._star(before, now)
        assert not isinstance(before.names, cst.ImportStar)
        kept: list[cst.ImportAlias] = []
        groups: dict[str, list[cst.ImportAlias]] = collections.defaultdict(list)
        made: list[str] = []
        for alias, found, binding in self.plan.targets(before):
            if found.why == "other":
                kept.append(alias)
            elif found.kind == "missing":
                kept.append(alias)
                self.plan.report(self.plan.lines[before], _name(before, alias), found.why)
            elif found.kind == "name":
                groups[found.module].append(_renamed(alias, found))
                self.plan.need_package(found.module)
            else:
                assert binding is not None
                keep = self._module(before, alias, binding, made, groups)
                kept += [alias] if keep else []
        needed = [text for text in self.plan.needed[before] if text not in made]
        statements: list[cst.BaseSmallStatement] = []
        if len(groups) == 1 and not kept and not made:
            (module, aliases), *_ = groups.items()
            statements.append(_from(now, module, aliases))
        else:
            statements += [_from(now, module, aliases) for module, aliases in groups.items()]
        statements += [_small(text) for text in [*made, *needed]]
        if kept:
            same = len(kept) == len(before.names)
            rest = (
                now if same else now.with_changes(names=_ended(kept, isinstance(now, cst.Import) or now.lpar is None))
            )
            statements.append(rest)
        return statements

    def _module(
        self,
        before: Import,
        alias: cst.ImportAlias,
        binding: Binding,
        made: list[str],
        groups: dict[str, list[cst.ImportAlias]],
    ) -> bool:
        """Plans the import of a module, and returns whether the old one has to stay."""
        main = self.plan.main[binding]
        if binding.whole or main is None:
            if binding.kept:
                return True
            if not self.plan.needed[before] and binding not in self.plan.idle:
                self.plan.need(before, main_place(binding.asked) or "fx_core")
            return False
        self.plan.need_package(main)
        parent, _, last = main.rpartition(".")
        name = bound_name(alias)
        if parent and isinstance(before, cst.ImportFrom):
            asname = None if name == last else cst.AsName(cst.Name(name))
            groups[parent].append(alias.with_changes(name=cst.Name(last), asname=asname))
        else:
            made.append(f"import {main}" if name == main else f"import {main} as {name}")
        return False

    def _star(self, before: cst.ImportFrom, now: cst.ImportFrom) -> list[cst.BaseSmallStatement]:
        module = ".".join(dotted(before.module) or [])
        places = {place for place in shown_places(module) if not place.startswith("fx_core.typing")}
        if len(places) != 1:
            why = "a star import, whose names are in several modules of fx; import them by name"
            self.plan.report(self.plan.lines[before], f"{module}.*", why)
            return [now]
        (place,) = places
        self.plan.need_package(place)
        return [now.with_changes(module=cst.parse_expression(place))]


def _name(statement: Import, alias: cst.ImportAlias) -> str:
    base = dotted(statement.module) or [] if isinstance(statement, cst.ImportFrom) else []
    return ".".join([*base, *(dotted(alias.name) or [])])


def _renamed(alias: cst.ImportAlias, found: Found) -> cst.ImportAlias:
    """An alias of an object that may have another name in fx."""
    name = bound_name(alias)
    if found.name == name:
        return alias.with_changes(name=cst.Name(name), asname=alias.asname and None)
    same = (dotted(alias.name) or [""])[-1] == found.name
    asname = alias.asname if alias.asname is not None and same else cst.AsName(cst.Name(name))
    return alias.with_changes(name=cst.Name(found.name or ""), asname=asname)


def _from(now: Any, module: str, aliases: list[cst.ImportAlias]) -> cst.BaseSmallStatement:
    """A from-import of some names, in the style of the one that it replaces."""
    where: Any = cst.parse_expression(module)
    if not isinstance(now, cst.ImportFrom):  # `import flax.core.freeze` is no import of a module, but of nothing
        return cst.ImportFrom(module=where, names=_ended(aliases, True))
    if not isinstance(now.names, cst.ImportStar) and len(aliases) == len(now.names):
        return now.with_changes(module=where, names=aliases)
    return now.with_changes(module=where, names=_ended(aliases, now.lpar is None))


def _ended(aliases: list[cst.ImportAlias], bare: bool) -> list[cst.ImportAlias]:
    """The names of an import, without a comma behind the last where there are no parentheses."""
    if not bare:
        return aliases
    return [*aliases[:-1], aliases[-1].with_changes(comma=cst.MaybeSentinel.DEFAULT)]


def _joined(parts: Sequence[Any]) -> list[Any]:
    """Small statements of one line."""
    return [
        *(
            part.with_changes(semicolon=cst.Semicolon(whitespace_after=cst.SimpleWhitespace(" ")))
            for part in parts[:-1]
        ),
        parts[-1].with_changes(semicolon=cst.MaybeSentinel.DEFAULT),
    ]


def _small(text: str) -> cst.BaseSmallStatement:
    line = cst.parse_statement(text)
    assert isinstance(line, cst.SimpleStatementLine)
    return line.body[0]


def _code(node: cst.CSTNode) -> str:
    parts = dotted(node)
    return ".".join(parts) if parts else cst.Module([]).code_for_node(node)
