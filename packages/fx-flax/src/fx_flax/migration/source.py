"""The text of a program, rewritten to import fx."""

import ast
import dataclasses
from typing import Literal

import libcst as cst
from libcst import metadata

from fx_flax.errors import UnreadableSourceError
from fx_flax.migration.imports import ImportPlan, of_flax
from fx_flax.migration.names import Names
from fx_flax.migration.rewriting import Rewriting
from fx_flax.migration.strings import look_at_strings

__all__ = ["Finding", "Migrated", "migrate_source"]


@dataclasses.dataclass(frozen=True, order=True)
class Finding:
    """Something that a person has to look at.

    Attributes:
      line: in the file, from 1.
      name: what it is about.
      why: what is the matter.
      kind: ``"left"`` is not translated; a ``"note"`` is, or need not be, but is worth a look.
    """

    line: int
    name: str
    why: str
    kind: Literal["left", "note"] = "left"


@dataclasses.dataclass(frozen=True)
class Migrated:
    """A program after `migrate_source`.

    Attributes:
      text: the new program.
      findings: what a person has to look at, by line.
      packages: the packages of fx that it imports because of the change.
    """

    text: bytes
    findings: tuple[Finding, ...] = ()
    packages: frozenset[str] = frozenset()


def migrate_source(text: bytes) -> Migrated:
    """Returns a program that imports fx where it imported Flax.

    Names are followed through scopes and aliases; comments and layout stay. What fx lacks is left as it is and
    reported. A second call changes nothing.

    Args:
      text: the program, in the encoding that it declares.

    Raises:
      UnreadableSourceError: it is no Python, or cannot be decoded.

    >>> program = "import flax.linen as nn\\nfrom flax.core import freeze  # dicts\\n\\nlayer = nn.Dense(3)\\n"
    >>> done = migrate_source(program.encode())
    >>> print(done.text.decode(), end="")
    import fx_linen as nn
    from fx_core import freeze  # dicts
    <BLANKLINE>
    layer = nn.Dense(3)
    """
    if b"flax" not in text:
        return Migrated(text)
    try:
        module = cst.parse_module(text)
    except (cst.ParserSyntaxError, SyntaxError, UnicodeDecodeError, LookupError) as error:
        raise UnreadableSourceError(_first_line(error)) from error
    wrapper = metadata.MetadataWrapper(module, unsafe_skip_copy=True)
    statements = of_flax(wrapper.module)
    names = Names({statement: bindings for statement, bindings in statements.items() if bindings})
    wrapper.visit(names)
    findings: list[Finding] = []

    def report(line: int, name: str, why: str, kind: Literal["left", "note"] = "left") -> None:
        finding = Finding(line, name, why, kind)
        if finding not in findings:
            findings.append(finding)

    plan = ImportPlan(statements, names.lines, report)
    look_at_strings(names, plan, report)
    changed = wrapper.module.visit(Rewriting(plan))
    # Only what a statement asks for is touched, so a program without a reason to change comes out as it went in.
    if changed.code == wrapper.module.code:
        return Migrated(text, tuple(sorted(findings)), frozenset())
    result = changed.bytes
    ast.parse(result)
    return Migrated(result, tuple(sorted(findings)), frozenset(plan.packages))


def _first_line(error: Exception) -> str:
    if isinstance(error, cst.ParserSyntaxError):
        return f"line {error.raw_line}: {error.message.splitlines()[0]}"
    return str(error).splitlines()[0]
