"""Names of Flax in text: annotations, modules that are imported by name, objects that tests patch."""

import re
from collections.abc import Callable

import libcst as cst

from fx_flax.migration.imports import ImportPlan
from fx_flax.migration.names import Names, dotted
from fx_flax.migration.places import main_place, resolve

__all__ = ["look_at_strings"]

_DOTTED = re.compile(r"flax(\.[A-Za-z_]\w*)+")
_OF_MODULES = {"import_module", "importorskip", "find_spec"}
_OF_OBJECTS = {"patch", "setattr"}


def look_at_strings(names: Names, plan: ImportPlan, report: Callable[..., None]) -> None:
    """Plans the change of text that names modules or objects of Flax, and report what stays.

    Args:
      names: what the program holds.
      plan: takes the changes.
      report: takes the line, the name and the reason of what is not translated.
    """
    done = {node: _annotation(node, parsed, plan) for node, parsed in names.annotated.items()}
    for call, line in names.calls:
        function = (dotted(call.func) or [""])[-1]
        first = call.args[0].value if call.args else None
        if function in _OF_MODULES | _OF_OBJECTS and isinstance(first, cst.SimpleString):
            text = first.evaluated_value
            if isinstance(text, str) and (text == "flax" or _DOTTED.fullmatch(text)):
                done[first] = _named(first, text, function in _OF_MODULES, line, plan, report)
    for node, line in names.strings:
        text = node.evaluated_value
        if node not in done and isinstance(text, str) and _DOTTED.fullmatch(text):
            report(line, text, "text that names Flax; change it where it is meant as a name of the program", "note")


def _annotation(node: cst.SimpleString, parsed: cst.BaseExpression, plan: ImportPlan) -> bool:
    """Plan the change of an annotation that is text."""

    class Inside(cst.CSTTransformer):
        def on_leave(self, original_node: cst.CSTNode, updated_node: cst.CSTNode) -> cst.CSTNode:
            text = plan.expressions.get(original_node)
            return updated_node if text is None else cst.parse_expression(text)

    changed = cst.Module([]).code_for_node(parsed.visit(Inside()))  # pyright: ignore[reportArgumentType]
    plan.expressions[node] = f"{node.prefix}{node.quote}{changed}{node.quote}"
    return True


def _named(
    node: cst.SimpleString, text: str, module: bool, line: int, plan: ImportPlan, report: Callable[..., None]
) -> bool:
    """Plan the change of text that is looked up: a module to import, or an object to patch."""
    parts = text.split(".")
    found = resolve("flax", parts[1:])
    rest = parts[1 + found.used :]
    if found.kind == "missing":
        report(line, text, found.why)
        return True
    place = main_place(found.module) if found.kind == "module" else ".".join([found.module, found.name or "", *rest])
    if place is None or (module and found.kind != "module"):
        report(line, text, "fx has no one module like it")
        return True
    if module:
        report(line, text, f"imported by name: {place} now; some of its names may be elsewhere", "note")
    plan.need_package(place)
    plan.expressions[node] = f"{node.prefix}{node.quote}{place}{node.quote}"
    return True
