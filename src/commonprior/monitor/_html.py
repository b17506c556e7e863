"""HTML that cannot forget to escape: a string is text, and only `element` makes markup of it."""

from __future__ import annotations

import html
import unicodedata
from collections.abc import Mapping
from typing import final


@final
class Markup(str):
    """A string that is HTML already. Every other string is escaped when it becomes part of an element."""

    __slots__ = ()


EMPTY = Markup("")
"""Nothing at all, where a part is left out."""

_SCROLL = {"class": "scroll", "tabindex": "0", "role": "region", "aria-label": "table"}
_VOID = frozenset({"meta", "br"})
_NO_TEXT = frozenset({"Cc", "Cs", "Cn"})
_TURNING = frozenset({"LRE", "RLE", "PDF", "LRO", "RLO", "LRI", "RLI", "FSI", "PDI"})


def element(name: str, attributes: Mapping[str, str] | None = None, *children: str) -> Markup:
    """Return `<name …>children</name>`; attribute values and children that are not `Markup` are escaped."""
    written = "".join(f' {key}="{html.escape(clean(value))}"' for key, value in (attributes or {}).items())
    if name in _VOID:
        return Markup(f"<{name}{written}>")
    return Markup(f"<{name}{written}>{join(*children)}</{name}>")


def join(*children: str) -> Markup:
    """Return children one after the other, escaped unless they are `Markup`."""
    return Markup("".join(c if isinstance(c, Markup) else html.escape(clean(c)) for c in children))


def clean(text: str) -> str:
    """Return text that can be shown and encoded: controls, half surrogates and what turns text round become �."""
    return "".join(c if c in "\n\t" or not _is_hostile(c) else "\ufffd" for c in text)


def _is_hostile(character: str) -> bool:
    return unicodedata.category(character) in _NO_TEXT or unicodedata.bidirectional(character) in _TURNING


def paragraph(*children: str) -> Markup:
    """Return a paragraph."""
    return element("p", None, *children)


def table(
    header: Mapping[str, str], rows: list[list[str]], classes: list[str], foot: list[str] | None = None
) -> Markup:  # fmt: skip
    """Return a table that scrolls by itself where the page is narrow.

    `header` maps each column's name to its class ("number", or "" for text); `classes` are the rows', first cells are
    row headers.
    """
    kinds = list(header.values())
    head = [element("th", {"scope": "col", "class": kind}, name) for name, kind in header.items()]
    body = [element("tr", {"class": c}, *_cells(row, kinds)) for row, c in zip(rows, classes, strict=True)]
    parts = [element("thead", None, element("tr", None, *head)), element("tbody", None, *body)]
    if foot is not None:
        parts.append(element("tfoot", None, element("tr", None, *_cells(foot, kinds))))
    return element("div", _SCROLL, element("table", None, *parts))


def _cells(row: list[str], kinds: list[str]) -> list[Markup]:
    first, *others = row
    cells = [element("td", {"class": kind}, cell) for cell, kind in zip(others, kinds[1:], strict=True)]
    return [element("th", {"scope": "row"}, first), *cells]
