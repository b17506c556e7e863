"""Where the time went, and how many bytes moved."""

from __future__ import annotations

import math
from types import MappingProxyType
from typing import NamedTuple

import pandas as pd

from commonprior.monitor._html import EMPTY, Markup, element, join, paragraph, table
from commonprior.monitor._plots import bar_plot
from commonprior.monitor._svg import MUTED, SERIES
from commonprior.monitor._words import count, figure, percent, seconds, size

WORK = MappingProxyType({
    "learning": "Learning",
    "protecting": "Protecting (clip and noise)",
    "masking": "Masking (the sum's work at sites)",
})  # fmt: skip
"""Seconds at the sites, by kind; every other `NAME.seconds` is a phase of the protocol."""

REST = "Network and rest"

FLOAT_BYTES = 4.0
"""What a number takes where 32-bit floats are averaged in the clear, each way."""

_COLOURS = (SERIES[0], SERIES[4], SERIES[2], MUTED)


class Costs(NamedTuple):
    """Totals of a run: seconds at the sites by kind, and (seconds, bytes up, bytes down) by phase, over `rounds`."""

    rounds: int
    work: dict[str, float]
    phases: dict[str, tuple[float, float, float]]

    @property
    def elapsed(self) -> float:
        """Seconds of all phases together."""
        return sum(seconds for seconds, _, _ in self.phases.values())

    @property
    def up(self) -> float:
        """Bytes from all sites."""
        return sum(up for _, up, _ in self.phases.values())

    @property
    def down(self) -> float:
        """Bytes to all sites."""
        return sum(down for _, _, down in self.phases.values())


def costs_of(frame: pd.DataFrame) -> Costs:
    """Return the totals of rows (round, measure, value); what is not a finite number counts for nothing."""
    work: dict[str, float] = {}
    phases: dict[str, list[float]] = {}
    for measure, value in zip(frame["measure"].astype(str), frame["value"].astype(float), strict=True):
        name, _, kind = measure.rpartition(".")
        if kind not in ("seconds", "up", "down") or not math.isfinite(value):
            continue
        if kind == "seconds" and name in WORK:
            work[name] = work.get(name, 0.0) + value
        else:
            phases.setdefault(name, [0.0, 0.0, 0.0])[("seconds", "up", "down").index(kind)] += value
    totals = {name: (amounts[0], amounts[1], amounts[2]) for name, amounts in phases.items() if any(amounts)}
    return Costs(len(set(frame["round"])), work, totals)


def time_block(costs: Costs, sites: int) -> Markup:
    """Return the seconds of learning, protecting, masking and the rest, as a bar and a table."""
    parts = {WORK[name]: costs.work[name] for name in WORK if name in costs.work}
    worked, elapsed = sum(parts.values()), costs.elapsed
    is_parallel = worked > elapsed
    if not is_parallel:
        parts[REST] = elapsed - worked
    whole = worked if is_parallel else elapsed
    if whole <= 0:
        return EMPTY
    colours = dict(zip([*WORK.values(), REST], _COLOURS, strict=True))
    rows = [
        [join(_spot(colours[name]), name), seconds(amount / costs.rounds), seconds(amount), percent(amount / whole)]
        for name, amount in parts.items()
    ]
    foot = ["All together", seconds(whole / costs.rounds), seconds(whole), percent(1.0)]
    header = {"": "", "a round": "number", "in all": "number", "share": "number"}
    bar = bar_plot({n: (a, colours[n]) for n, a in parts.items()}, "seconds", "time")
    if is_parallel:
        note = (f"Seconds at {count(sites, 'site')} added up. Sites work at the same time: the rounds themselves took "
                f"{seconds(elapsed)}.")  # fmt: skip
    else:
        note = f"Seconds by the clock, over {count(costs.rounds, 'round')}; what sites spend is added up over sites."
    return join(
        element("div", {"class": "bar"}, bar), table(header, rows, [""] * len(rows), foot),
        element("p", {"class": "caption"}, note),
    )  # fmt: skip


def bytes_block(costs: Costs, sites: int, length: int | None) -> Markup:
    """Return what moved, phase by phase and site by site, and how much that is for each number of an update."""
    if not costs.phases:
        return EMPTY
    each = costs.rounds * max(sites, 1)
    rows = [
        [name, seconds(spent / costs.rounds), size(up / each), size(down / each)]
        for name, (spent, up, down) in costs.phases.items()
    ]
    foot = ["All phases", seconds(costs.elapsed / costs.rounds), size(costs.up / each), size(costs.down / each)]
    header = {"Phase": "", "time": "number", "sent by a site": "number", "sent to a site": "number"}
    return join(
        _a_number(costs, each, length), table(header, rows, [""] * len(rows), foot),
        element("p", {"class": "caption"}, f"Means over {count(costs.rounds, 'round')}; bytes are for one site, "
                f"everything on the wire included. In all, {size(costs.up)} came from {count(sites, 'site')} and "
                f"{size(costs.down)} went to them."),
    )  # fmt: skip


def _spot(colour: str) -> Markup:
    variable = "muted" if colour == MUTED else f"s{SERIES.index(colour)}"
    return element("span", {"class": "swatch", "style": f"--c:var(--{variable})"})


def _a_number(costs: Costs, each: int, length: int | None) -> Markup:
    if not length:
        return EMPTY
    up, down = costs.up / each / length, costs.down / each / length
    return paragraph(
        element("strong", None, f"{size(costs.up / each)} up a site and round; float32 averaging: "
                f"{size(FLOAT_BYTES * length)}. "),
        f"For each of an update's {length:,} numbers a site sends ",
        element("strong", None, f"{figure(up)} bytes"), " and receives ",
        element("strong", None, f"{figure(down)} bytes"),
        f" a round, keys and signatures included. Averaging 32-bit floats in the clear takes {FLOAT_BYTES:.0f} bytes "
        f"each way: here it is {percent(up / FLOAT_BYTES)} of that up and {percent(down / FLOAT_BYTES)} down.",
    )  # fmt: skip
