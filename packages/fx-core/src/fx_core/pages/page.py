"""The frame of a page: header, links, sections."""

import dataclasses
import html
import importlib.resources
import math
from collections.abc import Iterable, Sequence
from typing import Any

__all__ = ["Section", "escaped", "html_page", "tile", "tiles"]


@dataclasses.dataclass(frozen=True)
class Section:
    """A part of a page with a title of its own.

    Attributes:
      key: what links name it by.
      title: text.
      body: HTML.
      more: HTML beside the title.
    """

    key: str
    title: str
    body: str
    more: str = ""


def escaped(value: Any) -> str:
    """Returns a value as text in HTML.

    >>> escaped("<b>")
    '&lt;b&gt;'
    """
    return html.escape(str(value))


def html_page(title: str, header: str, sections: Iterable[Section], *, style: str = "", script: str = "") -> str:
    """Returns a page as HTML.

    Args:
      title: text, for the window.
      header: HTML, above the links to the sections.
      sections: those with a body are shown, in their order.
      style: CSS in addition to that of all pages.
      script: JavaScript, run at the end.
    """
    shown = [section for section in sections if section.body]
    common = (importlib.resources.files("fx_core.pages") / "page.css").read_text(encoding="utf-8")
    links = "".join(f'<a href="#{escaped(each.key)}">{escaped(each.title)}</a>' for each in shown)
    code = f"<script>{script}</script>" if script else ""
    return (
        f'<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><title>{escaped(title)}</title>'
        f'<link rel="icon" href="data:,"><style>{common}{style}</style></head><body><main>{header}'
        f"<nav>{links}</nav>{''.join(map(_section, shown))}</main>{code}</body></html>\n"
    )


def _section(section: Section) -> str:
    title = f"<h2>{escaped(section.title)}{section.more}</h2>"
    return f'<section id="{escaped(section.key)}">{title}{section.body}</section>'


def tile(name: str, value: str, note: str = "") -> str:
    """Returns a number with its name, for `tiles`.

    Args:
      name: text; it may break at ``_`` and ``/``.
      value: HTML.
      note: HTML in small letters below.
    """
    broken = escaped(name).replace("_", "_<wbr>").replace("/", "/<wbr>")
    return f'<div class="tile"><span>{broken}</span><b>{value}</b>{f"<small>{note}</small>" if note else ""}</div>'


def tiles(items: Sequence[str]) -> str:
    """Returns tiles in rows of equal length, six at most in each."""
    columns = math.ceil(len(items) / math.ceil(len(items) / 6)) if items else 1
    return f'<div class="tiles" style="--columns:{columns}">{"".join(items)}</div>' if items else ""
