"""The federated prior beside everything else: what the paired differences say, in words, tables and dots."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import pandas as pd

from commonprior.monitor._html import EMPTY, Markup, element, join, paragraph, table
from commonprior.monitor._metrics import HEADLINES, Metric, Verdict, metric_of
from commonprior.monitor._plots import Dot, dot_plot
from commonprior.monitor._words import count, decimals, fixed, interval, listed
from commonprior.task import TaskSpec

SHARING = frozenset({"pooled", "transfer"})
"""Contestants that need everybody's data in one place: a measure of what secrecy costs, not an alternative to it."""

MOST_SHOWN = 14
"""More contestants than this are cut to the best ones; the rest fold away."""

_REACH = 2.0
"""How far beyond the better half an axis may reach, in widths of the better half."""

_LABELS = {
    "federated": ("Federated prior", "the federated prior"),
    "pooled": ("Pooled data", "pooling all data in one place"),
    "transfer": ("Transfer from pooled data", "transfer learning from pooled data"),
    "random_forest": ("Random forest", "the random forest"),
    "single_task_gp": ("Gaussian process, one task", "a Gaussian process on each task alone"),
    "from_scratch": ("Network from scratch", "the same network trained from scratch"),
}


class Row(NamedTuple):
    """One contestant by one metric at one number of shots; differences are contestant less reference, task by task."""

    contestant: str
    shots: int
    metric: str
    mean: float
    low: float
    high: float
    tasks: int
    difference: float
    difference_low: float
    difference_high: float


class Standing(NamedTuple):
    """The rows of one metric at one number of shots, best first, and how they compare with the reference."""

    metric: Metric
    shots: int
    rows: tuple[Row, ...]
    reference: Row | None
    places: int

    def verdict(self, row: Row) -> Verdict:
        """Return how a contestant stands to the reference."""
        if row is self.reference:
            return ""
        return self.metric.verdict(row.difference, row.difference_low, row.difference_high)

    @property
    def best(self) -> Row | None:
        """The contestant with the best mean, where one way is better."""
        return self.rows[0] if self.metric.up and self.rows else None

    @property
    def alternatives(self) -> list[Row]:
        """What one would do otherwise without anyone's data, best first."""
        return [r for r in self.rows if r is not self.reference and r.contestant not in SHARING]

    @property
    def sharing(self) -> list[Row]:
        """What would need everybody's data, best first."""
        return [r for r in self.rows if r is not self.reference and r.contestant in SHARING]


def standings(comparison: pd.DataFrame, reference: str, spec: TaskSpec) -> dict[str, list[Standing]]:
    """Return, by metric and then by shots, who stands where. Rows without a finite mean are left out."""
    rows = [_row(record) for record in comparison.dropna(subset=["shots"]).to_dict("records")]
    out: dict[str, list[Standing]] = {}
    for name in dict.fromkeys(row.metric for row in rows):
        of_metric = [row for row in rows if row.metric == name and math.isfinite(row.mean)]
        places = decimals([r.high - r.low for r in of_metric], [r.mean for r in of_metric])
        metric = metric_of(name, spec)
        for shots in sorted({row.shots for row in of_metric}):
            here = [row for row in of_metric if row.shots == shots]
            if metric.up:
                here.sort(key=lambda r: -r.mean * metric.up)
            at = next((row for row in here if row.contestant == reference), None)
            out.setdefault(name, []).append(Standing(metric, shots, tuple(here), at, places))
    return out


def leading(found: dict[str, list[Standing]], chosen: str) -> str:
    """Return the metric that leads: the chosen one, else the first usual one that is there, else any; "" for none."""
    return next((name for name in (chosen, *HEADLINES, *found) if name in found), "")


def name_of(contestant: str) -> str:
    """Return what a contestant is called in a table."""
    return _LABELS[contestant][0] if contestant in _LABELS else _called(contestant)


def sentences(standing: Standing) -> tuple[str, str]:
    """Return what one number of shots says: who is ahead, and the figures behind it."""
    metric, at, places = standing.metric, standing.reference, standing.places
    opening = f"From {count(standing.shots, 'sample')} of a new task"
    if at is None:
        return f"{opening}: not compared.", "The federated prior is not among the contestants."
    unit = f" {metric.unit}" if metric.unit else ""
    figures = f"{metric.label} {fixed(at.mean, places)}{unit}{_range(at, places)} over {count(at.tasks, 'task')}"
    alternatives = standing.alternatives
    if not alternatives:
        verdict, figures = f"{opening}:", f"{figures}; no alternative was compared."
    else:
        best = alternatives[0]
        verdict = f"{opening}, {_verdict_phrase(standing, best)}."
        figures += f", against {fixed(best.mean, places)} for {_phrase(best.contestant)}: {_outcome(standing, best)}."
        others = [r for r in alternatives[1:] if standing.verdict(r) == "better"]
        if others:
            too = " as well" if standing.verdict(best) == "better" else ""
            names = listed([_phrase(r.contestant) for r in others])
            figures += f" Clearly ahead of the federated prior{too}: {names}."
    for row in standing.sharing[:1]:
        phrase = _phrase(row.contestant)
        figures += (f" {phrase[:1].upper()}{phrase[1:]}, which this run avoids, gives {fixed(row.mean, places)}: "
                    f"{_outcome(standing, row)}.")  # fmt: skip
    return verdict, figures


def verdict_of(standing: Standing) -> tuple[str, Row | None]:
    """Return the outcome against the best alternative in a few words, and that alternative."""
    if standing.reference is None or not standing.alternatives:
        return "", None
    best = standing.alternatives[0]
    verdict = standing.verdict(best)
    return {"better": f"{name_of(best.contestant)} wins", "worse": "ahead of", "no clear difference": "level with",
            "": "beside"}[verdict], best  # fmt: skip


def standing_block(standing: Standing, span: tuple[float, float], prefix: str) -> Markup:
    """Return one number of shots as a plot and a table."""
    shown = shortened(standing)
    dots = [
        Dot(name_of(r.contestant), fixed(r.mean, standing.places), r.mean, r.low, r.high, r is standing.reference,
            r.contestant in SHARING) for r in shown
    ]  # fmt: skip
    rest = [r for r in standing.rows if r not in shown]
    more = EMPTY
    if rest:
        folded = standing_table(standing, rest)
        more = element("details", None, element("summary", None, f"{count(len(rest), 'more contestant')}"), folded)
    return element(
        "div", {"class": "pair"},
        element("h3", None, f"From {count(standing.shots, 'sample')} of a new task"),
        element("figure", None, dot_plot(dots, standing.metric.axis, span, prefix)),
        join(element("div", None, standing_table(standing, shown), more)),
    )  # fmt: skip


def standing_table(standing: Standing, rows: Sequence[Row]) -> Markup:
    """Return the figures of one number of shots: the best is marked, and so is whoever is level with the reference."""
    metric, places = standing.metric, standing.places
    header = {"Contestant": "", f"{metric.label}{f', {metric.unit}' if metric.unit else ''}": "number",
              "difference to federated": "number"}  # fmt: skip
    cells, classes = [], []
    for row in rows:
        sharing = element("sup", None, "†") if row.contestant in SHARING else EMPTY
        tag = element("span", {"class": "tag"}, "best") if row is standing.best else EMPTY
        mean = _stacked(fixed(row.mean, places), interval(row.low, row.high, places))
        if row is standing.reference:
            paired = element("span", {"class": "quiet"}, "reference")
        else:
            signed = fixed(row.difference, places, sign=True)
            between = interval(row.difference_low, row.difference_high, places, sign=True)
            paired = _stacked(join(_mark(standing.verdict(row)), signed), between)
        cells.append([join(name_of(row.contestant), sharing, " ", tag), mean, paired])
        classes.append("reference" if row is standing.reference else "")
    return table(header, cells, classes)


def titled_table(standing: Standing) -> Markup:
    """Return all rows of a metric that does not lead, under its name."""
    title = element("h3", None, f"{standing.metric.label}, {count(standing.shots, 'sample')}")
    return element("div", None, title, standing_table(standing, standing.rows))


def notes(found: list[Standing], span: tuple[float, float]) -> Markup:
    """Return what one must know to read the tables."""
    metric = found[0].metric
    tasks = sorted({row.tasks for standing in found for row in standing.rows if row.tasks > 0})
    over = f"{tasks[0]:,}" if len(tasks) == 1 else f"{tasks[0]:,} to {tasks[-1]:,}" if tasks else "the"
    meaning = f"{metric.label}: {metric.meaning}. " if metric.meaning else ""
    sharing = any(standing.sharing for standing in found)
    hindsight = any("best alone" in row.contestant for standing in found for row in standing.rows)
    return element(
        "p", {"class": "caption"},
        f"{meaning}Means over {over} tasks that nobody trained on; everyone adapts to the same samples. Intervals are "
        "95%, Student's t over tasks. The difference is a contestant's less the federated prior's, task by task: where "
        "its interval includes 0 there is no clear difference, whatever the two means are. Differences between two "
        "other contestants are not tested, and intervals are not corrected for many comparisons."
        + (" An arrow: beyond the axis." if any(_is_beyond(r, span) for s in found for r in s.rows) else "")
        + (" † and hollow: needs everybody's data in one place." if sharing else "")
        + (" The best site alone was picked in hindsight." if hindsight else ""),
    )  # fmt: skip


def shortened(standing: Standing) -> list[Row]:
    """Return the rows to show at first sight: all, or the named contestants and the best of the others."""
    if len(standing.rows) <= MOST_SHOWN:
        return list(standing.rows)
    kept = [r for r in standing.rows if r is standing.reference or r.contestant in _LABELS]
    kept += [r for r in standing.rows if r not in kept][: max(0, MOST_SHOWN - len(kept))]
    return [r for r in standing.rows if r in kept]


def span_of(found: list[Standing]) -> tuple[float, float]:
    """Return one axis for all shots. Contestants far behind do not squeeze the others: an arrow stands for them."""
    core = [end for s in found for row in _core(s) for end in _ends(row)]
    width = max(core) - min(core) or abs(core[0]) or 1.0
    reach = min(core) - _REACH * width, max(core) + _REACH * width
    near = [e for s in found for row in shortened(s) for e in _ends(row) if reach[0] <= e <= reach[1]]
    low, high = min(near), max(near)
    margin = 0.04 * (high - low or width)
    return low - margin, high + margin


def _is_beyond(row: Row, span: tuple[float, float]) -> bool:
    return not span[0] <= row.mean <= span[1]


def _core(standing: Standing) -> list[Row]:
    half = standing.rows[: (len(standing.rows) + 1) // 2]
    return [r for r in standing.rows if r in half or r is standing.reference]


def _ends(row: Row) -> list[float]:
    return [end for end in (row.mean, row.low, row.high) if math.isfinite(end)]


def missing_note() -> Markup:
    """Return what stands where nothing was compared."""
    return paragraph("Not compared yet: run ", element("code", None, "commonprior evaluate"), " on this run.")


def _row(record: dict[str, object]) -> Row:
    def number(name: str) -> float:
        value = record.get(name)
        return float(value) if isinstance(value, int | float) and math.isfinite(value) else math.nan

    tasks = number("tasks")
    return Row(
        str(record["contestant"]), int(number("shots")), str(record["metric"]), number("mean"), number("low"),
        number("high"), 0 if math.isnan(tasks) else int(tasks), number("difference"), number("difference_low"),
        number("difference_high"),
    )  # fmt: skip


def _verdict_phrase(standing: Standing, best: Row) -> str:
    name = _phrase(best.contestant)
    return {
        "better": f"{name} wins",
        "worse": f"the federated prior beats the best alternative, {name}",
        "no clear difference": f"there is no clear difference to the best alternative, {name}",
        "": f"the federated prior stands beside {name}",
    }[standing.verdict(best)]


def _outcome(standing: Standing, row: Row) -> str:
    """Return how the federated prior stands to a contestant, from its own side."""
    verdict, places = standing.verdict(row), standing.places
    low, high = row.difference_low, row.difference_high
    if not verdict:
        return "neither is called better" if math.isfinite(low) else "their difference was not tested"
    if verdict == "no clear difference":
        return f"no clear difference (95% interval {fixed(low, places, sign=True)} to {fixed(high, places, sign=True)})"
    low, high = sorted((abs(low), abs(high)))
    sense = "worse" if verdict == "better" else "better"
    by = fixed(abs(row.difference), places)
    return f"{sense} by {by} (95% interval {fixed(low, places)} to {fixed(high, places)})"


def _stacked(value: str, between: str) -> Markup:
    return join(value, element("span", {"class": "between"}, between))


def _mark(verdict: Verdict) -> Markup:
    if not verdict:
        return EMPTY
    shape = {"better": "▲ ", "worse": "▼ ", "no clear difference": "≈ "}[verdict]
    return element("span", {"class": f"verdict {verdict.split(' ')[0]}"}, f"{shape}{verdict} ")


def _phrase(contestant: str) -> str:
    if contestant in _LABELS:
        return _LABELS[contestant][1]
    name = _called(contestant)
    return name if name == contestant else f"{'the ' if name.startswith('Best') else ''}{name[0].lower()}{name[1:]}"


def _called(contestant: str) -> str:
    if contestant.startswith("best alone "):
        return f"Best site alone {contestant.removeprefix('best alone ')}"
    return f"Site {contestant.removeprefix('alone ')} alone" if contestant.startswith("alone ") else contestant


def _range(row: Row, places: int) -> str:
    if not (math.isfinite(row.low) and math.isfinite(row.high)):
        return ""
    return f" (95% interval {fixed(row.low, places)} to {fixed(row.high, places)})"
