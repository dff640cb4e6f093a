"""The words of the documentation, as CONTRIBUTING.md asks for: run by `nox -s contracts`.

    python tools/words.py            # list what to write otherwise; exit code 1 if there is anything

Looked at: docstrings and messages of the packages, chapters, READMEs, fragments of changelogs. A docstring of a public
function begins with a verb in the third person ("Returns", "Applies"), or with "See"; that of a class does not; texts
are in American spelling and use the terms of the field.
"""

import argparse
import ast
import re
from collections.abc import Iterator
from pathlib import Path

import workspace

# Text to avoid, and what to write instead.
PHRASES = {
    r"draws the (kernel|bias|embedding|scale|table)s?\b": "initializer for the kernel, …",
    r"\brandom streams?\b": "RNG stream",
    r"\bstreams? of (PRNG )?keys\b": "RNG stream",
    r"\bboth faces\b": "Linen and NNX",
    r"\bgives? what Flax gives\b": "the same values as in Flax",
    r"\bwhat things are\b": "kinds, types",
    r"\b(told|tells?)\b": "says, returns, is called with, distinguishes, informs",
    r"\b[Nn]obody\b": "say what is not done",
    r"\b([Ss]ome|[Aa]ny)body\b": "user, program, process: say who",
    r"\bheeds?\b": "uses, follows",
    r"\b(two|both|both the|the|its) faces\b": "Linen and NNX",
    r"\bstands? still\b": "is constant, does not change",
    r"\bdr(aw|aws|awn) (from|its parameters|parameters|random)\b": "uses (an RNG stream), samples, initializes",
    r"\bdtype: to compute in\b": "dtype of the computation (default: inferred from …)",
}
BRITISH = re.compile(
    r"\b\w*(normalis|initialis|optimis|recognis|linearis|generalis|serialis|quantis|organis|summaris|vectoris|"
    r"regularis|specialis|materialis|minimis|maximis|synchronis|tokenis|categoris|customis|visualis|standardis|"
    r"canonicalis|memois|finalis|characteris|prioritis|colour|behaviour|neighbour|favour|labell|centred|artefact|"
    r"analyse|judgement|catalogue)\w*",
    re.IGNORECASE,
)
# First words of docstrings that say what to do instead of what is done, or name the result without a verb.
COMMANDS = frozenset(
    [
        "Add",
        "Allow",
        "Apply",
        "Attend",
        "Bind",
        "Build",
        "Call",
        "Cast",
        "Change",
        "Check",
        "Clear",
        "Collect",
        "Compare",
        "Compile",
        "Compute",
        "Convert",
        "Convolve",
        "Copy",
        "Count",
        "Create",
        "Declare",
        "Decode",
        "Define",
        "Describe",
        "Differentiate",
        "Do",
        "Drop",
        "Encode",
        "Evaluate",
        "Export",
        "Fetch",
        "Fill",
        "Find",
        "Flatten",
        "Fold",
        "Forget",
        "Get",
        "Give",
        "Import",
        "Initialize",
        "Insert",
        "Keep",
        "Leave",
        "Let",
        "Linearize",
        "List",
        "Load",
        "Lower",
        "Make",
        "Map",
        "Measure",
        "Merge",
        "Move",
        "Multiply",
        "Normalize",
        "Note",
        "Open",
        "Plan",
        "Print",
        "Put",
        "Quantize",
        "Read",
        "Record",
        "Reduce",
        "Register",
        "Remove",
        "Rename",
        "Repeat",
        "Replace",
        "Reset",
        "Reshape",
        "Restore",
        "Return",
        "Round",
        "Run",
        "Save",
        "Say",
        "Select",
        "Set",
        "Share",
        "Show",
        "Sort",
        "Split",
        "Store",
        "Take",
        "Tell",
        "Trace",
        "Transform",
        "Translate",
        "Turn",
        "Undo",
        "Unpack",
        "Update",
        "Use",
        "Wait",
        "Walk",
        "Warn",
        "Wrap",
        "Write",
        "Yield",
        "Whether",
    ]
)


def problems_of_source(file: Path) -> Iterator[tuple[int, str]]:
    """Yields line numbers and what to write otherwise in a Python file."""
    source = file.read_text()
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield from problems_of_text(node.value, node.lineno)
    for kind in ast.walk(tree):
        if isinstance(kind, ast.ClassDef) and not kind.name.startswith("_"):
            first = (ast.get_docstring(kind) or "-").split(maxsplit=1)[0].rstrip(".,:")
            if first in COMMANDS:
                yield kind.lineno, f"{kind.name}: the docstring begins with {first!r}: write 'A …', 'The …'"
    for function in public_functions(tree):
        text = ast.get_docstring(function) or ""
        first = text.split(maxsplit=1)[0].rstrip(".,:") if text else ""
        if first in COMMANDS:
            yield (
                function.lineno,
                f"{function.name}: the docstring begins with {first!r}: write 'Returns', 'Applies', …",
            )


def public_functions(tree: ast.Module) -> Iterator[ast.FunctionDef]:
    """Yields functions and methods with public names, but for commands, whose texts users of a terminal see."""
    waiting: list[ast.AST] = [tree]
    while waiting:
        for node in ast.iter_child_nodes(waiting.pop()):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                waiting.append(node)
            elif isinstance(node, ast.FunctionDef) and not node.name.startswith(("_", "test_", "pytest_")):
                decorators = " ".join(ast.unparse(decorator) for decorator in node.decorator_list)
                if "command" not in decorators and "group" not in decorators and "property" not in decorators:
                    yield node


def problems_of_text(text: str, first_line: int = 1) -> Iterator[tuple[int, str]]:
    """Yields line numbers and what to write otherwise in a text."""
    for number, line in enumerate(text.split("\n"), first_line):
        for phrase, instead in PHRASES.items():
            if found := re.search(phrase, line):
                yield number, f"{found[0]!r}: write {instead!r}"
        if found := BRITISH.search(re.sub(r"`[^`]+`", "", line)):
            yield number, f"{found[0]!r}: American spelling"


def main() -> int:
    """Check all texts."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    found: list[str] = []
    for package in workspace.packages().values():
        for file in sorted((package.path / "src").rglob("*.py")):
            found += [f"{file.relative_to(workspace.ROOT)}:{line}: {text}" for line, text in problems_of_source(file)]
    fragments = [file for p in workspace.packages().values() for file in (p.path / "changes").glob("*.md")]
    pages = [
        *fragments,
        *(workspace.ROOT / "docs").glob("*.md"),
        *(p.path / "README.md" for p in workspace.packages().values()),
    ]
    for page in sorted([*pages, workspace.ROOT / "README.md"]):
        lines = problems_of_text(page.read_text())
        found += [f"{page.relative_to(workspace.ROOT)}:{line}: {text}" for line, text in lines]
    print("\n".join(found))
    return 1 if found else 0


if __name__ == "__main__":
    raise SystemExit(main())
