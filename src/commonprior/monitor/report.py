"""`runs/NAME/report.html`: a run in one file, for the scientist, the operator and the auditor."""

from __future__ import annotations

import importlib.metadata
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from commonprior.appendlog import write_whole
from commonprior.errors import RunError
from commonprior.monitor import _comparison as compared
from commonprior.monitor._costs import bytes_block, costs_of, swatch, time_block
from commonprior.monitor._guarantees import Privacy, privacy_block, privacy_sentence, record_block
from commonprior.monitor._html import EMPTY, Markup, element, join, paragraph, table
from commonprior.monitor._metrics import metric_of, target_label, target_unit
from commonprior.monitor._page import banner, page, tile
from commonprior.monitor._plots import MOST_DRAWN, MOST_NAMED, POINTS, Z90, curve_plot, prediction_plot
from commonprior.monitor._svg import SERIES
from commonprior.monitor._words import count, decimals, figure, fixed, listed, percent, power
from commonprior.task import TaskSpec

COLUMNS = {
    "costs": ("round", "measure", "value"),
    "curve": ("round", "site", "metric", "value"),
    "comparison": ("contestant", "shots", "metric", "mean", "low", "high", "tasks"),
    "predictions": ("task", "truth", "mean", "sd"),
}
"""What each table of a report must have; `comparison` may have difference, difference_low and difference_high too."""

_FOUR = 4


@dataclass(frozen=True, eq=False)
class ReportData:
    """Everything that a report says. A table that is None, or empty, is a part that the report says is missing.

    `epsilon` None (or not a finite number of at least 0) means that there is no guarantee; `budget` 0 that there is no
    limit. `insecure` is the sum's own sentence where it hides nothing, `stopped` why a run ended early. `head` and
    `prior` are in hex. `length` is how many numbers an update has. Differences in `comparison` are a contestant's less
    `reference`'s. `metric` chooses what leads; empty takes the usual one.
    """

    name: str
    recipe_toml: str
    spec: TaskSpec
    sites: tuple[str, ...]
    rounds_done: int
    rounds_planned: int
    unit: str
    epsilon: float | None
    delta: float
    budget: float = 0.0
    note: str = ""
    insecure: str = ""
    stopped: str = ""
    head: str = ""
    prior: str = ""
    audit: str = ""
    length: int | None = None
    costs: pd.DataFrame | None = None
    curve: pd.DataFrame | None = None
    comparison: pd.DataFrame | None = None
    predictions: pd.DataFrame | None = None
    reference: str = "federated"
    metric: str = ""

    def __post_init__(self) -> None:
        for name, columns in COLUMNS.items():
            frame: pd.DataFrame | None = getattr(self, name)
            missing = [column for column in columns if frame is not None and column not in frame]
            if frame is not None and missing:
                found = ", ".join(map(str, frame.columns)) or "none"
                raise RunError(f"{self.name}: {name} has no column {missing[0]!r} (it has {found}); the report needs "
                               f"{', '.join(columns)}: run the command again that wrote it")  # fmt: skip

    @property
    def privacy(self) -> Privacy:
        """What the run has spent."""
        return Privacy(self.unit, self.epsilon, self.delta, self.budget)


def write_report(data: ReportData, path: Path) -> None:
    """Write a report, whole or not at all. The same data gives the same bytes."""
    write_whole(path, render(data))


def render(data: ReportData) -> bytes:
    """Return a report as a UTF-8 HTML document that needs nothing else."""
    standings = {} if data.comparison is None else compared.standings(data.comparison, data.reference, data.spec)
    lead = compared.leading(standings, data.metric)
    sections = {
        "Against the alternatives": _alternatives(standings, lead),
        "Predictions against truth": _predictions(data),
        "Learning curve": _curve(data),
        "Privacy": privacy_block(data.privacy, data.insecure),
        "Time and bytes": _costs(data),
        "The record": record_block(data.name, data.head, data.prior, data.audit, data.sites),
        "The recipe": _recipe(data),
    }
    footer = f"commonprior {_version()}. One file, no script, nothing loaded from elsewhere."
    return page(data.name, _header(data, standings.get(lead, [])), sections, footer)


def _header(data: ReportData, leading: list[compared.Standing]) -> Markup:
    banners = [banner(data.note)] if data.note else []
    banners += [banner(data.insecure, True)] if data.insecure else []
    if data.stopped:
        banners.append(banner(f"The run ended early: {data.stopped}", True))
    elif data.rounds_done < data.rounds_planned:
        banners.append(banner(f"Not finished: {data.rounds_done:,} of {count(data.rounds_planned, 'round')} are done."))
    return element(
        "header", None, element("p", {"class": "kicker"}, "commonprior, report of a run"), element("h1", None, data.name),
        *banners, element("dl", {"class": "tiles"}, *_tiles(data, leading)), _summary(data, leading),
    )  # fmt: skip


def _tiles(data: ReportData, leading: list[compared.Standing]) -> list[Markup]:
    privacy = data.privacy
    few = len(data.sites) <= _FOUR
    tiles = [
        tile("Sites", f"{len(data.sites):,}", listed([_short(s) for s in data.sites]) if few else "named in the record"),
        tile("Rounds", f"{data.rounds_done:,}", f"of {data.rounds_planned:,} planned"),
        tile("Privacy", "no guarantee", "no noise was added") if privacy.spent is None else
        tile("Privacy spent", f"ε = {figure(privacy.spent)}", f"for each {privacy.unit}, at δ = {power(privacy.delta)}"),
    ]  # fmt: skip
    standing = leading[0] if leading else None
    if standing is None or standing.reference is None:
        return [*tiles, tile("Quality on new tasks", "–", "not compared yet")]
    outcome, other = compared.verdict_of(standing)
    beside = "nothing else was compared" if other is None else (
        f"{outcome} {compared.name_of(other.contestant)}, {fixed(other.mean, standing.places)}"
        if "wins" not in outcome else f"{outcome}: {fixed(other.mean, standing.places)}")  # fmt: skip
    unit = f" {standing.metric.unit}" if standing.metric.unit else ""
    title = f"{standing.metric.label}{f' in{unit}' if unit else ''}, {count(standing.shots, 'sample')}"
    return [*tiles, tile(title, fixed(standing.reference.mean, standing.places), beside, lead=True)]


def _summary(data: ReportData, leading: list[compared.Standing]) -> Markup:
    target, columns = data.spec.target, data.spec.columns
    what = f"which of {len(target.classes)} classes {target.name} is" if target.kind == "classification" else (
        target_label(data.spec))  # fmt: skip
    inputs = count(len(columns), "column") if columns else f"inputs of shape {' × '.join(map(str, data.spec.shape))}"
    learned = (f"A prior for predicting {what} from {inputs}, learned in common by {count(len(data.sites), 'site')} in "
               f"{count(data.rounds_done, 'round')}. No site showed its data.")  # fmt: skip
    good = [compared.sentences(standing) for standing in leading[:3]]
    quality = join(*[paragraph(element("strong", None, verdict), " ", figures) for verdict, figures in good])
    return element(
        "dl", {"class": "summary"},
        element("dt", None, "Prior"), element("dd", None, paragraph(learned)),
        element("dt", None, "Privacy"), element("dd", None, paragraph(privacy_sentence(data.privacy, data.insecure))),
        element("dt", None, "Quality"), element("dd", None, quality or compared.missing_note()),
    )  # fmt: skip


def _alternatives(standings: dict[str, list[compared.Standing]], lead: str) -> Markup:
    if not lead:
        return compared.missing_note()
    found = standings[lead]
    span = compared.span_of(found)
    blocks = [compared.standing_block(s, span, f"d{n}-") for n, s in enumerate(found)]
    others = [
        join(element("h3", None, f"{s.metric.label}, {count(s.shots, 'sample')}"), compared.standing_table(s, s.rows))
        for name, of_metric in standings.items() if name != lead for s in of_metric
    ]  # fmt: skip
    folded = element("details", None, element("summary", None, "The other metrics"), *others) if others else EMPTY
    return join(*blocks, compared.notes(found), folded)


def _predictions(data: ReportData) -> Markup:
    if data.spec.target.kind == "classification":
        return EMPTY
    if data.predictions is None or data.predictions.empty:
        return compared.missing_note()
    frame = data.predictions
    numbers = frame[["truth", "mean", "sd"]].to_numpy(float)
    kept = frame[np.isfinite(numbers).all(1) & (numbers[:, 2] >= 0)]
    if kept.empty:
        return paragraph("None of the predictions is a finite number.")
    inside = float(((kept["truth"] - kept["mean"]).abs() <= Z90 * kept["sd"]).mean())
    error = math.sqrt(float(((kept["truth"] - kept["mean"]) ** 2).mean()))
    drawn = f" {MOST_DRAWN} of them are drawn." if len(kept) > MOST_DRAWN else ""
    label = target_unit(data.spec) or data.spec.target.name
    lost = f" {count(len(frame) - len(kept), 'row')} without finite numbers left out." if len(kept) < len(frame) else ""
    legend = element(
        "ul", {"class": "legend"},
        element("li", None, element("span", {"class": "dot round", "style": "--c:var(--accent)"}), "truth inside"),
        element("li", None, element("span", {"class": "dot turned", "style": "--c:var(--warn)"}), "truth outside"),
    )  # fmt: skip
    return element(
        "div", {"class": "side"}, element("figure", None, prediction_plot(kept, label, "p-")),
        element(
            "div", None, element("p", {"class": "large"}, f"{percent(inside)} of truths lie in the 90% interval"),
            paragraph(_judged(inside)), legend,
            element("p", {"class": "caption"}, f"{count(len(kept), 'prediction')} of {count(kept['task'].nunique(), 'task')}"
                    f" that nobody trained on: {data.spec.target.name}.{drawn} Bars are central 90% intervals; the dashed line is a perfect "
                    f"prediction. Root mean square error over all: {figure(error)}.{lost}"),
        ),
    )  # fmt: skip


def _judged(inside: float) -> str:
    if inside < 0.85:
        return "The intervals are too narrow: the prior is more confident than it should be."
    if inside > 0.95:
        return "The intervals are too wide: the prior is less confident than it could be."
    return "The prior's error bars can be believed."


def _curve(data: ReportData) -> Markup:
    frame = data.curve
    if frame is not None:
        frame = frame[np.isfinite(frame["value"].to_numpy(float)) & np.isfinite(frame["round"].to_numpy(float))]
        frame = frame.assign(site=frame["site"].astype(str), metric=frame["metric"].astype(str))
    if frame is None or frame.empty:
        return paragraph("No curve was recorded.")
    present = set(frame["site"])
    sites = [s for s in data.sites if s in present] + sorted(present - set(data.sites))
    names = list(dict.fromkeys(frame["metric"]))[:_FOUR]
    plots, words = [], []
    for number, name in enumerate(names):
        part = frame[frame["metric"] == name]
        plots.append(curve_plot(part, sites, metric_of(name, data.spec).axis, f"c{number}-"))
        words.append(_from_to(part))
    how = element("p", {"class": "caption"}, "Median over sites. Each site judges the prior on its own tasks."
                  + (f" A point is the mean of neighbouring rounds, at most {POINTS} points a line." if
                     frame["round"].nunique() > POINTS else ""))  # fmt: skip
    if len(names) == 1:
        beside = join(element("p", {"class": "large"}, words[0]), _legend(sites), how)
        return element("div", {"class": "side"}, element("figure", None, plots[0]), element("div", None, beside))
    panels = [
        element("figure", None, plot, element("figcaption", None, said))
        for plot, said in zip(plots, words, strict=True)
    ]  # fmt: skip
    return join(element("div", {"class": "panels"}, *panels), _legend(sites), how)


def _from_to(part: pd.DataFrame) -> str:
    middle = part.groupby("round")["value"].median()
    first, last = middle.index.min(), middle.index.max()
    places = decimals([], [float(middle.loc[first]), float(middle.loc[last])])
    ends = [f"{fixed(float(middle.loc[r]), places)} in round {int(r):,}" for r in dict.fromkeys((first, last))]
    return ", ".join(ends)


def _legend(sites: Sequence[str]) -> Markup:
    if len(sites) > MOST_NAMED:
        return element("p", {"class": "caption"}, f"Thin: each of {len(sites):,} sites. Bold: their median.")
    entries = [
        element("li", None, swatch(SERIES[number], number >= _FOUR), site) for number, site in enumerate(sites)
    ]  # fmt: skip
    return element("ul", {"class": "legend"}, *entries)


def _costs(data: ReportData) -> Markup:
    if data.costs is None or data.costs.empty:
        return paragraph("No costs were recorded.")
    costs, sites = costs_of(data.costs), len(data.sites)
    return join(
        element("h3", None, "Where the time went"), time_block(costs, sites),
        element("h3", None, "What moved"), bytes_block(costs, sites, data.length),
    )  # fmt: skip


def _recipe(data: ReportData) -> Markup:
    columns = [[c.name, c.kind, c.unit or "–"] for c in data.spec.columns]
    inputs = EMPTY
    if columns:
        inputs = element(
            "details", None, element("summary", None, f"The {count(len(columns), 'column')}"),
            table({"Column": "", "kind": "", "unit": ""}, columns, [""] * len(columns)),
        )  # fmt: skip
    written = element("details", None, element("summary", None, "recipe.toml"), element("pre", None, data.recipe_toml))
    return join(inputs, written)


def _short(name: str) -> str:
    return name if len(name) <= 24 else name[:23] + "…"


def _version() -> str:
    try:
        return importlib.metadata.version("commonprior")
    except importlib.metadata.PackageNotFoundError:
        return "(not installed)"
