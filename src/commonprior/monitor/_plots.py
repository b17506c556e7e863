"""The pictures of a report, drawn with matplotlib's Figure alone (no pyplot, no backend chosen, nothing kept)."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, StrMethodFormatter

from commonprior.monitor._html import Markup, clean
from commonprior.monitor._svg import ACCENT, INK, MUTED, SERIES, WARN, drawn
from commonprior.monitor._words import figure as written

MOST_NAMED = len(SERIES)
"""Up to so many sites each line has a colour and a name; beyond, the median stands out from thin lines."""

POINTS = 60
"""A curve is drawn through at most so many points, each the mean of neighbouring rounds."""

MOST_DRAWN = 500
"""Of more predictions than this, every n-th by its true value is drawn; figures are over all."""

Z90 = 1.6448536269514722
"""A Gaussian's central 90% lies within so many standard deviations."""

_DASHED = (4.0, 2.0)
_LONGEST = 34
_LINE = 58
_STEPS = (1, 2, 2.5, 5, 10)


class Dot(NamedTuple):
    """One row of a dot-and-interval plot; `low` and `high` are NaN where there is no interval."""

    label: str
    value: str
    mean: float
    low: float
    high: float
    is_reference: bool
    is_hollow: bool


def thinned(curve: pd.DataFrame) -> pd.DataFrame:
    """Return a curve (round, site, value) of at most `POINTS` points a site: means over equal spans of rounds."""
    rounds = curve["round"].to_numpy(float)
    first, last = rounds.min(), rounds.max()
    if len(np.unique(rounds)) <= POINTS:
        return curve
    span = np.minimum((rounds - first) * POINTS // (last - first), POINTS - 1)
    return curve.assign(span=span).groupby(["span", "site"], sort=True, as_index=False)[["round", "value"]].mean()


def curve_plot(curve: pd.DataFrame, sites: Sequence[str], label: str, prefix: str) -> Markup:
    """Return one metric (round, site, value; all finite) by round, a line a site, and the sites' median beyond eight."""
    curve = thinned(curve)
    lines = {site: group for site, group in curve.groupby("site", sort=False)}

    def draw(page: Figure) -> None:
        axes = page.add_subplot()
        for number, site in enumerate(s for s in sites if s in lines):
            line = lines[site].sort_values("round")
            few = len(lines) <= MOST_NAMED
            axes.plot(
                line["round"], line["value"], color=SERIES[number % MOST_NAMED] if few else MUTED,
                linewidth=1.7 if few else 0.6, alpha=1.0 if few else 0.45, marker="o" if len(line) == 1 else "",
                markersize=5, linestyle="solid" if number < 4 or not few else (0, _DASHED),
            )  # fmt: skip
        if len(lines) > MOST_NAMED:
            middle = curve.groupby("round")["value"].median() if len(curve) == curve["round"].nunique() * len(lines) else (
                _median(curve))  # fmt: skip
            axes.plot(middle.index, middle, color=ACCENT, linewidth=2.4, marker="o" if len(middle) == 1 else "")
        axes.set_xlabel("round")
        _named(axes, label)
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, steps=_STEPS))
        _scale(axes, curve["value"].to_numpy(float))

    return drawn(draw, (5.2, 3.3), f"{label} by round, {len(lines)} sites", prefix)


def dot_plot(rows: Sequence[Dot], label: str, span: tuple[float, float], prefix: str) -> Markup:
    """Return means with their intervals, a row a contestant, its name and figure above the dot."""

    def draw(page: Figure) -> None:
        axes = page.add_subplot()
        for y, row in enumerate(rows):
            colour = ACCENT if row.is_reference else INK
            if row.is_reference:
                axes.axvline(row.mean, color=ACCENT, linewidth=0.8, linestyle=(0, (1.0, 2.5)), zorder=0)
            if math.isfinite(row.low) and math.isfinite(row.high):
                axes.plot([row.low, row.high], [y, y], color=colour, linewidth=2.6 if row.is_reference else 1.4)
            axes.plot(
                [row.mean], [y], marker="o", markersize=7.5, markeredgewidth=1.4, markeredgecolor=colour, linestyle="",
                markerfacecolor="none" if row.is_hollow else colour,
            )  # fmt: skip
            weight = "bold" if row.is_reference else "normal"
            across = axes.get_yaxis_transform()
            name = clean(row.label)
            short = name if len(name) <= _LONGEST else name[: _LONGEST - 1] + "…"
            axes.text(0, y - 0.24, short, transform=across, color=colour, fontweight=weight)
            axes.text(1, y - 0.24, row.value, transform=across, color=colour, fontweight=weight, ha="right")
        axes.set(xlim=span, ylim=(len(rows) - 0.6, -0.75), xlabel=label)
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
        axes.xaxis.set_major_locator(_ticks())

    best = ", ".join(f"{row.label} {row.value}" for row in rows)
    return drawn(draw, (4.6, 0.55 + 0.5 * len(rows)), f"{label}: {best}", prefix)


def prediction_plot(table: pd.DataFrame, label: str, prefix: str) -> Markup:
    """Return truth against prediction with 90% intervals (truth, mean, sd; all finite); misses stand out by shape too."""
    if len(table) > MOST_DRAWN:
        order = table.sort_values(["truth", "mean", "sd"], kind="stable")
        table = order.iloc[np.linspace(0, len(order) - 1, MOST_DRAWN).round().astype(int)]
    truth, mean, half = (table[c].to_numpy(float) for c in ("truth", "mean", "sd"))
    half = half * Z90
    missed = np.abs(truth - mean) > half
    ends = np.concatenate([truth, mean])
    margin = 0.05 * float(np.ptp(ends)) or 1.0
    span = (float(ends.min()) - margin, float(ends.max()) + margin)
    faint = 0.75 if len(table) <= 100 else 0.4

    def draw(page: Figure) -> None:
        axes = page.add_subplot()
        axes.plot(span, span, color=MUTED, linewidth=0.8, linestyle=(0, _DASHED), zorder=1)
        for rows, colour, marker, size in ((~missed, ACCENT, "o", 3.6), (missed, WARN, "D", 3.6)):
            bars = [[(t, m - h), (t, m + h)] for t, m, h in zip(truth[rows], mean[rows], half[rows], strict=True)]
            axes.add_collection(LineCollection(bars, colors=colour, linewidths=0.8, alpha=faint * 0.6), autolim=False)
            axes.plot(truth[rows], mean[rows], marker, color=colour, markersize=size, alpha=faint, markeredgewidth=0)
        axes.set(xlim=span, ylim=span, xlabel=_wrapped(f"measured, {label}"), aspect="equal")
        _named(axes, f"predicted, {label}")
        axes.xaxis.set_major_locator(_ticks())
        axes.yaxis.set_major_locator(_ticks())

    return drawn(draw, (4.6, 4.3), f"predicted against measured {label}, {len(table)} predictions drawn", prefix)


def bar_plot(parts: Mapping[str, tuple[float, str]], label: str, prefix: str) -> Markup:
    """Return one bar of parts, each (amount, colour), without any text: the table beside it names them."""

    def draw(page: Figure) -> None:
        axes = page.add_subplot()
        start, gap = 0.0, 0.003 * sum(amount for amount, _ in parts.values())
        for amount, colour in parts.values():
            if amount > 0:
                axes.barh(0, max(amount - gap, amount * 0.2), left=start, height=1, color=colour, linewidth=0)
            start += amount
        axes.set(xlim=(0, start or 1), ylim=(-0.5, 0.5))
        axes.set_axis_off()
        page.set_layout_engine("none")
        axes.set_position((0, 0, 1, 1))

    shares = ", ".join(f"{name} {written(amount)}" for name, (amount, _) in parts.items())
    return drawn(draw, (9.0, 0.28), f"{label}: {shares}", prefix, stretched=True)


def _ticks() -> MaxNLocator:
    return MaxNLocator(5, steps=_STEPS)


def _named(axes: Axes, label: str) -> None:
    """Write what the vertical axis shows above it, where it can be read without turning one's head."""
    axes.set_title(_wrapped(label), loc="left", color=MUTED, pad=8)


def _wrapped(label: str) -> str:
    """Return a label in lines that a narrow figure holds."""
    return "\n".join(textwrap.wrap(clean(label), _LINE))


def _median(curve: pd.DataFrame) -> pd.Series:
    """Return the median over sites by round, where sites reported in different rounds."""
    return curve.assign(round=curve["round"].round()).groupby("round")["value"].median()


def _scale(axes: Axes, values: np.ndarray) -> None:
    """Take a logarithmic axis where a few early values would flatten all others; else a plain one."""
    low, high = values.min(), values.max()
    if low > 0 and high > 30 * low:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(10, subs=(1.0, 2.0, 5.0) if high < 2000 * low else (1.0,)))
        axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
    else:
        axes.yaxis.set_major_locator(_ticks())
