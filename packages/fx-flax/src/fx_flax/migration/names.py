"""Which names of a program mean something of Flax: the imports that bind them, and where they are used."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import libcst as cst
from libcst import metadata

__all__ = ["Binding", "Names", "Use", "dotted"]


@dataclasses.dataclass(eq=False)
class Binding:
    """A name that stands for a module of Flax.

    Attributes:
      name: the name.
      module: what it stands for.
      whole: whether it is ``flax`` itself, bound by ``import flax.something``.
      statement: the import.
      asked: the module that the import names; that of ``import flax.linen`` is ``flax.linen``.
      uses: where it is used.
      kept: whether the import has to stay, since something of it could not be translated.
    """

    name: str
    module: str
    whole: bool
    statement: cst.CSTNode
    asked: str
    uses: "list[Use]" = dataclasses.field(default_factory=list)
    kept: bool = False


@dataclasses.dataclass(eq=False)
class Use:
    """A dotted name that begins with a bound name.

    Attributes:
      parts: what stands behind the bound name.
      nodes: the node of the bound name, and of each longer name.
      line: in the file.
    """

    parts: list[str]
    nodes: list[cst.BaseExpression]
    line: int


def dotted(node: cst.CSTNode | None) -> list[str] | None:
    """Returns the parts of a dotted name; None for other expressions."""
    parts: list[str] = []
    while isinstance(node, cst.Attribute):
        parts.append(node.attr.value)
        node = node.value
    return [node.value, *reversed(parts)] if isinstance(node, cst.Name) else None


def chain(node: cst.BaseExpression) -> list[cst.BaseExpression]:
    """Returns the nodes of a dotted name, shortest first."""
    nodes: list[cst.BaseExpression] = [node]
    while isinstance(nodes[-1], cst.Attribute):
        nodes.append(nodes[-1].value)
    return nodes[::-1]


class Names(cst.CSTVisitor):
    """Finds the bindings, by the imports, and the uses, by the scopes of a program.

    Args:
      modules: the bindings of each import statement that binds modules of Flax.

    Attributes:
      lines: of the imports.
      strings: the text literals, with their lines.
      calls: the calls, with their lines.
      annotated: annotations in the form of text that name Flax, and the expressions in them.
    """

    METADATA_DEPENDENCIES = (metadata.ScopeProvider, metadata.PositionProvider)

    def __init__(self, modules: dict[cst.CSTNode, list[Binding]]):
        super().__init__()
        self.modules = modules
        self.lines: dict[cst.Import | cst.ImportFrom, int] = {}
        self.strings: list[tuple[cst.SimpleString, int]] = []
        self.calls: list[tuple[cst.Call, int]] = []
        self.annotated: dict[cst.SimpleString, cst.BaseExpression] = {}
        self._annotations = 0

    def line(self, node: cst.CSTNode) -> int:
        """Line of a node."""
        position: Any = self.get_metadata(metadata.PositionProvider, node)
        return position.start.line

    def on_visit(self, node: cst.CSTNode) -> bool:
        """Records what a node is about; returns whether to look below it."""
        match node:
            case cst.Import() | cst.ImportFrom():
                self.lines[node] = self.line(node)
                return False
            case cst.Attribute() | cst.Name():
                parts = dotted(node)
                if parts is None:
                    node.value.visit(self)  # pyright: ignore[reportAttributeAccessIssue]
                else:
                    self._use(parts, node)
                return False
            case cst.Arg():
                node.value.visit(self)  # the keyword is no name that is looked up
                return False
            case cst.Param():
                for part in (node.annotation, node.default):
                    if isinstance(part, cst.CSTNode):
                        part.visit(self)
                return False
            case cst.Call():
                self.calls.append((node, self.line(node)))
            case cst.SimpleString():
                if self._annotations > 0 and isinstance(node.evaluated_value, str):
                    self._string(node, node.evaluated_value)
                self.strings.append((node, self.line(node)))
            case _:
                self._annotations += _weight(node)
        return True

    def on_leave(self, original_node: cst.CSTNode) -> None:
        """Leaves an annotation."""
        self._annotations -= _weight(original_node)

    def _string(self, node: cst.SimpleString, text: str) -> None:
        """Uses in an annotation that is a string."""
        try:
            parsed = cst.parse_expression(text.strip())
        except cst.ParserSyntaxError:
            return
        used = False
        for parts, inner in _dotted_names(parsed):
            use = Use(parts[1:], chain(inner), self.line(node))
            for binding in self._bindings(parts[0], node):
                binding.uses.append(use)
                used = True
        if used:
            self.annotated[node] = parsed

    def _use(self, parts: Sequence[str], node: cst.BaseExpression) -> None:
        nodes = chain(node)
        use = Use(list(parts[1:]), nodes, self.line(node))
        for binding in self._bindings(parts[0], nodes[0]):
            binding.uses.append(use)

    def _bindings(self, name: str, node: cst.CSTNode) -> Iterator[Binding]:
        scope: Any = self.get_metadata(metadata.ScopeProvider, node, None)
        if scope is None:
            return
        for assignment in scope[name]:
            if isinstance(assignment, metadata.ImportAssignment):
                yield from (b for b in self.modules.get(assignment.node, ()) if b.name == name)


def _weight(node: cst.CSTNode) -> int:
    """How much a node makes text in it an annotation: what is in ``Literal[...]`` is none, wherever that stands."""
    if isinstance(node, cst.Subscript) and (dotted(node.value) or [""])[-1] == "Literal":
        return -1000
    return int(isinstance(node, cst.Annotation))


def _dotted_names(node: cst.CSTNode) -> Iterator[tuple[list[str], cst.BaseExpression]]:
    if isinstance(node, cst.Attribute | cst.Name):
        parts = dotted(node)
        if parts is not None:
            yield parts, node
            return
    for child in node.children:
        yield from _dotted_names(child)
