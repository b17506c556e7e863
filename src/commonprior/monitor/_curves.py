"""How each site did while the prior was learned."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from commonprior.monitor._html import Markup, element, join, paragraph
from commonprior.monitor._metrics import metric_of
from commonprior.monitor._plots import MOST_NAMED, Line, curve_plot
from commonprior.monitor._svg import SERIES, is_dashed
from commonprior.monitor._words import figure
from commonprior.task import TaskSpec

POINTS = 60
"""A line has at most so many points, each the mean of neighbouring rounds: noise hides what a reader looks for."""

MOST_PANELS = 4


class _Curve(NamedTuple):
    metric: str
    rounds: np.ndarray
    sites: np.ndarray
    values: np.ndarray


def curve_block(frame: pd.DataFrame | None, roster: Sequence[str], spec: TaskSpec) -> Markup:
    """Return a picture a metric of rows (round, site, metric, value), and who is who."""
    curves = [] if frame is None else _curves(frame)[:MOST_PANELS]
    if not curves:
        return paragraph("No curve was recorded.")
    present = {str(site) for curve in curves for site in curve.sites}
    names = [s for s in roster if s in present] + sorted(present - set(roster))
    plots = [
        curve_plot(_lines(curve, names), metric_of(curve.metric, spec).axis, f"c{number}-")
        for number, curve in enumerate(curves)
    ]
    how = "Median over sites. Each site judges the prior on its own tasks."
    if any(len(np.unique(curve.rounds)) > POINTS for curve in curves):
        how += f" A point is the mean of neighbouring rounds, at most {POINTS} points a line."
    below = join(_legend(names), element("p", {"class": "caption"}, how))
    if len(curves) == 1:
        beside = element("div", None, element("p", {"class": "large"}, _from_to(curves[0])), below)
        return element("div", {"class": "side"}, element("figure", None, plots[0]), beside)
    panels = [
        element("figure", None, plot, element("figcaption", None, _from_to(curve)))
        for plot, curve in zip(plots, curves, strict=True)
    ]
    return join(element("div", {"class": "panels"}, *panels), below)


def _curves(frame: pd.DataFrame) -> list[_Curve]:
    """Return one curve a metric, in order of appearance, of the rows whose numbers are finite."""
    rounds, values = (np.asarray(frame[name], np.float64) for name in ("round", "value"))
    sites, metrics = (np.asarray(frame[name].astype(str), object) for name in ("site", "metric"))
    finite = np.isfinite(rounds) & np.isfinite(values)
    out = []
    for metric in dict.fromkeys(metrics[finite]):
        rows = finite & (metrics == metric)
        out.append(_Curve(str(metric), rounds[rows], sites[rows], values[rows]))
    return out


def _lines(curve: _Curve, names: Sequence[str]) -> list[Line]:
    """Return a line a site, in the order of `names`, of at most `POINTS` means over equal spans of rounds."""
    rounds = curve.rounds
    if len(np.unique(rounds)) > POINTS:
        first, last = rounds.min(), rounds.max()
        span = np.minimum((rounds - first) * POINTS // (last - first), POINTS - 1)
        rounds = first + (span + 0.5) * (last - first) / POINTS
    lines = []
    for number, name in enumerate(names):
        here = curve.sites == name
        if here.any():
            at, which = np.unique(rounds[here], return_inverse=True)
            lines.append(Line(number, at, np.bincount(which, curve.values[here]) / np.bincount(which)))
    return lines


def _from_to(curve: _Curve) -> str:
    ends = {}
    for at in (curve.rounds.min(), curve.rounds.max()):
        ends[int(at)] = float(np.median(curve.values[curve.rounds == at]))
    return ", ".join(f"{figure(value)} in round {at:,}" for at, value in ends.items())


def _legend(names: Sequence[str]) -> Markup:
    if len(names) > MOST_NAMED:
        return element("p", {"class": "caption"}, f"Thin: each of {len(names):,} sites. Bold: their median.")
    entries = []
    for number, name in enumerate(names):
        kind = "swatch dashed" if is_dashed(number) else "swatch"
        spot = element("span", {"class": kind, "style": f"--c:var(--s{number % len(SERIES)})"})
        entries.append(element("li", None, spot, name))
    return element("ul", {"class": "legend"}, *entries)
