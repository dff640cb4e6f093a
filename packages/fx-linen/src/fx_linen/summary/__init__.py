"""Networks as tables: modules, shapes, variables, operations. Drawing them needs the extra ``fx-linen[summary]``."""

from fx_core.scope import MutableVariableDict, RNGSequences
from fx_core.typing import LogicalNames

from fx_linen.summary._render import render, tabulate
from fx_linen.summary._table import Row, Table, make_table

__all__ = [
    "LogicalNames",
    "MutableVariableDict",
    "RNGSequences",
    "Row",
    "Table",
    "make_table",
    "render",
    "tabulate",
]
