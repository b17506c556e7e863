"""A matplotlib figure as a piece of the page: inline SVG whose colours are the page's own, in light and in dark.

Figures are drawn in placeholder colours, one a role, and each placeholder becomes a CSS variable. Identifiers are
numbered anew, so that figures do not collide and the same data gives the same bytes.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable
from types import MappingProxyType
from xml.etree import ElementTree

import matplotlib
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from commonprior.monitor._html import Markup, clean

INK, MUTED, RULE, ACCENT, WARN = "#0101a0", "#0101a1", "#0101a2", "#0101a3", "#0101a4"
SERIES = tuple(f"#0101{n:02x}" for n in range(8))
"""One colour a line, by position: the page's --s0 to --s7, after Okabe and Ito (2008) for colour-blind eyes."""

_VARIABLES = MappingProxyType({
    INK: "var(--ink)", MUTED: "var(--muted)", RULE: "var(--rule)", ACCENT: "var(--accent)", WARN: "var(--warn)",
    **{colour: f"var(--s{n})" for n, colour in enumerate(SERIES)},
})  # fmt: skip

_STYLE = MappingProxyType({
    "svg.fonttype": "none", "text.parse_math": False, "axes.unicode_minus": True,
    "font.size": 10.0, "axes.titlesize": 10.0, "axes.labelsize": 10.0, "xtick.labelsize": 9.0, "ytick.labelsize": 9.0,
    "text.color": INK, "axes.labelcolor": MUTED, "axes.edgecolor": MUTED, "xtick.color": MUTED, "ytick.color": MUTED,
    "axes.spines.top": False, "axes.spines.right": False, "axes.linewidth": 0.7, "axes.axisbelow": True,
    "xtick.major.width": 0.7, "ytick.major.width": 0.7, "xtick.major.size": 3.0, "ytick.major.size": 3.0,
    "xtick.minor.size": 0.0, "ytick.minor.size": 0.0, "axes.formatter.useoffset": False, "axes.grid": False,
    "lines.linewidth": 1.6, "lines.solid_capstyle": "round", "axes.formatter.limits": (-4, 5),
    "figure.constrained_layout.use": True, "axes.xmargin": 0.03, "axes.ymargin": 0.06,
})  # fmt: skip

_XLINK = "{http://www.w3.org/1999/xlink}href"
_NUMBER = re.compile(r"-?\d+\.\d+(?:e-?\d+)?")
_GEOMETRY = ("d", "x", "y", "width", "height", "transform", "viewBox", "points")


def drawn(draw: Callable[[Figure], None], inches: tuple[float, float], label: str, prefix: str,
          stretched: bool = False) -> Markup:  # fmt: skip
    """Return what `draw` draws on a figure of this size, as SVG for people and (`label`) for screen readers.

    `prefix` starts every identifier and must be the figure's own on its page; `stretched` gives up the proportions
    for a height of the page's choice. A user's matplotlibrc changes nothing.
    """
    out = io.BytesIO()
    with matplotlib.rc_context(), warnings.catch_warnings():
        # The reader's browser has the glyphs that matplotlib's font, used for measuring only, lacks.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(dict(_STYLE))  # pyright: ignore[reportArgumentType, reportCallIssue]
        figure = Figure(figsize=inches)
        figure.patch.set_visible(False)
        draw(figure)
        for axes in figure.axes:
            axes.patch.set_visible(False)
        FigureCanvasSVG(figure).print_svg(out, metadata={"Date": None, "Creator": None})
    root = ElementTree.fromstring(out.getvalue())  # noqa: S314 (written three lines above)
    if stretched:
        root.set("preserveAspectRatio", "none")
    return Markup(_inline(root, label, prefix))


def is_dashed(number: int) -> bool:
    """Whether the line at this position is dashed: the second four of eight, so that colour is not all there is."""
    return number % len(SERIES) >= len(SERIES) // 2


def _inline(root: ElementTree.Element, label: str, prefix: str) -> str:
    names: dict[str, str] = {}
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag.endswith(("}metadata", "}style")):
                parent.remove(child)
    for node in root.iter():
        node.tag = node.tag.rpartition("}")[2]
        if node.tag == "g":
            node.attrib.pop("id", None)
        elif "id" in node.attrib:
            node.set("id", names.setdefault(node.attrib["id"], f"{prefix}{len(names)}"))
    for node in root.iter():
        _attributes(node, names)
        if node.tag != "text":
            node.text = None
        node.tail = "\n" if node.tag == "g" else None
    for name in ("width", "height", "version"):
        root.attrib.pop(name, None)
    root.set("role", "img")
    root.set("aria-label", clean(label))
    return ElementTree.tostring(root, "unicode")


def _attributes(node: ElementTree.Element, names: dict[str, str]) -> None:
    """Point references to the new identifiers, colours to the page's variables; round to a hundredth of a point."""
    if _XLINK in node.attrib:
        node.set("href", "#" + names[node.attrib.pop(_XLINK)[1:]])
    if "clip-path" in node.attrib:
        node.set("clip-path", f"url(#{names[node.attrib['clip-path'][5:-1]]})")
    for name in _GEOMETRY:
        if name in node.attrib:
            rounded = _NUMBER.sub(lambda m: f"{float(m[0]):.2f}".rstrip("0").rstrip("."), node.attrib[name])
            node.set(name, " ".join(rounded.split()))
    if node.attrib.get("transform", "").startswith("rotate(-0 "):
        del node.attrib["transform"]
    if "style" in node.attrib:
        rules = [rule.strip() for rule in node.attrib["style"].split(";")]
        kept = [r for r in rules if r and not r.startswith("font-family")]
        node.set("style", ";".join(_themed(r) for r in kept))


def _themed(rule: str) -> str:
    name, _, value = rule.partition(":")
    return f"{name}:{_VARIABLES.get(value.strip(), value.strip())}"
