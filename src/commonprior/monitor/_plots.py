"""The pictures of a report, drawn with matplotlib's Figure alone (no pyplot, no backend chosen, nothing kept)."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, StrMethodFormatter

from commonprior.monitor._html import Markup, clean
from commonprior.monitor._svg import ACCENT, INK, MUTED, SERIES, WARN, drawn, is_dashed
from commonprior.monitor._words import figure as written

MOST_NAMED = len(SERIES)
"""Up to so many sites each line has a colour and a name; beyond, the median stands out from thin lines."""

MOST_DRAWN = 500
"""Of more predictions than this, every n-th by its true value is drawn; figures are over all."""

Z90 = 1.6448536269514722
"""A Gaussian's central 90% lies within so many standard deviations."""

_DASHES = (4.0, 2.0)
_LONGEST = 34
_LINE = 58
_STEPS = (1, 2, 2.5, 5, 10)


class Line(NamedTuple):
    """One site's line: its place in the roster (which chooses the colour), rounds [n] in order and values [n]."""

    number: int
    rounds: np.ndarray
    values: np.ndarray


class Dot(NamedTuple):
    """One row of a dot-and-interval plot; `low` and `high` are NaN where there is no interval."""

    label: str
    value: str
    mean: float
    low: float
    high: float
    is_reference: bool
    is_hollow: bool


def curve_plot(lines: Sequence[Line], label: str, prefix: str) -> Markup:
    """Return values by round: a line a site, and the sites' median beyond `MOST_NAMED`."""
    many = len(lines) > MOST_NAMED

    def draw(page: Figure) -> None:
        axes = page.add_subplot()
        for number, rounds, values in lines:
            axes.plot(
                rounds, values, color=MUTED if many else SERIES[number % len(SERIES)], linewidth=0.6 if many else 1.7,
                alpha=0.45 if many else 1.0, marker="o" if len(rounds) == 1 else "", markersize=5,
                linestyle=(0, _DASHES) if is_dashed(number) and not many else "solid",
            )  # fmt: skip
        if many:
            rounds, values = _median(lines)
            axes.plot(rounds, values, color=ACCENT, linewidth=2.4, marker="o" if len(rounds) == 1 else "")
        ends = [end for line in lines for end in (line.rounds[0], line.rounds[-1])]
        if min(ends) == max(ends):
            axes.set_xlim(min(ends) - 1, max(ends) + 1)
        axes.set_xlabel("round")
        _named(axes, label)
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, steps=_STEPS))
        _scale(axes, np.concatenate([line.values for line in lines]))

    return drawn(draw, (5.2, 3.3), f"{label} by round, {len(lines)} sites", prefix)


def dot_plot(rows: Sequence[Dot], label: str, span: tuple[float, float], prefix: str) -> Markup:
    """Return means with their intervals, a row a contestant, its name and figure above the dot."""

    def draw(page: Figure) -> None:
        axes = page.add_subplot()
        for y, row in enumerate(rows):
            colour = ACCENT if row.is_reference else INK
            for reference in (other.mean for other in rows if other.is_reference):
                # In pieces, so that it does not run through the figures above the dots.
                axes.plot([reference] * 2, [y - 0.17, y + 0.24], color=ACCENT, linewidth=0.8, alpha=0.7, zorder=0)
            if math.isfinite(row.low) and math.isfinite(row.high):
                axes.plot([row.low, row.high], [y, y], color=colour, linewidth=2.6 if row.is_reference else 1.4)
            at = min(max(row.mean, span[0]), span[1])
            axes.plot(
                [at], [y], marker="o" if at == row.mean else "<" if at > row.mean else ">", linestyle="", clip_on=False,
                markersize=7.5, markeredgewidth=1.4, markeredgecolor=colour,
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


def prediction_plot(truth: np.ndarray, mean: np.ndarray, sd: np.ndarray, label: str, prefix: str) -> Markup:
    """Return truth [n] against prediction with 90% intervals, all finite; misses differ in shape too."""
    if len(truth) > MOST_DRAWN:
        order = np.lexsort((sd, mean, truth))[np.linspace(0, len(truth) - 1, MOST_DRAWN).round().astype(int)]
        truth, mean, sd = truth[order], mean[order], sd[order]
    half = sd * Z90
    missed = np.abs(truth - mean) > half
    ends = np.concatenate([truth, mean])
    margin = 0.05 * float(np.ptp(ends)) or 1.0
    span = (float(ends.min()) - margin, float(ends.max()) + margin)
    faint = 0.75 if len(truth) <= 100 else 0.4

    def draw(page: Figure) -> None:
        axes = page.add_subplot()
        axes.plot(span, span, color=MUTED, linewidth=0.8, linestyle=(0, _DASHES), zorder=1)
        for rows, colour, marker, size in ((~missed, ACCENT, "o", 3.6), (missed, WARN, "D", 3.6)):
            bars = [[(t, m - h), (t, m + h)] for t, m, h in zip(truth[rows], mean[rows], half[rows], strict=True)]
            axes.add_collection(LineCollection(bars, colors=colour, linewidths=0.8, alpha=faint * 0.6), autolim=False)
            axes.plot(truth[rows], mean[rows], marker, color=colour, markersize=size, alpha=faint, markeredgewidth=0)
        axes.set(xlim=span, ylim=span, xlabel=_wrapped(f"measured, {label}"), aspect="equal")
        _named(axes, f"predicted, {label}")
        axes.xaxis.set_major_locator(_ticks())
        axes.yaxis.set_major_locator(_ticks())

    return drawn(draw, (4.6, 4.3), f"predicted against measured {label}, {len(truth)} predictions drawn", prefix)


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
    return MaxNLocator(6, steps=_STEPS)


def _named(axes: Axes, label: str) -> None:
    """Write what the vertical axis shows above it, where it can be read without turning one's head."""
    axes.set_title(_wrapped(label), loc="left", color=MUTED, pad=8)


def _wrapped(label: str) -> str:
    """Return a label in lines that a narrow figure holds."""
    return "\n".join(textwrap.wrap(clean(label), _LINE))


def _median(lines: Sequence[Line]) -> tuple[np.ndarray, np.ndarray]:
    """Return the rounds and the median over the sites that have a value there."""
    rounds = np.concatenate([line.rounds for line in lines])
    values = np.concatenate([line.values for line in lines])
    at = np.unique(rounds)
    return at, np.array([np.median(values[rounds == r]) for r in at])


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
