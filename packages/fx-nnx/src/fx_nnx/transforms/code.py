"""What the code of a function reads beside its arguments."""

import dis
import functools
from types import CodeType
from typing import NamedTuple

__all__ = ["Code", "code_of"]


class Code(NamedTuple):
    """What the code of a function reads.

    Attributes:
      globals: globals, each with the attributes that are read of it.
      variables: the same for variables of functions around.
      imports: the modules that it imports itself, with all names in it.
      names: all names in it.
    """

    globals: frozenset[tuple[str, ...]]
    variables: frozenset[tuple[str, ...]]
    imports: frozenset[tuple[str, tuple[str, ...]]]
    names: frozenset[str]


@functools.lru_cache(maxsize=4096)
def code_of(code: CodeType) -> Code:
    """Look at a function; the names of attributes are among those of its code, too."""
    chains: dict[bool, list[list[str]]] = {False: [], True: []}
    imports: set[tuple[str, tuple[str, ...]]] = set()
    chain: list[str] | None = None
    for step in dis.get_instructions(code):
        if step.opname in ("LOAD_GLOBAL", "LOAD_NAME") or "DEREF" in step.opname:
            chain = [step.argval]
            chains["DEREF" in step.opname].append(chain)
        elif step.opname in ("LOAD_ATTR", "LOAD_METHOD") and chain is not None:
            chain.append(step.argval)
        else:
            chain = None
            if step.opname == "IMPORT_NAME":
                imports.add((step.argval, code.co_names))
    inner = [code_of(part) for part in code.co_consts if isinstance(part, CodeType)]
    return Code(
        frozenset(map(tuple, chains[False])).union(*[part.globals for part in inner]),
        frozenset(map(tuple, chains[True])).union(*[part.variables for part in inner]),
        frozenset(imports).union(*[part.imports for part in inner]),
        frozenset(code.co_names).union(*[part.names for part in inner]),
    )
