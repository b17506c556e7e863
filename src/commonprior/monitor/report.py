"""`runs/NAME/report.html`: a run in one file, for the scientist, the operator and the auditor."""

from __future__ import annotations

import importlib.metadata
import shlex
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from commonprior.appendlog import write_whole
from commonprior.errors import RunError
from commonprior.monitor import _comparison as compared
from commonprior.monitor._costs import bytes_block, costs_of, time_block
from commonprior.monitor._curves import curve_block
from commonprior.monitor._guarantees import Privacy, privacy_block, privacy_sentence, record_block
from commonprior.monitor._html import EMPTY, Markup, element, join, paragraph, table
from commonprior.monitor._metrics import target_label
from commonprior.monitor._page import banner, page, tile
from commonprior.monitor._predictions import prediction_block
from commonprior.monitor._words import count, equal, figure, fixed, listed, power
from commonprior.task import TaskSpec

COLUMNS = {
    "costs": ("round", "measure", "value"),
    "curve": ("round", "site", "metric", "value"),
    "comparison": ("contestant", "shots", "metric", "mean", "low", "high", "tasks"),
    "predictions": ("task", "truth", "mean", "sd"),
}
"""What each table of a report must have; `comparison` may have difference, difference_low and difference_high too."""

_FEW = 4


@dataclass(frozen=True, eq=False)
class ReportData:
    """Everything that a report says. A table that is None, or empty, is a part that the report says is missing.

    `epsilon` None (or not a finite number of at least 0) means that there is no guarantee; `budget` 0 that there is no
    limit. `diversity` is what a survey found of the sites' tasks, `alike` whether they are so alike that no prior is
    needed. `trust` is the sum's sentence about whom a site must
    trust, `insecure` its own where it hides nothing, `stopped` why a run ended early. `head` and
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
    trust: str = ""
    stopped: str = ""
    head: str = ""
    prior: str = ""
    audit: str = ""
    ledger: str = ""
    diversity: str = ""
    calibration: str = ""
    alike: bool = False
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
        "Learning curve": curve_block(data.curve, data.sites, data.spec),
        "Privacy": privacy_block(data.privacy, data.insecure, data.trust),
        "Time and bytes": _costs(data),
        "The record": record_block(data.name, data.head, data.prior, data.audit, data.sites, data.ledger),
        "The recipe": _recipe(data),
    }
    footer = f"commonprior {_version()}. One file, no script, nothing loaded from elsewhere."
    return page(data.name, _header(data, standings.get(lead, [])), sections, footer)


def _header(data: ReportData, leading: list[compared.Standing]) -> Markup:
    banners = [banner(data.note)] if data.note else []
    banners += [banner(data.insecure, True)] if data.insecure else []
    if data.alike:
        banners.append(banner(f"Perhaps no case for a prior: {data.diversity}", True))
    if data.stopped:
        banners.append(banner(f"The run ended early: {data.stopped}", True))
    elif data.rounds_done < data.rounds_planned:
        done = f"{data.rounds_done:,} of {count(data.rounds_planned, 'round')}"
        banners.append(banner(f"Not finished: {done} are done."))
    return element(
        "header", None,
        element("p", {"class": "kicker"}, "commonprior, report of a run"), element("h1", None, data.name), *banners,
        element("dl", {"class": "tiles"}, *_tiles(data, leading)), _summary(data, leading),
    )  # fmt: skip


def _tiles(data: ReportData, leading: list[compared.Standing]) -> list[Markup]:
    privacy, spent = data.privacy, data.privacy.spent
    names = listed([_short(s) for s in data.sites]) if len(data.sites) <= _FEW else "named in the record"
    delta = equal("δ", power(privacy.delta))
    tiles = [
        tile("Sites", f"{len(data.sites):,}", names),
        tile("Rounds", f"{data.rounds_done:,}", f"of {data.rounds_planned:,} planned"),
        tile("Privacy", "no guarantee", "no noise was added") if spent is None else
        tile("Privacy spent", equal("ε", figure(spent)), f"for each {privacy.unit}, at {delta}"),
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
               f"{count(data.rounds_done, 'round')}. The data stayed at the sites.")  # fmt: skip
    good = [compared.sentences(standing) for standing in leading[:3]]
    quality = join(*[paragraph(element("strong", None, verdict), " ", figures) for verdict, figures in good])
    return element(
        "dl", {"class": "summary"},
        element("dt", None, "Prior"), element("dd", None, paragraph(learned)),
        element("dt", None, "Privacy"), element("dd", None, paragraph(privacy_sentence(data.privacy, data.insecure))),
        element("dt", None, "Tasks"), element("dd", None, paragraph(_diversity(data))),
        *_intervals(data.calibration),
        element("dt", None, "Quality"), element("dd", None, quality or compared.missing_note()),
    )  # fmt: skip


def _intervals(told: str) -> list[Markup]:
    if not told:
        return []
    return [element("dt", None, "Intervals"), element("dd", None, paragraph(f"{told[0].upper()}{told[1:]}."))]


def _diversity(data: ReportData) -> Markup:
    if data.diversity:
        return join(f"Asked of the sites, in secret: {data.diversity}.")
    return join(
        "Nobody has asked the sites yet whether their tasks differ enough for a prior to pay: ",
        element("code", None, f"commonprior survey {shlex.quote(f'runs/{data.name}')}"), " does, under the same sum.",
    )  # fmt: skip


def _alternatives(standings: dict[str, list[compared.Standing]], lead: str) -> Markup:
    if not lead:
        return compared.missing_note()
    found = standings[lead]
    span = compared.span_of(found)
    blocks = [compared.standing_block(s, span, f"d{n}-") for n, s in enumerate(found)]
    others = [compared.titled_table(s) for name in standings if name != lead for s in standings[name]]
    if not others:
        return join(*blocks, compared.notes(found, span))
    folded = element("summary", None, "The other metrics"), element("div", {"class": "panels"}, *others)
    return join(*blocks, compared.notes(found, span), element("details", None, *folded))


def _predictions(data: ReportData) -> Markup:
    if data.spec.target.kind == "classification":
        return EMPTY
    if data.predictions is None or data.predictions.empty:
        return compared.missing_note()
    return prediction_block(data.predictions, data.spec)


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
