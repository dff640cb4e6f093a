"""HTML pages that need nothing besides themselves, for reports: one look, light and dark, on screens and paper.

>>> page = html_page("A run", "<h1>A run</h1>", [Section("facts", "Facts", "<p>It ended.</p>")])
>>> page.startswith("<!DOCTYPE html>"), '<a href="#facts">Facts</a>' in page
(True, True)
"""

from fx_core.pages.page import Section, escaped, html_page, tile, tiles

__all__ = ["Section", "escaped", "html_page", "tile", "tiles"]
